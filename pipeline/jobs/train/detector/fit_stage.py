"""Stage `fit`: the shipped detector's network, tuned to labelled pictures on features that the codec decodes.

::

    pictures -> cuts, canvases [N, 3, S, S] -> half: head -> features; half: streams of random qualities -> features
        features [N, 24, S/4, S/4] -> detector's network -> heat and boxes against the targets

Head and codec are frozen. Letters in shapes: N canvases, S their side in pixels, C labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.dicm.backbone import HEAD_STRIDE
from framevault.configs.train_detector import TrainDetectorJob
from framevault.pipeline.jobs.train.detector.features import FeatureSource
from framevault.pipeline.jobs.train.detector.labels import LabelBook, read_labels
from framevault.pipeline.jobs.train.detector.measure import annotation_of, measure_detector
from framevault.pipeline.jobs.train.detector.start import relabel, use_plain_convolutions
from framevault.pipeline.jobs.train.optimisation import Descent, ParameterGroup, RunningAverage, cosine_rate
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.precision import choose_precision, reduced
from framevault.pipeline.jobs.train.stages import Batch, Row, StageSetup, State, as_mapping
from framevault.workers.detectors.augmentation import LabelledPicture, compose_canvas, vary_colours
from framevault.workers.detectors.checkpoint import load_network, save_detector
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork
from framevault.workers.detectors.peaks import PeakDetector
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, checkpoint_path
from framevault.workers.detectors.training import BOX_LOSS_WEIGHT, Targets, compute_losses, draw_targets

WARM_UP_STEPS = 50
"""Steps over which the learning rate grows: a start's networks are trained, and budgets of minutes have few steps."""


