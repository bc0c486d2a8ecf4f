"""What can go wrong between a source and its frames.

ValueError
  UnreadableSourceError    the input is not a video or picture folder that can be read: no retry helps
  DecodeError              the input is damaged where it was read: no retry helps
    SourceChangedError     the input is another one than the one that was planned
RuntimeError
  DecoderKilledError       the child was killed, or went over one of its limits: worth a retry
  DecoderFailedError       the child has a bug
OSError
  SourceUnavailableError   the input can't be reached now: missing, forbidden, or its server is down
"""

from __future__ import annotations


class UnreadableSourceError(ValueError):
    """An input can't be read as video or pictures at all; names it and says what was expected."""


class DecodeError(ValueError):
    """A segment did not give exactly the frames that it should; names the file, what was expected and what came."""


class SourceChangedError(DecodeError):
    """A source is not, or no longer, the one that was planned."""


class DecoderKilledError(RuntimeError):
    """The decoding child died or was ended for going over a limit; says which signal or limit."""


class DecoderFailedError(RuntimeError):
    """The decoding child failed in a way that is no input's fault; carries its traceback."""


class SourceUnavailableError(OSError):
    """A source can't be opened or read for a reason outside it: missing, no permission, network."""
