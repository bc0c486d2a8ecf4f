"""The stages of `framevault train hsc`; each imports its networks when it is built."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.kind import TrainingKind, choose_all
from framevault.pipeline.jobs.train.loop import Surroundings
from framevault.pipeline.jobs.train.stages import StageRow, StageSetup, TrainingStage


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keep quiet about what compressai 1.2.8 imports: torch_geometric uses what is deprecated; no user can help it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        yield


def _build_generator(setup: StageSetup[TrainHscJob]) -> TrainingStage:
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.generator_stage import GeneratorStage
    return GeneratorStage(setup)


def _build_inversion(setup: StageSetup[TrainHscJob]) -> TrainingStage:
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.inversion_stage import InversionStage
    return InversionStage(setup)


def _build_codec(setup: StageSetup[TrainHscJob]) -> TrainingStage:
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.latent_stage import LatentStage
    return LatentStage(setup)


def _build_autoencoder(setup: StageSetup[TrainHscJob]) -> TrainingStage:
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.autoencoder_stage import AutoencoderStage
    return AutoencoderStage(setup)


def _build_joint(setup: StageSetup[TrainHscJob]) -> TrainingStage:
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.joint_stage import JointStage
    return JointStage(setup)


def _usual_stages(job: TrainHscJob) -> Sequence[str]:
    return job.trained_stages


def _choose_stages(job: TrainHscJob, around: Surroundings) -> Sequence[str]:
    """Return the same whatever the data is."""
    return job.trained_stages


def check_start(job: TrainHscJob) -> None:
    """Check what the settings ask of the file that they start from, before anything is begun.

    Raises:
        PreflightError: It is not what they need.
    """
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.start import check_revival
    check_revival(job)


def _short_side(job: TrainHscJob) -> int:
    """Return the domain's resolution: pictures are kept no larger."""
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.start import choose_sizes
    return choose_sizes(job).resolution


def _add_limits(setup: StageSetup[TrainHscJob], path: Path) -> None:
    """Write into the checkpoint from where on a picture is outside the domain."""
    with _quiet_import():
        from framevault.pipeline.jobs.train.hsc.limits import add_limits
    add_limits(path, setup.pictures, device=setup.device)


HSC: TrainingKind[TrainHscJob] = TrainingKind(
    product="hsc",
    usage="framevault compress SOURCE... VAULT --codec hsc --weights",
    rows={
        "generator": StageRow(share=2.0, makes_product=False, build=_build_generator),
        "inversion": StageRow(share=1.0, makes_product=False, build=_build_inversion),
        "codec": StageRow(share=0.5, makes_product=True, build=_build_codec, finish=_add_limits),
        "autoencoder": StageRow(share=1.0, makes_product=True, build=_build_autoencoder, finish=_add_limits),
        "joint": StageRow(share=0.5, makes_product=True, build=_build_joint, finish=_add_limits),
    },
    usual_stages=_usual_stages,
    choose_stages=_choose_stages,
    choose_pictures=choose_all,
    short_side=_short_side,
    measured_stages=("joint", "autoencoder", "codec"),
    measured_columns=(
        "quality",
        "pictures",
        "bytes_per_picture",
        "bits_per_pixel",
        "psnr_db",
        "mobilenet_v2_distance",
        "detector_distance",
    ),
)
"""How the codec of pictures of one domain is trained."""
