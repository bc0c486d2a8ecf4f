"""How a command ends."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    """All that was asked for was done."""
    FAILED = 1
    """The job stopped, or the vault is damaged."""
    USAGE = 2
    """Arguments, settings or the vault's address are wrong: nothing was begun."""
    QUARANTINED = 3
    """Done, but some inputs are in quarantine."""
    INTERRUPTED = 130
    """Interrupted; the same command goes on where it stopped."""


class PreflightError(ValueError):
    """A job can't begin: says which setting or address is wrong, what was expected and what came."""
