"""What `framevault train hsc` is told: pictures of one domain, the budget and the recipe, with every default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.domains import DOMAINS
from framevault.configs.train import TrainSettings, check_order, check_targets

HscStageName = Literal["generator", "inversion", "codec", "autoencoder", "joint"]
"""A part of the training: the paper's three in turn, all of them at once, and what makes pictures sharp."""

HSC_STAGE_ORDER: tuple[HscStageName, ...] = ("generator", "inversion", "codec", "autoencoder", "joint")
"""Stages run in this order, whichever are chosen."""

USUAL_DOMAIN = "face128"
"""Trained unless a start or the settings name another."""

WITHOUT_GENERATOR: tuple[HscStageName, ...] = ("autoencoder", "joint")
"""Trained where no generator is given, unless told otherwise."""

BEHIND_GENERATOR: tuple[HscStageName, ...] = ("inversion", "codec", "joint")
"""Trained behind a generator that is given, unless told otherwise."""


class TrainHscJob(TrainSettings):
    """Settings of `framevault train hsc`."""

    stages: Annotated[tuple[HscStageName, ...] | None, Field(min_length=1, strict=False)] = None
    """What is trained, the budget shared out; None for `inversion,codec,joint` behind a generator that is given, and
    `autoencoder,joint` without one."""

    domain: str | None = Field(default=None, min_length=1)
    """Whose sizes the networks have; None for the start's, or face128."""
    sizes: dict[str, int | Annotated[tuple[int, ...], Field(strict=False)]] | None = Field(default=None, min_length=1)
    """Sizes of a domain of one's own, by the names of `HscConfig`; what is not named is the domain's."""
    generator: str | None = Field(default=None, min_length=1)
    """File of a trained StyleGAN2 generator of the domain: what stage `generator` exports, or another project's
    checkpoint that `codecs/hsc/importing` reads."""
    backbone: str | None = Field(default=None, min_length=1)
    """File of MobileNetV2's weights (torchvision's names) for the perceptual loss, or `mobilenet_v2`; None for those on
    this machine, or else the shipped codec's and detector's."""
    compile: bool = False
    """Whether torch compiles encoder and generator in `autoencoder` and `joint`: minutes at the start, then faster."""

    learning_rate: float | None = Field(default=None, gt=0, le=0.1)
    """Of AdamW; None for each stage's own, which also depends on whether networks are random or a checkpoint's."""
    gain_rate_factor: float = Field(default=2.0, gt=0)
    """Gains learn this many times faster."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """Of AdamW; gains, densities and the entropy model have none."""
    clip_norm: float = Field(default=2.0, gt=0)
    """Longest gradient."""

    revive: bool = False
    """Stage `autoencoder` from a codec: whether latent channels that have no symbols at the highest quality begin anew.
    Refused where that stage does not start from one. Of use where rates silenced them early; in a codec that is fully
    trained they are not worth their bits."""
    free_share: float | None = Field(default=None, ge=0, le=0.9)
    """Stage `autoencoder`: share of it in which bits move nothing but the entropy model, so that channels come into use
    before they must pay; None for a quarter with random networks or revived channels, and 0 otherwise."""
    target_bytes: Annotated[tuple[float, ...] | None, Field(strict=False)] = None
    """Bytes a picture to steer the eight qualities to; None for the start's own, or a table from random networks."""
    steer_gain: float = Field(default=0.003, ge=0, le=0.1)
    """How fast a quality's rate weight follows its rate: change of its logarithm a sample; 0 leaves it as it starts."""
    perceptual_weight: float = Field(default=0.5, ge=0)
    """Of the perceptual network's features, beside 6 of the mean absolute difference."""

    adversarial_share: float = Field(default=0.3, ge=0, le=2)
    """Stage `joint`: length of the adversary's gradient at the picture over that of all other losses."""
    discriminator_rate: float = Field(default=2e-3, gt=0, le=0.1)
    """Learning rate of the discriminator."""
    discriminator_start: float = Field(default=0.12, ge=0, le=0.9)
    """Stage `joint`: share of it in which the discriminator learns alone."""
    penalty: float | None = Field(default=None, ge=0)
    """R1's weight: of the discriminator's squared gradient at real pictures; None for what suits sizes and batch."""

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: tuple[HscStageName, ...] | None) -> tuple[HscStageName, ...] | None:
        check_order(stages, HSC_STAGE_ORDER)
        return stages

    @field_validator("domain")
    @classmethod
    def _check_domain(cls, domain: str | None) -> str | None:
        if domain is not None and domain not in DOMAINS:
            raise ValueError(f"should be one of {', '.join(DOMAINS)}")
        return domain

    @field_validator("revive")
    @classmethod
    def _check_revive(cls, revive: bool, info: ValidationInfo) -> bool:
        # What failed itself is not in `info.data`, and its own error is enough.
        if revive and {"stages", "generator", "from_scratch"} <= info.data.keys():
            stages = usual_stages(info.data["stages"], has_generator=info.data["generator"] is not None)
            _check_revival(stages, info.data["generator"], from_scratch=info.data["from_scratch"])
        return revive

    @field_validator("target_bytes")
    @classmethod
    def _check_targets(cls, target_bytes: tuple[float, ...] | None) -> tuple[float, ...] | None:
        check_targets(target_bytes)
        return target_bytes

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.init is not None and self.generator is not None:
            raise ValueError("the start is either init or generator, got both")
        if self.sizes is not None:
            self.chosen_sizes()
        return self

    @property
    def trained_stages(self) -> Sequence[HscStageName]:
        """What is trained: the stages of the settings, or the usual ones."""
        return usual_stages(self.stages, has_generator=self.generator is not None)

    def chosen_sizes(self) -> HscConfig | None:
        """Return the sizes that the settings ask for; None where they leave them to the start.

        Raises:
            ValueError: They don't fit together.
        """
        if self.domain is None and self.sizes is None:
            return None
        row = DOMAINS[self.domain or USUAL_DOMAIN]
        values = {name: getattr(row, name) for name in HscConfig.__dataclass_fields__}
        try:
            return HscConfig.from_json(values | (self.sizes or {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"sizes: {error}") from error


def usual_stages(stages: Sequence[HscStageName] | None, *, has_generator: bool) -> Sequence[HscStageName]:
    """Return what is trained if these stages were chosen, None for those that suit the start."""
    if stages is not None:
        return stages
    return BEHIND_GENERATOR if has_generator else WITHOUT_GENERATOR


def _check_revival(stages: Sequence[HscStageName], generator: str | None, *, from_scratch: bool) -> None:
    """Check that stage `autoencoder` starts from a codec, as far as settings tell: channels of others can't be silent.

    Raises:
        ValueError: It does not, or is not trained.
    """
    if "autoencoder" not in stages:
        raise ValueError(
            f"should be false where stage autoencoder, which revives channels, is not trained (stages are "
            f"{', '.join(stages)})"
        )
    before = stages[: stages.index("autoencoder")]
    if before and before[-1] != "codec":
        raise ValueError(
            f"should be false where stage autoencoder follows {before[-1]}, which leaves no codec with silent channels"
        )
    if before:
        return
    if generator is not None:
        raise ValueError(
            f"should be false where stage autoencoder starts from a generator ({generator}) alone: its channels are "
            "random, none fell silent. A codec to start from is given as init"
        )
    if from_scratch:
        raise ValueError(
            "should be false where stage autoencoder starts from random networks (from_scratch), whose channels did "
            "not fall silent yet. A codec to start from is given as init"
        )
