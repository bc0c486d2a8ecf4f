"""Targets, losses and stand-in damage that train the detector's network.

Where pictures and labels come from is the caller's matter.

The targets and losses are TTFNet's (Liu et al., AAAI 2020, arXiv 1909.00700): a Gaussian as wide and as tall as 0.54 of
the object, a focal loss on it, and a generalised-IoU loss on the box that each position under the Gaussian predicts.
We differ in that each box carries a weight (a pseudo label's confidence) and that areas can be left out.

A training step: `compute_losses(network, degrade_features(features), draw_targets(annotations))`, then descend
heat + `BOX_LOSS_WEIGHT` x boxes.

Letters in shapes: N pictures, C labels, h and w positions at stride 4, K boxes, P positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from framevault.codecs.dicm.backbone import HEAD_STRIDE
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, boxes_from_distances

GAUSSIAN_SHARE = 0.54
"""Width of the Gaussian's support as a share of the object's (TTFNet, table 3)."""

BOX_LOSS_WEIGHT = 5.0
"""Weight of the boxes' loss against the heat's (TTFNet, section 4.1)."""

SURE_WEIGHT = 0.57
"""A box of less weight hides its area: there the network is not taught that nothing is there."""

FeatureDegrader = Callable[[Tensor], Tensor]
"""Makes features [N, 24, h, w] look as a codec would give them back; `degrade_features` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindArea:
    """A part of a picture where it is not known, or not quite, that some labels have no object."""

    first_label: int
    """The first label it holds for."""
    end_label: int
    """One after the last label it holds for."""
    box: tuple[int, int, int, int]
    """x_min, y_min, x_max, y_max in pixels."""
    weight: float
    """How much 'nothing here' still counts, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotation:
    """What is known about one picture."""

    boxes_k4: NDArray[np.float32]
    """x_min, y_min, x_max, y_max in pixels, inside the picture."""
    labels_k: NDArray[np.int64]
    """Number of each box's label."""
    weights_k: NDArray[np.float32]
    """How much each box counts, 0..1."""
    blind_areas: tuple[BlindArea, ...] = ()
    """Where 'nothing here' counts less."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What the network should say of a batch."""

    heat_nchw: Tensor
    """[N, C, h, w], 0..1, exactly 1 at objects' centres."""
    weights_nchw: Tensor
    """[N, C, h, w]: how much each position counts in the heat's loss."""
    boxes_nchw: Tensor
    """[N, 4, h, w]: the box in pixels that a position should predict."""
    box_weights_nhw: Tensor
    """[N, h, w]: 0 where no box is to be predicted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Canvas:
    """One picture's share of the targets' arrays, drawn into."""

    heat_chw: NDArray[np.float32]
    weights_chw: NDArray[np.float32]
    boxes_4hw: NDArray[np.float32]
    box_weights_hw: NDArray[np.float32]


def draw_targets(annotations: Sequence[Annotation], num_labels: int, *, height: int, width: int) -> Targets:
    """Draw the targets of pictures of `height` x `width` positions."""
    num = len(annotations)
    heat_nchw = np.zeros((num, num_labels, height, width), np.float32)
    weights_nchw = np.ones_like(heat_nchw)
    boxes_nchw = np.zeros((num, 4, height, width), np.float32)
    box_weights_nhw = np.zeros((num, height, width), np.float32)
    for annotation, *arrays in zip(annotations, heat_nchw, weights_nchw, boxes_nchw, box_weights_nhw, strict=True):
        heat_chw, weights_chw, boxes_4hw, box_weights_hw = arrays
        canvas = _Canvas(heat_chw=heat_chw, weights_chw=weights_chw, boxes_4hw=boxes_4hw, box_weights_hw=box_weights_hw)
        _draw_picture(annotation, canvas)
    return Targets(
        heat_nchw=torch.from_numpy(heat_nchw),
        weights_nchw=torch.from_numpy(weights_nchw),
        boxes_nchw=torch.from_numpy(boxes_nchw),
        box_weights_nhw=torch.from_numpy(box_weights_nhw),
    )


def _draw_picture(annotation: Annotation, canvas: _Canvas) -> None:
    """Draw the blind areas, then the boxes, large ones first: a small one in front keeps its positions."""
    for area in annotation.blind_areas:
        part = canvas.weights_chw[area.first_label : area.end_label][(slice(None), *_positions_below(area.box))]
        np.minimum(part, area.weight, out=part)
    areas_k = (annotation.boxes_k4[:, 2:] - annotation.boxes_k4[:, :2]).prod(axis=1)
    boxes = zip(annotation.boxes_k4, annotation.labels_k, annotation.weights_k, strict=True)
    largest_first = [box for _, box in sorted(zip(-areas_k, boxes, strict=True), key=lambda pair: float(pair[0]))]
    for box, label, weight in largest_first:
        if weight < SURE_WEIGHT:
            canvas.weights_chw[int(label)][_positions_below(box)] = 0
        _draw_bell(canvas, box, label=int(label), weight=float(weight))
    for box, label, weight in largest_first:  # last, so that no other box hides a centre
        row, column = _centre(canvas, box)
        canvas.heat_chw[int(label), row, column] = 1
        canvas.weights_chw[int(label), row, column] = weight


def _positions_below(box: Sequence[float] | NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns that a box in pixels touches."""
    x_min, y_min, x_max, y_max = (float(x) / HEAD_STRIDE for x in box)
    return (
        slice(max(int(y_min), 0), max(int(np.ceil(y_max)), 0)),
        slice(max(int(x_min), 0), max(int(np.ceil(x_max)), 0)),
    )


