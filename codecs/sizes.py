"""Limits to the sizes that a checkpoint may name; without torch.

Networks are built from these sizes before any tensor is compared with them. That takes no memory (`hollow.py`), but a
moment for each module.
"""

LARGEST_WIDTH = 65_536
"""Channels, or values of a layer, at most: with so many, no tensor has more values than 64 bits can count."""

MOST_PARTS = 128
"""Networks, blocks or layers of one kind, at most: so many are built in a quarter of a second."""


def check_size(name: str, size: int, *, least: int = 1, most: int = LARGEST_WIDTH) -> None:
    """Check one size of a configuration.

    Args:
        name: What it is the size of, for the message.
        size: What the configuration says.
        least: The smallest that there may be.
        most: The largest that there may be.

    Raises:
        ValueError: It is out of bounds.
    """
    if not least <= size <= most:
        raise ValueError(f"{name} must be {least} to {most}, got {size}")
