"""How many bytes of a picture file are the picture's own: AVIF and WebP, for rates without their containers."""

from collections.abc import Iterator

_OBU_SEQUENCE_HEADER, _OBU_TEMPORAL_DELIMITER = 1, 2
"""Types of AV1's units (AV1 specification, 6.2.2) that say nothing of a single picture."""


def webp_payload_size(data: bytes) -> int:
    """Return the bytes of the VP8 or VP8L frame in a WebP file (RFC 9649).

    Raises:
        ValueError: The file has no such frame.
    """
    position = 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] in (b"VP8 ", b"VP8L"):
            return size
        position += 8 + size + size % 2
    raise ValueError(f"expected a WebP file with a VP8 frame, got {data[:12]!r}")


def avif_payload_size(data: bytes) -> int:
    """Return the bytes of the AV1 units in an AVIF file's media data, without sequence headers and delimiters.

    Raises:
        ValueError: The file has no media data, or other than AV1 units of stated sizes.
    """
    for name, content in _boxes(data):
        if name == b"mdat":
            return sum(
                len(unit)
                for kind, unit in _units(content)
                if kind not in (_OBU_SEQUENCE_HEADER, _OBU_TEMPORAL_DELIMITER)
            )
    raise ValueError(f"expected an AVIF file with a box mdat, got {data[:12]!r}")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and content of each box of a file (ISO 14496-12)."""
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big") or len(data) - position
        if size < 8:
            raise ValueError(f"expected boxes of 8 bytes or more, got one of {size} at byte {position}")
        yield data[position + 4 : position + 8], data[position + 8 : position + size]
        position += size


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and bytes of each AV1 unit, header included (AV1 specification, 5.3)."""
    position = 0
    while position < len(data):
        has_extension, has_size = data[position] >> 2 & 1, data[position] >> 1 & 1
        if not has_size:
            # The last unit may say no size: it ends with the data.
            yield data[position] >> 3 & 15, data[position:]
            return
        size, end, shift = 0, position + 1 + has_extension, 0
        while True:
            byte = data[end]
            size |= (byte & 127) << shift
            end, shift = end + 1, shift + 7
            if byte < 128:
                break
        yield data[position] >> 3 & 15, data[position : end + size]
        position = end + size
