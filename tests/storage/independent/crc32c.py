"""CRC32C (Castagnoli), from its definition in FORMAT.md."""

POLYNOMIAL = 0x82F63B78


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ POLYNOMIAL if byte & 1 else byte >> 1
    return byte


TABLE = tuple(_table_entry(byte) for byte in range(256))


def crc32c(data: bytes, *, before: int = 0) -> int:
    """Return the checksum of bytes, which may follow others with the checksum `before`."""
    value = before ^ 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
