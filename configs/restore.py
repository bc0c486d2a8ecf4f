"""What `framevault restore` is told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from framevault.configs.run import StoredStreamsJob


class RestoreJob(StoredStreamsJob):
    """Settings of `framevault restore`."""

    out: str = Field(min_length=1)
    """Folder for pictures or videos, or the PNG file of a sheet; on this machine, or mounted."""
    where: str | None = Field(default=None, min_length=1)
    """SQL condition on the columns of `frames`; None takes all frames."""
    kind: Literal["frames", "video", "sheet"] = "frames"
    """A PNG file a frame, a video a stored video, or one picture with many frames on it."""
    slices: int | Literal["nothing", "core"] | None = None
    """How much of each face is used: nothing (0 bits: the mean face), the core symbols, so many slices; None: all."""
    edits: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What is changed, as `smile=+1.5`; for faces of codecs hsc and dicm+hsc."""
    directions: str | None = Field(default=None, min_length=1)
    """File with the edits' directions; None takes the one beside the checkpoint, or else the vault's."""
    video_codec: Literal["h264", "ffv1"] = "h264"
    """How videos are coded: H.264 plays everywhere, FFV1 loses nothing."""
    starts_at_zero: bool = False
    """Whether a video's times count from its first restored frame, not from the source's own zero."""
    tiles: int = Field(default=48, ge=1, le=10_000)
    """Frames on a sheet, at most; of more, every so manieth is taken."""
    tile_side: int = Field(default=160, ge=16, le=4096)
    """Longest side of a frame on a sheet, in pixels."""

    @model_validator(mode="after")
    def _check_out(self) -> Self:
        if "://" in self.out:
            raise ValueError(f"out must be a path on this machine or a mounted one, got {self.out}")
        if self.kind == "sheet" and not self.out.lower().endswith(".png"):
            raise ValueError(f"out must be a file that ends in .png for a sheet, got {self.out}")
        return self
