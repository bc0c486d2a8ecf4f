"""The stages of `framevault train dicm`; each imports its networks when it is built."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from framevault.configs.train import TrainDicmJob
from framevault.pipeline.events import Note
from framevault.pipeline.jobs.train.kind import TrainingKind, choose_all
from framevault.pipeline.jobs.train.loop import Surroundings
from framevault.pipeline.jobs.train.stages import StageRow, StageSetup, TrainingStage

USUAL_STAGES = ("codec", "video")
"""Trained unless told otherwise."""


def _build_codec(setup: StageSetup[TrainDicmJob]) -> TrainingStage:
    with warnings.catch_warnings():
        # compressai 1.2.8 imports torch_geometric, which uses it; nothing that a user could change.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        from framevault.pipeline.jobs.train.codec_stage import CodecStage
    return CodecStage(setup)


def _build_pretrain(setup: StageSetup[TrainDicmJob]) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.pretrain_stage import PretrainStage
    return PretrainStage(setup)


def _build_redundancy(setup: StageSetup[TrainDicmJob]) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.redundancy_stage import RedundancyStage
    return RedundancyStage(setup)


def _build_video(setup: StageSetup[TrainDicmJob]) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.video_stage import VideoStage
    return VideoStage(setup)


def _renew_motion(setup: StageSetup[TrainDicmJob], path: Path) -> None:
    from framevault.pipeline.jobs.train.motion_maps import renew_motion

    renew_motion(path, setup)


def _complete_motion(setup: StageSetup[TrainDicmJob], path: Path) -> None:
    from framevault.pipeline.jobs.train.motion_maps import complete_motion

    complete_motion(path, setup)


def _usual_stages(job: TrainDicmJob) -> Sequence[str]:
    return job.stages or USUAL_STAGES


def _choose_stages(job: TrainDicmJob, around: Surroundings) -> Sequence[str]:
    """Return the stages that were asked for, or all that make a codec and have what they need."""
    if job.stages is not None:
        return job.stages
    (num_without,) = around.world.largest([float(not around.training.clips)])
    if not num_without:
        return USUAL_STAGES
    if around.world.is_first and not around.folder.is_finished("video"):
        around.on_event(Note(text="stage video is left out: in the data no frames follow one another within a second"))
        around.folder.append_rows([{"stage": "video", "kind": "finished", "step": 0}])
    return [name for name in USUAL_STAGES if name != "video"]


DICM: TrainingKind[TrainDicmJob] = TrainingKind(
    product="dicm",
    usage="framevault compress SOURCE... VAULT --weights",
    rows={
        "pretrain": StageRow(share=0.3, makes_product=False, build=_build_pretrain),
        "re": StageRow(share=0.1, makes_product=False, build=_build_redundancy),
        "codec": StageRow(share=1.0, makes_product=True, build=_build_codec, finish=_renew_motion),
        "video": StageRow(share=0.2, makes_product=True, build=_build_video, finish=_complete_motion),
    },
    usual_stages=_usual_stages,
    choose_stages=_choose_stages,
    choose_pictures=choose_all,
    short_side=lambda job: job.short_side,
    measured_stages=("codec",),
    measured_columns=("quality", "pictures", "bytes_per_picture", "bits_per_pixel", "feature_error", "tail_error"),
)
"""How the codec of features is trained."""