def _centre(canvas: _Canvas, box: NDArray[np.float32]) -> tuple[int, int]:
    """Return the row and column of a box's centre."""
    height, width = canvas.box_weights_hw.shape
    x, y = (box[:2] + box[2:]) / (2 * HEAD_STRIDE)
    return min(int(y), height - 1), min(int(x), width - 1)


def _draw_bell(canvas: _Canvas, box: NDArray[np.float32], *, label: int, weight: float) -> None:
    """Draw one object's Gaussian, and let the positions under it predict the object's box."""
    height, width = canvas.box_weights_hw.shape
    row, column = _centre(canvas, box)
    half_width, half_height = ((box[2:] - box[:2]) / (2 * HEAD_STRIDE) * GAUSSIAN_SHARE).astype(int)
    rows = np.arange(max(row - half_height, 0), min(row + half_height + 1, height))
    columns = np.arange(max(column - half_width, 0), min(column + half_width + 1, width))
    # A support of 2 half + 1 positions is six standard deviations wide.
    bell_hw = np.outer(
        np.exp(-0.5 * (6 * (rows - row) / (2 * half_height + 1)) ** 2),
        np.exp(-0.5 * (6 * (columns - column) / (2 * half_width + 1)) ** 2),
    ).astype(np.float32)
    where = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    heat_hw = canvas.heat_chw[label][where]
    np.maximum(heat_hw, bell_hw, out=heat_hw)
    if weight > 0:
        area = max(float((box[2:] - box[:2]).prod()), HEAD_STRIDE**2)
        canvas.boxes_4hw[(slice(None), *where)] = box[:, None, None]
        canvas.box_weights_hw[where] = weight * bell_hw * np.log(area) / bell_hw.sum()


def heat_loss(logits_nchw: Tensor, targets: Targets) -> Tensor:
    """Return the focal loss of CornerNet (arXiv 1808.01244, equation 1) with weights, for each object."""
    logits_nchw = logits_nchw.float()
    # softplus(x) = -log(1 - sigmoid(x))
    misses_nchw = F.softplus(logits_nchw) * logits_nchw.sigmoid().square() * (1 - targets.heat_nchw) ** 4
    is_centre_nchw = targets.heat_nchw == 1
    centre_logits_p, centre_weights_p = logits_nchw[is_centre_nchw], targets.weights_nchw[is_centre_nchw]
    hits_p = F.softplus(-centre_logits_p) * torch.sigmoid(-centre_logits_p).square() * centre_weights_p
    # At least 4, or a batch without objects would outweigh the others.
    num_objects = centre_weights_p.sum().clamp(min=4.0)
    return (hits_p.sum() + (misses_nchw * targets.weights_nchw).sum()) / num_objects


