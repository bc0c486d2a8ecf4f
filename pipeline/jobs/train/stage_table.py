"""The stages that there are; each imports its networks when it is built."""

import warnings

from framevault.pipeline.jobs.train.stages import StageRow, StageSetup, TrainingStage


def _build_codec(setup: StageSetup) -> TrainingStage:
    with warnings.catch_warnings():
        # compressai 1.2.8 imports torch_geometric, which uses it; nothing that a user could change.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        from framevault.pipeline.jobs.train.codec_stage import CodecStage
    return CodecStage(setup)


def _build_pretrain(setup: StageSetup) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.pretrain_stage import PretrainStage
    return PretrainStage(setup)


def _build_redundancy(setup: StageSetup) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.redundancy_stage import RedundancyStage
    return RedundancyStage(setup)


def _build_video(setup: StageSetup) -> TrainingStage:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # as above
        from framevault.pipeline.jobs.train.video_stage import VideoStage
    return VideoStage(setup)


STAGE_ROWS: dict[str, StageRow] = {
    "pretrain": StageRow(name="pretrain", share=0.3, makes_codec=False, build=_build_pretrain),
    "re": StageRow(name="re", share=0.1, makes_codec=False, build=_build_redundancy),
    "codec": StageRow(name="codec", share=1.0, makes_codec=True, build=_build_codec),
    "video": StageRow(name="video", share=0.2, makes_codec=True, build=_build_video),
}
"""Every stage, by name; they run in the order of `configs.train.STAGE_ORDER`."""
