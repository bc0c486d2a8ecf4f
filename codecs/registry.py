"""From a spec to a loaded codec."""

from framevault.codecs.base import Codec
from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.errors import CodecError
from framevault.codecs.faces.codec import load_faces
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.raw.codec import RawCodec
from framevault.codecs.spec import CodecSpec


def load_codec(spec: CodecSpec) -> Codec:
    """Load a codec's networks and tables onto its device.

    Raises:
        CheckpointError: Its weights are missing, damaged or another codec's.
    """
    match spec.name:
        case "raw":
            return RawCodec(spec)
        case "dicm":
            return load_dicm(spec)
        case "hsc":
            return load_hsc(spec)
        case "dicm+hsc":
            return load_faces(spec)
    raise CodecError(f"codec {spec.name!r} has a row in the table but no code")
