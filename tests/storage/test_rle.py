"""COCO's run lengths against the library that scores with them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from framevault.storage.rle import RleError, check_mask, decode_mask, encode_mask, mask_area

reference = pytest.importorskip("faster_coco_eval.core.mask", reason="the scoring library comes with the extra 'bench'")


def random_masks() -> list[NDArray[np.bool_]]:
    """Noise of every density, blobs, stripes, and the extremes."""
    rng = np.random.default_rng(0)
    masks = [rng.random((height, width)) < share for height, width, share in (
        (1, 1, 0.5), (1, 9, 0.5), (9, 1, 0.5), (13, 17, 0.1), (17, 13, 0.5), (40, 30, 0.9), (64, 64, 0.02)
    )]  # fmt: skip
    rows, columns = np.mgrid[:200, :300]
    masks.append((rows - 90) ** 2 + (columns - 200) ** 2 < 70**2)
    masks.append(columns % 7 < 3)
    masks.append(rows % 7 < 3)
    return [*masks, np.zeros((5, 6), np.bool_), np.ones((5, 6), np.bool_), np.ones((1, 1), np.bool_)]


@pytest.mark.parametrize("mask_hw", random_masks())
def test_counts_are_those_of_the_scoring_library(mask_hw: NDArray[np.bool_]) -> None:
    expected = reference.encode(np.asfortranarray(mask_hw.astype(np.uint8)))["counts"].decode()

    counts = encode_mask(mask_hw, height=mask_hw.shape[0], width=mask_hw.shape[1])

    assert counts == expected


@pytest.mark.parametrize("mask_hw", random_masks())
def test_a_mask_comes_back(mask_hw: NDArray[np.bool_]) -> None:
    height, width = mask_hw.shape
    counts = encode_mask(mask_hw, height=height, width=width)

    assert np.array_equal(decode_mask(counts, height=height, width=width), mask_hw)
    assert mask_area(counts) == mask_hw.sum()


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 90), (60, 0), (60, 90), (31, 17)])
def test_a_part_is_encoded_like_the_whole(top: int, left: int) -> None:
    """Parts at all borders, so that runs go over the ends of columns and of the mask."""
    rng = np.random.default_rng(1)
    part_hw = rng.random((40, 10)) < 0.8
    whole_hw = np.zeros((100, 100), np.bool_)
    whole_hw[top : top + 40, left : left + 10] = part_hw

    counts = encode_mask(part_hw, height=100, width=100, top=top, left=left)

    assert counts == encode_mask(whole_hw, height=100, width=100)


def test_full_columns_are_one_run() -> None:
    counts = encode_mask(np.ones((4, 3), np.bool_), height=4, width=10, left=2)

    # 8 zeros, 12 ones, 20 zeros, by hand: each below 16 is one character, 20 is two.
    assert counts == bytes([48 + 8, 48 + 12, 48 + 32 + 20, 48]).decode()


def test_the_counts_of_a_hand_computed_case() -> None:
    """Columns 0110, 1000: runs 1, 2, 1, 1, 3; the fourth as 1 - 2 = -1 (11111), the fifth as 3 - 1 = 2."""
    mask_hw = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.bool_).T

    assert encode_mask(mask_hw, height=4, width=2) == bytes([48 + 1, 48 + 2, 48 + 1, 48 + 31, 48 + 2]).decode()


def test_an_empty_part_is_an_empty_mask() -> None:
    assert encode_mask(np.zeros((0, 5), np.bool_), height=6, width=7) == encode_mask(
        np.zeros((6, 7), np.bool_), height=6, width=7
    )


def test_a_large_mask_comes_back() -> None:
    mask_hw = np.zeros((2160, 3840), np.bool_)
    mask_hw[5:2000, 1000:3000] = True

    counts = encode_mask(mask_hw, height=2160, width=3840)

    assert counts == reference.encode(np.asfortranarray(mask_hw.astype(np.uint8)))["counts"].decode()
    assert np.array_equal(decode_mask(counts, height=2160, width=3840), mask_hw)


@pytest.mark.parametrize("counts", ["", "/", "p", "\xff", "\ud800", "P", "PPPPPPPPPPP0", "O", "1O"])
def test_what_is_no_mask_is_refused(counts: str) -> None:
    with pytest.raises(RleError):
        decode_mask(counts, height=4, width=4)


def test_a_mask_of_another_size_is_refused() -> None:
    counts = encode_mask(np.ones((4, 4), np.bool_), height=4, width=4)

    check_mask(counts, height=4, width=4)
    for read in (decode_mask, check_mask):
        with pytest.raises(RleError, match="runs must sum up to 4 x 5 = 20 pixels, are 16"):
            read(counts, height=4, width=5)


def test_a_part_outside_the_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in a mask of 4 x 4"):
        encode_mask(np.ones((2, 2), np.bool_), height=4, width=4, top=3)


def test_hostile_counts_cost_no_memory() -> None:
    """A run of 2^34 pixels is refused before anything of that size is made."""
    counts = bytes([48, *[48 + 63] * 6, 48 + 15]).decode()

    with pytest.raises(RleError, match="a run must be within 4 x 4 = 16 pixels"):
        decode_mask(counts, height=4, width=4)


def test_counts_whose_sum_is_right_only_in_64_bits_are_refused() -> None:
    """Runs 20, then every second up to 2^48 and on, the others 2^33 for a while: 2^64 + 20 in all."""
    up, stay, down = "PPPPPP8", "0", "PPPPPPH"  # 2^33, 0, -2^33
    rising = [up] * 2**15 + [stay] * (3 * 2**14 - 1)
    flat = [up] + [stay] * (2**14 - 1) + [down] + [stay] * (len(rising) - 2**14 - 2)
    others = [number for pair in zip(rising, flat, strict=False) for number in pair]
    counts = "".join(["d0", *others, rising[-1]])

    for read in (decode_mask, check_mask):
        with pytest.raises(RleError, match="a run must be within 4 x 5 = 20 pixels, is 281474976710656"):
            read(counts, height=4, width=5)


def test_a_mask_of_more_than_2_to_the_32_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4294967296 pixels, got 65537 x 65536"):
        encode_mask(np.ones((1, 1), np.bool_), height=2**16 + 1, width=2**16)
    with pytest.raises(RleError, match="at most 4294967296 pixels"):
        check_mask("0", height=2**16 + 1, width=2**16)
    assert encode_mask(np.zeros((0, 0), np.bool_), height=2**16, width=2**16) == "PPPPPP4"  # 2^32 = 4 * 32^6
