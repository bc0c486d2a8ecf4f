"""Stage `pretrain`: backbone and RE learn by themselves, under a rate, what tells one picture from another.

MoCo v2 with ContrastiveCrop under DICM's loss (`codecs/dicm/pretraining.py`). Views are cut around the hot part of each
picture's heat map, which the momentum encoder draws anew a few times; until the first time they are cut anywhere.

The threads that draw batches are some steps ahead of the step that draws the maps, so the first few batches after it
still have the boxes from before; resumed just there, a training gets the new ones a few steps sooner.

Letters in shapes: N crops, P pictures, H and W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from framevault.codecs.checkpoint import save_checkpoint
from framevault.codecs.dicm.backbones.registry import BACKBONES
from framevault.codecs.dicm.pretraining import Contrast, ContrastConfig, SemanticEncoder
from framevault.codecs.dicm.redundancy import REDUNDANCY_ROWS, RedundancyElimination
from framevault.codecs.dicm.semantic_crops import CropConfig, heat_map, object_boxes, sample_crops, whole_pictures
from framevault.codecs.dicm.views import ViewConfig, vary
from framevault.configs.train import TrainDicmJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.backbone_parts import PARTS_CODEC
from framevault.pipeline.jobs.train.codec_start import make_density
from framevault.pipeline.jobs.train.crops import normalised
from framevault.pipeline.jobs.train.frozen_backbone import make_backbone
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State

RATE = 1e-4
"""Learning rate, if none is given: the backbone is tuned, not trained anew."""

MAPS_AT = (0.2, 0.4, 0.6, 0.8)
"""Shares of the training at which heat maps are drawn anew, as in ContrastiveCrop."""

QUEUE_KEYS = 65536
"""Negatives, as in MoCo; fewer where the training set has fewer pictures, or most would be a picture's own old keys."""

CROPS = CropConfig()
"""How views are cut."""

VIEWS = ViewConfig()
"""How far they differ."""


