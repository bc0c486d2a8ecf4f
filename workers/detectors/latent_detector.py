"""The detector that reads a codec's decoded latents. Letters in shapes as in `latents.py`."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from framevault.codecs.dicm.backbone import HEAD_STRIDE
from framevault.codecs.dicm.networks import LATENT_STRIDE
from framevault.codecs.layers.precision import fastest_dtype
from framevault.workers.detectors.base import SCORE_FLOOR, Detections, DetectorError
from framevault.workers.detectors.checkpoint import LatentDetectorConfig, load_latent_network
from framevault.workers.detectors.latents import LatentNetwork
from framevault.workers.detectors.mobilenet_v2 import set_precision
from framevault.workers.detectors.peaks import read_peaks


class LatentDetector:
    """Runs the network on latents and returns the boxes at the peaks of its heat map; thread-safe.

    Where the device multiplies bfloat16, it runs in that, in half the time; the last projections stay in float32.
    """

    backbone = "mobilenet_v2"
    """Whose features the codec carries."""

    def __init__(self, network: LatentNetwork, config: LatentDetectorConfig, *, device: str = "cpu") -> None:
        """Take a folded network; it is moved to the device, in the precision that is fastest there."""
        self._device = torch.device(device)
        self._dtype = fastest_dtype(self._device)
        self._network = network.to(self._device)
        set_precision(self._network, self._dtype, branches=(network.heat, network.distances))
        self._config = config

    @classmethod
    def from_checkpoint(cls, path: Path, *, name: str, device: str) -> Self:
        """Load a checkpoint.

        Raises:
            DetectorError: It is missing, damaged or another detector's.
        """
        network, config = load_latent_network(path, name=name)
        return cls(network, config, device=device)

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self._config.name

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can find; a detection's label is a position in this."""
        return self._config.labels

    @property
    def codec_weights(self) -> str:
        """Of the codec whose latents it reads; see `ReadsLatents.codec_weights`."""
        return self._config.codec_weights

    @torch.inference_mode()
    def __call__(
        self, features_nchw: Tensor, *, height: int, width: int, score_floor: float = SCORE_FLOOR
    ) -> list[Detections]:
        """Find the objects in frames of one size, given their latents [N, M, h, w]; see `Detector`."""
        self._check_latents(features_nchw, height=height, width=width)
        latents_nchw = features_nchw.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
        rows, columns = -(-height // HEAD_STRIDE), -(-width // HEAD_STRIDE)
        # Frames are padded to the latents' stride before they are coded; what is found there is nobody's.
        logits_nchw, log_distances_nchw = (
            maps_nchw[:, :, :rows, :columns] for maps_nchw in self._network(latents_nchw)
        )
        return read_peaks(
            logits_nchw,
            log_distances_nchw,
            height=height,
            width=width,
            score_floor=score_floor,
            nms_iou=self._config.nms_iou,
        )

    def _check_latents(self, latents_nchw: Tensor, *, height: int, width: int) -> None:
        expected = [self._config.latent_channels, -(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE)]
        if latents_nchw.dtype != torch.float32 or list(latents_nchw.shape[1:]) != expected:
            raise DetectorError(
                f"latents of frames of {width} x {height} pixels must be float32 [N, {', '.join(map(str, expected))}], "
                f"got {latents_nchw.dtype} {list(latents_nchw.shape)}"
            )