def box_loss(log_distances_nchw: Tensor, targets: Targets) -> Tensor:
    """Return the weighted mean of 1 - GIoU over positions under a Gaussian."""
    chosen_nhw = targets.box_weights_nhw > 0
    predicted_p4 = boxes_from_distances(log_distances_nchw).permute(0, 2, 3, 1)[chosen_nhw]
    wanted_p4 = targets.boxes_nchw.permute(0, 2, 3, 1)[chosen_nhw]
    weights_p = targets.box_weights_nhw[chosen_nhw]
    return (weights_p * (1 - generalised_iou(predicted_p4, wanted_p4))).sum() / weights_p.sum().clamp(min=1.0)


def generalised_iou(first_p4: Tensor, second_p4: Tensor) -> Tensor:
    """Return the generalised IoU (arXiv 1902.09630) of boxes, pair by pair [P].

    torchvision has this for all pairs, and the loss `1 - GIoU`, which can't be weighted without a copy of each.
    """
    inner_p2 = torch.minimum(first_p4[:, 2:], second_p4[:, 2:]) - torch.maximum(first_p4[:, :2], second_p4[:, :2])
    outer_p2 = torch.maximum(first_p4[:, 2:], second_p4[:, 2:]) - torch.minimum(first_p4[:, :2], second_p4[:, :2])
    overlap_p, hull_p = inner_p2.clamp(min=0).prod(1), outer_p2.prod(1).clamp(min=1e-6)
    areas_p = (first_p4[:, 2:] - first_p4[:, :2]).prod(1) + (second_p4[:, 2:] - second_p4[:, :2]).prod(1)
    union_p = (areas_p - overlap_p).clamp(min=1e-6)
    return overlap_p / union_p - (hull_p - union_p) / hull_p


def compute_losses(network: DetectorNetwork, features_nchw: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the heat's and the boxes' loss of a batch."""
    logits_nchw, log_distances_nchw = network(features_nchw)
    return heat_loss(logits_nchw, targets), box_loss(log_distances_nchw, targets)


def degrade_features(features_nchw: Tensor) -> Tensor:
    """Damage features as a codec might, a random strength a picture: blurred, noisy, drawn towards zero.

    Three pictures in ten stay as they are; the rest lose up to about half of a standard deviation.
    """
    num, num_channels, height, width = features_nchw.shape
    strength_n = 0.45 * torch.rand(num, 1, 1, 1) * (torch.rand(num, 1, 1, 1) < 0.7)
    spread_nc = features_nchw.std(dim=(2, 3), keepdim=True)
    blurred_nchw = F.avg_pool2d(features_nchw, 3, stride=1, padding=1, count_include_pad=False)
    fine_nchw = torch.randn_like(features_nchw)
    coarse_nchw = torch.randn(num, num_channels, -(-height // 2), -(-width // 2))
    coarse_nchw = F.interpolate(coarse_nchw, scale_factor=2.0)[:, :, :height, :width]
    fineness_n = torch.rand(num, 1, 1, 1)
    noise_nchw = fineness_n * fine_nchw + (1 - fineness_n) * coarse_nchw
    damaged_nchw = features_nchw + 1.5 * strength_n * torch.rand(num, 1, 1, 1) * (blurred_nchw - features_nchw)
    damaged_nchw = damaged_nchw + 0.7 * strength_n * spread_nc * noise_nchw
    return damaged_nchw * (1 - 0.3 * strength_n * torch.rand(num, num_channels, 1, 1))
