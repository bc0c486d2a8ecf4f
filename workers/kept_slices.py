"""How many slices of stored streams are kept: what a thinning is told, and what becomes of a spec."""

from dataclasses import dataclass

from framevault.codecs.base import check_slices
from framevault.codecs.checkpoint_header import count_slices
from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec, thinned, thinned_faces


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSlices:
    """Slices that streams shall have, the most important ones; at least one of the two is given."""

    frames: int | None = None
    """Of each frame; None leaves frames as they are."""
    faces: int | None = None
    """Of each face, where a codec codes faces besides frames; None leaves faces as they are."""

    @property
    def text(self) -> str:
        """What is kept, such as `2 slices`, `3 slices of each face`, or `2 slices, and 3 of each face`."""
        if self.faces is None:
            return f"{self.frames} slices"
        return (
            f"{self.faces} slices of each face"
            if self.frames is None
            else (f"{self.frames} slices, and {self.faces} of each face")
        )

    def target(self, spec: CodecSpec) -> CodecSpec:
        """Return what decodes the streams of a spec once they are thinned; the spec itself if there is nothing to do.

        Of a codec without faces besides frames, frames are thinned if that is asked for, too.

        Raises:
            CodecError: The streams can't be thinned so, or have no more slices than that by what the spec says.
        """
        if self.frames is not None and spec.slices != self.frames:
            spec = thinned(spec, slices=self.frames)
        if self.faces is None or (spec.faces is None and self.frames is not None):
            return spec
        if spec.faces is not None and spec.faces.slices == self.faces:
            return spec
        return thinned_faces(spec, slices=self.faces)

    def check(self, spec: CodecSpec) -> None:
        """Check that there are more slices than are kept; reads the checkpoints' headers.

        Raises:
            CheckpointError: A checkpoint can't be read, or says nothing of slices.
            CodecError: There are not.
        """
        if self.frames is not None and spec.slices != self.frames:
            check_slices(self.frames, num_slices=count_slices(spec))
        if self.faces is not None and spec.faces is not None and spec.faces.slices != self.faces:
            try:
                check_slices(self.faces, num_slices=count_slices(spec.faces))
            except CodecError as error:
                raise CodecError(f"faces: {error}") from error
