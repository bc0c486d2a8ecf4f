"""What `framevault train directions` is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from framevault.configs.run import MODEL_CONFIG, DecodeSettings


def _is_region(region: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= region[0] < region[1] <= 1:
        raise ValueError(f"a region must be two rising shares of the height, as 0.15:0.6, got {region[0]}:{region[1]}")
    return region


Shares = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_is_region)]
"""Top and bottom of some rows of a picture, as shares of its height."""


class DirectionsJob(BaseModel):
    """Settings of `framevault train directions`."""

    model_config = MODEL_CONFIG

    data: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    """Pictures of aligned faces: files, folders, globs and fsspec URLs."""
    weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of codec hsc whose styles are looked at; None for the shipped one."""
    out: str | None = Field(default=None, min_length=1)
    """Where the directions go; None writes them beside the checkpoint, where `restore` looks for them."""
    labels: str | None = Field(default=None, min_length=1)
    """CSV with the columns file, attribute and value; attributes of the pixels are measured besides."""
    sheets: str | None = Field(default=None, min_length=1)
    """Folder for a contact sheet a direction, rows faces and columns amounts; None draws none."""

    moves: Literal["both", "styles"] = "both"
    """What edits of labelled attributes move: `both` styles and decoded feature, for a codec whose feature tells where
    things are, as `face128`; `styles` alone, where the generator's styles do (Li et al.). Attributes of the pixels, and
    factors, are of styles."""
    regions: dict[str, Shares] = {}
    """Rows of the picture in which a labelled attribute is seen: faces that are alike elsewhere are compared, so that
    nothing else moves with it. An attribute without one moves what goes along with it, anywhere."""

    faces: int = Field(default=2000, ge=20)
    """Pictures that are looked at; of more, every so manieth is taken."""
    ridge: float = Field(default=1.0, gt=0)
    """Weight of a boundary's normal, over how much faces differ: larger is smoother, for few labels."""
    least_agreement: float = Field(default=0.3, ge=0, le=1)
    """Correlation with the labels of faces kept apart, below which a direction is left out."""
    factors: int = Field(default=4, ge=0, le=32)
    """Directions that are taken from the generator's weights for each group of styles."""
    keep: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Directions to write, `name` or `name=new-name`; none named: all that were found."""

    sheet_faces: int = Field(default=6, ge=1, le=64)
    """Rows of a sheet."""
    amounts: Annotated[tuple[float, ...], Field(min_length=1, strict=False)] = (-3.0, -1.5, 0.0, 1.5, 3.0)
    """Columns of a sheet."""
    quality: int = Field(default=8, ge=1, le=8)
    """Of the streams that sheets are made from."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto` takes a GPU where there is one."""
    batch_size: int = Field(default=16, ge=1)
    """Faces that go through the networks together."""
    data_threads: int = Field(default=1, ge=1)
    """Threads that decode pictures."""
    limits: DecodeSettings = DecodeSettings()
    """What decoding one source may use."""