class FitStage:
    """Trains all of the detector's network, the backbone's tail more slowly."""

    def __init__(self, setup: StageSetup[TrainDetectorJob]) -> None:
        """Load start and codec, and pair the training pictures with their boxes.

        Raises:
            CodecError: The codec's checkpoint is missing, damaged or another's.
            DetectorError: The same of the detector's.
            PreflightError: The codec's features are of another backbone.
        """
        self._job, self._device, world = setup.job, setup.device, setup.world
        self._book = read_labels(Path(self._job.labels))
        path = checkpoint_path(DEFAULT_DETECTOR, weights=self._job.init)
        start, start_config = load_network(path, name=DEFAULT_DETECTOR)
        known = set(self._book.labels) <= set(start_config.labels)
        self.starts_from = path if known else None
        """The checkpoint that it began with, if that knows all labels."""
        self._config = replace(start_config, labels=self._book.labels)
        self._features = FeatureSource(self._job.weights, backbone=PeakDetector.backbone, device=self._device)
        self._network = relabel(start, start_config.labels, self._book.labels).train()
        use_plain_convolutions(self._network)
        self._network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        world.copy_first([self._network])
        self._average = RunningAverage(self._network, decay=self._job.average_decay)
        self._precision = choose_precision(self._job, self._device)
        self._descent = Descent(
            _groups(self._network, self._job),
            clip_norm=self._job.clip_norm,
            world=world,
            max_bad_steps=self._job.max_bad_steps,
            warm_up_steps=WARM_UP_STEPS,
        )
        self._pictures = _pair(setup.pictures, self._book)
        setup.say(_describe_labels(self._book, start_config.labels, self._pictures))

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Make canvases of random cuts, and the targets for them."""
        side = self._job.canvas
        canvases = [
            compose_canvas(
                lambda: self._pictures[rng.integers(len(self._pictures))],
                rng,
                height=side,
                width=side,
                mirrored_share=self._job.mirrored,
            )
            for _ in range(self._job.batch_size)
        ]
        rgb_nhwc = np.stack([vary_colours(canvas.rgb_hwc, rng) for canvas in canvases])
        targets = draw_targets(
            [canvas.annotation for canvas in canvases],
            len(self._book.labels),
            height=side // HEAD_STRIDE,
            width=side // HEAD_STRIDE,
        )
        return Batch(
            views=(
                torch.from_numpy(rgb_nhwc).permute(0, 3, 1, 2),
                targets.heat_nchw,
                targets.weights_nchw,
                targets.boxes_nchw,
                targets.box_weights_nhw,
            )
        )

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch, half of it decoded at random qualities."""
        rgb_nchw, *drawn = batch.views
        heat_nchw, weights_nchw, boxes_nchw, box_weights_nhw = (each.to(self._device) for each in drawn)
        targets = Targets(
            heat_nchw=heat_nchw, weights_nchw=weights_nchw, boxes_nchw=boxes_nchw, box_weights_nhw=box_weights_nhw
        )
        features_nchw = self._half_decoded(rgb_nchw)
        with reduced(self._device, self._precision):
            heat, boxes = compute_losses(self._network, features_nchw, targets)
        loss = heat + BOX_LOSS_WEIGHT * boxes
        descended = self._descent.step(loss, rate=cosine_rate(progress))
        if descended.is_finite:
            self._average.follow(self._network)
        return {
            "loss": float(loss.detach()),
            "heat": float(heat.detach()),
            "boxes": float(boxes.detach()),
            "gradient": descended.gradient_norm,
            "skipped_not_finite": float(not descended.is_finite),
            "skipped_outlier": float(descended.is_outlier),
        }

    def state_dict(self) -> State:
        """Return network, running average and optimiser."""
        return {
            "network": dict(self._network.state_dict()),
            "average": self._average.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave."""
        self._network.load_state_dict(as_mapping(state["network"]))
        self._average.load_state_dict(as_mapping(state["average"]))
        self._descent.load_state_dict(as_mapping(state["descent"]))

    def export(self, path: Path) -> None:
        """Write the running average as a checkpoint that `load_network` reads."""
        save_detector(path, self._average.module, self._config)

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Score what is found in real streams: a row a quality."""
        return [
            measure_detector(exported, pictures, self._book, self._features, quality=quality, device=self._device)
            for quality in qualities
        ]

    def _half_decoded(self, rgb_nchw: Tensor) -> Tensor:
        """Return features [N, 24, S/4, S/4]: of the first half decoded ones, one more in half of the odd batches."""
        num_decoded = (len(rgb_nchw) + int(torch.randint(2, ()))) // 2
        numbers = torch.randint(len(self._job.qualities), (num_decoded,)).tolist()
        decoded = [
            self._features.through_streams(rgb_nchw[n : n + 1], quality=self._job.qualities[number])[0]
            for n, number in enumerate(numbers)
        ]
        originals = [self._features.original(rgb_nchw[n : n + 1]) for n in range(num_decoded, len(rgb_nchw))]
        return torch.cat([*decoded, *originals]).contiguous(memory_format=torch.channels_last)


def _groups(network: DetectorNetwork, job: TrainDetectorJob) -> list[ParameterGroup]:
    """Return the backbone's tail, and all that lies behind it."""
    tail = tuple(network.tail.parameters())
    in_tail = set(map(id, tail))
    rest = tuple(each for each in network.parameters() if id(each) not in in_tail)
    rate, decay = job.learning_rate, job.weight_decay
    return [
        ParameterGroup(parameters=rest, learning_rate=rate, weight_decay=decay),
        ParameterGroup(parameters=tail, learning_rate=rate * job.tail_rate_factor, weight_decay=decay),
    ]


def _pair(pictures: PictureSet, book: LabelBook) -> list[LabelledPicture]:
    """Return the pictures with what is known of them."""
    return [
        LabelledPicture(
            rgb_hwc=rgb_hwc, annotation=annotation_of(book, name, width=rgb_hwc.shape[1], height=rgb_hwc.shape[0])
        )
        for name, rgb_hwc in zip(pictures.names, pictures.rgb_hwc, strict=True)
    ]


def _describe_labels(book: LabelBook, start: Sequence[str], pictures: Sequence[LabelledPicture]) -> str:
    """Say how many boxes each label has to learn from, and which are new."""
    counts = np.zeros(len(book.labels), int)
    for picture in pictures:
        np.add.at(counts, picture.annotation.labels_k, 1)
    texts = [
        f"{label} {count}{'' if label in start else ' (new)'}"
        for label, count in zip(book.labels, counts.tolist(), strict=True)
    ]
    left_out = len(set(start) - set(book.labels))
    return f"boxes to learn from: {', '.join(texts)}; {left_out} labels of the start are left out"
