"""The stage of `framevault train detector`; it imports its networks when it is built."""

from collections.abc import Sequence
from pathlib import Path

from framevault.configs.train_detector import TrainDetectorJob
from framevault.pipeline.coco import require_scorer
from framevault.pipeline.jobs.train.candidates import Found
from framevault.pipeline.jobs.train.kind import TrainingKind
from framevault.pipeline.jobs.train.loop import Surroundings
from framevault.pipeline.jobs.train.stages import StageRow, StageSetup, TrainingStage

STAGE = "fit"
"""The only one."""


def _build(setup: StageSetup[TrainDetectorJob]) -> TrainingStage:
    from framevault.pipeline.jobs.train.detector.fit_stage import FitStage

    return FitStage(setup)


def _choose_labelled(job: TrainDetectorJob, found: Found) -> Found:
    """Return the pictures that have labels; what measuring them needs must be there, too."""
    from framevault.pipeline.jobs.train.detector.labels import read_labels

    if job.held_out:
        require_scorer()
    return read_labels(Path(job.labels)).choose(found)


def _usual_stages(job: TrainDetectorJob) -> Sequence[str]:
    return (STAGE,)


def _choose_stages(job: TrainDetectorJob, around: Surroundings) -> Sequence[str]:
    return (STAGE,)


DETECTOR: TrainingKind[TrainDetectorJob] = TrainingKind(
    product="detector",
    usage="framevault detect VAULT --detector-weights",
    rows={STAGE: StageRow(share=1.0, makes_product=True, build=_build)},
    usual_stages=_usual_stages,
    choose_stages=_choose_stages,
    choose_pictures=_choose_labelled,
    short_side=lambda job: job.short_side,
    measured_stages=(STAGE,),
    measured_columns=("quality", "boxes", "bits_per_pixel", "ap50", "ap"),
)
"""How the detector on features is fitted."""
