"""What of a picture file is the picture's own."""

import io

import pytest
from PIL import Image, features

from framevault.pipeline.picture_payloads import avif_payload_size, webp_payload_size


def save(name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{"quality": 40}, {"lossless": True}])
def test_a_webp_file_has_twenty_bytes_of_headers_and_perhaps_padding(options: dict[str, object]) -> None:
    data = save("WEBP", **options)

    assert len(data) - webp_payload_size(data) in (20, 21)


def test_a_webp_file_with_more_chunks_has_the_same_picture() -> None:
    plain, described = save("WEBP", quality=40), save("WEBP", quality=40, xmp=b"<about/>")

    assert len(described) > len(plain)
    assert webp_payload_size(described) == webp_payload_size(plain)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_files_container_is_not_counted_nor_its_sequence_header() -> None:
    data = save("AVIF", quality=40)

    size = avif_payload_size(data)

    start = data.index(b"mdat") + 4
    media = data[start : start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")]
    # A sequence header of a still picture: 2 bytes of unit header and 7 to 12 of its own.
    assert 7 <= len(media) - size <= 16
    assert len(data) - size > 200


def test_units_of_av1_are_counted_by_hand() -> None:
    sequence_header, frame = bytes([0x0A, 2, 7, 7]), bytes([0x32, 0x81, 0x01]) + bytes(129)
    media = sequence_header + frame
    data = b"\0\0\0\x0cftypavif" + (8 + len(media)).to_bytes(4, "big") + b"mdat" + media

    assert avif_payload_size(data) == len(frame)


@pytest.mark.parametrize("read", [avif_payload_size, webp_payload_size])
def test_other_files_are_refused(read: type[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        read(save("PNG"))
