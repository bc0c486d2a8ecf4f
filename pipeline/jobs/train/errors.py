"""What a training may end with, besides wrong settings."""


class TrainingError(RuntimeError):
    """A training can't go on: says what happened and what to do."""
