"""The errors of this folder.

::

    OSError
      StoreError                 something about stored objects
        NotFoundError            no object has this key
        AlreadyExistsError       an object has this key already
        StoreUnavailableError    the environment's fault: disk full, no permission, no connection
        DamagedError             stored bytes are not what a vault holds
          ChecksumError          they are not the bytes that were written
          UnsupportedError       they may be sound, but are of another version of the format
    ValueError
      VaultError                 the URL does not lead to a vault that this version can use
        NoVaultError             nothing is there
      PackError                  bytes that are not a pack
        UnsupportedPackError     they may be one, but of another version of the format
      QueryError                 SQL that can't be answered
"""


class StoreError(OSError):
    """Something about stored objects; the message names the URL or key."""


class NotFoundError(StoreError):
    """No object has this key."""


class AlreadyExistsError(StoreError):
    """An object has this key already; nothing was written."""


class StoreUnavailableError(StoreError):
    """The environment failed (disk full, no permission, no connection); the same call may succeed later."""


class DamagedError(StoreError):
    """A stored object is not what a vault holds under its key."""


class ChecksumError(DamagedError):
    """A stored object has not the size or checksum that it was written with."""


class UnsupportedError(DamagedError):
    """A stored object is of a version, or requires a feature, that this framevault does not know; it may be sound."""


class VaultError(ValueError):
    """A URL that does not lead to a vault which this version can use."""


class NoVaultError(VaultError):
    """Nothing lies at the URL: no vault, and nothing else either."""


class PackError(ValueError):
    """Bytes that are not a pack; names the key, the frame if it is one frame's fault, and the reason."""


class UnsupportedPackError(PackError):
    """A pack of a version, or with a required feature, that this framevault does not know; it may be sound."""


class QueryError(ValueError):
    """SQL that can't be answered; the message is DuckDB's."""