class PretrainStage:
    """Trains head, RE and the tail's stages as one encoder."""

    starts_from: Path | None = None
    """Nothing to compare with."""

    def __init__(self, setup: StageSetup[TrainDicmJob]) -> None:
        """Put the encoder together from the backbone that the later stages would have.

        Raises:
            CodecError: A file is missing, damaged or another's.
            PreflightError: There are no weights of the backbone's tail.
        """
        self._job = setup.job
        self._device = setup.device
        self._world = setup.world
        self._pictures = setup.pictures
        self._boxes_p4 = whole_pictures(len(setup.pictures))
        self._num_maps = 0
        self._contrast = self._make_contrast(setup).to(self._device)
        setup.world.copy_first([self._contrast])
        self._descent = Descent(
            [
                ParameterGroup(
                    parameters=tuple(p for p in self._contrast.encoder.parameters() if p.requires_grad),
                    learning_rate=self._job.learning_rate or RATE,
                    weight_decay=self._job.weight_decay,
                )
            ],
            clip_norm=self._job.clip_norm,
            world=setup.world,
            max_bad_steps=self._job.max_bad_steps,
        )

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Cut two views of each picture."""
        # Without repetition: a picture would be its own negative.
        numbers = rng.choice(len(pictures), size=self._job.batch_size, replace=False)
        views = []
        for _ in range(2):
            crops_n4 = sample_crops(self._boxes_p4[numbers], CROPS, rng=rng).numpy()
            cut = [
                cut_view(pictures.rgb_hwc[number], crop, side=self._job.crop)
                for number, crop in zip(numbers, crops_n4, strict=True)
            ]
            rgb_nchw = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).float() / 255
            views.append((vary(rgb_nchw, VIEWS, rng=rng) * 255).round().clamp(0, 255).byte())
        return Batch(views=tuple(views))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn to tell the batch's pictures from others."""
        self._draw_maps(progress)
        query_nchw, key_nchw = (normalised(view, self._device) for view in batch.views)
        losses = self._contrast(query_nchw, key_nchw)
        loss = losses.total().mean()
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._contrast.remember(losses.key_nd)
        return {
            "loss": float(loss.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "contrast": float(losses.contrast.detach().mean()),
            "rate_bpp": float(losses.redundancy.rate_bpp.detach().mean()),
            "features": float(losses.redundancy.features.detach().mean()),
        }

    def state_dict(self) -> State:
        """Return encoders, queue, optimiser and the pictures' boxes."""
        return {
            "contrast": dict(self._contrast.state_dict()),
            "descent": self._descent.state_dict(),
            "boxes": self._boxes_p4,
            "num_maps": self._num_maps,
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave; other processes' pictures get boxes of their own."""
        contrast, descent, boxes_p4, num_maps = (state[name] for name in ("contrast", "descent", "boxes", "num_maps"))
        assert isinstance(contrast, dict)
        assert isinstance(descent, dict)
        assert isinstance(boxes_p4, Tensor)
        assert isinstance(num_maps, int)
        self._contrast.load_state_dict(contrast)
        self._descent.load_state_dict(descent)
        self._num_maps = num_maps
        if self._world.is_first and len(boxes_p4) == len(self._pictures):
            self._boxes_p4 = boxes_p4
        elif num_maps:
            self._boxes_p4 = self._find_boxes()

    def export(self, path: Path) -> None:
        """Write the momentum encoder, the steadier of both: the backbone's parts, and RE with its density."""
        encoder = self._contrast.momentum_encoder
        assert isinstance(encoder.tail, _LastStage)
        parts = {
            "head": encoder.head,
            "tail": encoder.tail.stages,
            "redundancy": encoder.redundancy,
            "density": encoder.density,
        }
        tensors = {f"{name}.{key}": t for name, part in parts.items() for key, t in part.state_dict().items()}
        save_checkpoint(path, {name: tensor.cpu() for name, tensor in tensors.items()}, codec=PARTS_CODEC, config={})

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure nothing: what was learnt shows in the codec."""
        return []

    def _make_contrast(self, setup: StageSetup[TrainDicmJob]) -> Contrast:
        backbone = make_backbone(setup)
        if backbone.tail.tail is None:
            raise PreflightError("stage pretrain needs the backbone's weights: name their file with --backbone")
        config = ContrastConfig(queue=self._queue_keys())
        row = REDUNDANCY_ROWS[self._job.architecture]
        encoder = SemanticEncoder(
            head=backbone.head.requires_grad_(True),
            redundancy=RedundancyElimination(row),
            density=make_density(row.widths[-1]),
            tail=_LastStage(backbone.tail.tail.stages.requires_grad_(True)),
            last_channels=BACKBONES[self._job.architecture].stage_channels[-1],
            embedding=config.embedding,
        )
        return Contrast(encoder, config)

    def _queue_keys(self) -> int:
        """Return a multiple of the batch, which the queue must be."""
        batch = self._job.batch_size
        return max(1, min(QUEUE_KEYS, len(self._pictures)) // batch) * batch

    def _draw_maps(self, progress: float) -> None:
        """Draw the heat maps anew where it is time."""
        due = sum(progress >= share for share in MAPS_AT)
        if due > self._num_maps:
            self._num_maps = due
            self._boxes_p4 = self._find_boxes()

    def _find_boxes(self) -> Tensor:
        """Return the box of each picture's hot part, [P, 4]."""
        boxes = []
        for rgb_hwc in self._pictures.rgb_hwc:
            whole = cut_view(rgb_hwc, np.array([0, 0, 1, 1], np.float32), side=self._job.crop)
            rgb_nchw = torch.from_numpy(whole).permute(2, 0, 1)[None]
            heat_nhw = heat_map(self._contrast.last_features(normalised(rgb_nchw, self._device)))
            boxes.append(object_boxes(heat_nhw, CROPS.threshold))
        return torch.cat(boxes)


class _LastStage(nn.Module):
    """A tail's stages in a row; gives the last one's features alone."""

    def __init__(self, stages: nn.ModuleList) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, features_nchw: Tensor) -> Tensor:
        for stage in self.stages:
            features_nchw = stage(features_nchw)
        return features_nchw


def cut_view(rgb_hwc: NDArray[np.uint8], crop_4: NDArray[np.float32], *, side: int) -> NDArray[np.uint8]:
    """Return a part of a picture, uint8 [side, side, 3].

    Args:
        rgb_hwc: uint8 [H, W, 3].
        crop_4: Top, left, bottom and right as shares of the picture.
        side: Of the view.
    """
    height, width = rgb_hwc.shape[:2]
    top, left, bottom, right = (float(share) for share in crop_4)
    box = (left * width, top * height, max(right * width, left * width + 1), max(bottom * height, top * height + 1))
    picture = Image.fromarray(rgb_hwc)
    box = (min(box[0], width - 1), min(box[1], height - 1), min(box[2], width), min(box[3], height))
    return np.array(picture.resize((side, side), Image.Resampling.BILINEAR, box=box))
