"""Which of a detector's labels is which of a label file's."""

from collections.abc import Mapping, Sequence

import torch
from torchvision.ops import batched_nms

from framevault.pipeline.exits import PreflightError
from framevault.workers.detectors.base import Detections

DUPLICATE_IOU = 0.6
"""Two boxes of labels that count as one and that overlap so much are one object; the detector's own limit."""


def parse_pairs(text: str | None, *, option: str) -> dict[str, str]:
    """Read `a=x,b=y`.

    Raises:
        PreflightError: It is something else, or names one thing twice.
    """
    if text is None:
        return {}
    pairs: dict[str, str] = {}
    for part in text.split(","):
        left, _, right = (piece.strip() for piece in part.partition("="))
        if not (left and right) or left in pairs:
            raise PreflightError(f"{option} must be like person=person,car=vehicle, each name once, got {text!r}")
        pairs[left] = right
    return pairs


def map_labels(
    known: Sequence[str], scored: Sequence[str], *, pairs: Mapping[str, str], source: object, option: str = "--labels"
) -> dict[str, str]:
    """Return what each of the detector's labels is called in the label file.

    Args:
        known: The detector's labels.
        scored: The label file's.
        pairs: What the user says; empty to take the names that both have.
        source: The label file, for errors.
        option: How the user says it, for errors.

    Raises:
        PreflightError: A name is unknown, or no label is left.
    """
    for names, place, expected in ((pairs.keys(), "the detector", known), (pairs.values(), str(source), scored)):
        if unknown := sorted(set(names) - set(expected)):
            raise PreflightError(f"{option}: {place} has no {', '.join(unknown)}; it has {', '.join(expected)}")
    found = dict(pairs) or {name: name for name in known if name in scored}
    if not found:
        raise PreflightError(
            f"{source} and the detector share no label: say which is which with {option}; "
            f"the file has {', '.join(scored)}; the detector has {', '.join(known)}"
        )
    return found


def drop_duplicates(detections: Detections, names: Sequence[str | None]) -> Detections:
    """Keep the best of overlapping boxes whose labels have the same name, such as car and truck as vehicle.

    Args:
        detections: Of one frame, best first.
        names: What each label counts as; None for labels that don't count.
    """
    shared = {name for name in names if name is not None and names.count(name) > 1}
    if not shared or not len(detections.labels):
        return detections
    groups = {name: number for number, name in enumerate(sorted(shared))}
    # A label that shares its name with no other is a group of its own.
    group_k = [groups.get(names[label] or "", len(groups) + label) for label in detections.labels.tolist()]
    kept_k = batched_nms(
        torch.from_numpy(detections.boxes_xyxy),
        torch.from_numpy(detections.scores),
        torch.tensor(group_k),
        DUPLICATE_IOU,
    ).numpy()
    return Detections(
        boxes_xyxy=detections.boxes_xyxy[kept_k], scores=detections.scores[kept_k], labels=detections.labels[kept_k]
    )
