"""What a codec can find wrong.

CodecError                    anything below; also a setting that no codec has
├── CheckpointError           weights that are missing, damaged or another codec's
│   └── GoldenMismatchError   weights that this machine computes other symbols with
└── BitstreamError            a stream that this codec did not write, or that was damaged since
"""


class CodecError(ValueError):
    """A codec can't do what was asked of it."""


class CheckpointError(CodecError):
    """Weights are missing, damaged, or belong to another codec."""


class GoldenMismatchError(CheckpointError):
    """This machine does not compute with the weights what every machine must."""


class BitstreamError(CodecError):
    """A stored stream can't be decoded."""
