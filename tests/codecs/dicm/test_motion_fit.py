"""Maps and tables of motion from pictures and clips: on latents that are known in closed form.

Letters in shapes: C latent channels, h and w positions of the latent grid, P positions.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.motion import STEP_PIXELS, STEPS, WEIGHT_UNIT, Motion, MotionField
from framevault.codecs.dicm.motion_fit import STILL, MapFit, counted_motion, first_motion, step_pixels
from framevault.codecs.dicm.networks import LATENT_STRIDE
from framevault.codecs.dicm.temporal_model import NEIGHBOURHOOD
from framevault.codecs.entropy.coder import SymbolEncoder
from framevault.codecs.entropy.latents import MEAN_STEPS

NUM_CHANNELS = 3

Plane = Callable[[int, int], Tensor]
"""Gives a picture's latents [C, h, w] when it is moved by so many pixels down and right."""


def random_plane(random: torch.Generator, *, height: int = 7, width: int = 8) -> Plane:
    """Return a picture that rises evenly in each channel."""
    level_c, down_c, right_c = torch.randn(3, NUM_CHANNELS, 1, 1, generator=random)
    rows_hw, columns_hw = torch.meshgrid(torch.arange(height) - 3, torch.arange(width) - 3, indexing="ij")

    def latents(down: int, right: int) -> Tensor:
        rows, columns = LATENT_STRIDE * rows_hw + down, LATENT_STRIDE * columns_hw + right
        return torch.add(4 * level_c, down_c * rows + right_c * columns, alpha=0.5)

    return latents


def moved_by_step(plane: Plane) -> list[Tensor]:
    return [plane(*step_pixels(number)) for number in range(STEPS * STEPS)]


def random_maps(random: torch.Generator) -> Tensor:
    """Return maps in 64ths, of which that for no step leaves everything as it is."""
    shape = (STEPS * STEPS, NUM_CHANNELS, NEIGHBOURHOOD * NUM_CHANNELS)
    maps = torch.randint(-100, 101, shape, generator=random, dtype=torch.float64)
    maps[STILL] = still_map()
    return maps


def still_map() -> Tensor:
    one_hot = functional.one_hot(torch.tensor(NEIGHBOURHOOD // 2), NEIGHBOURHOOD).double()
    return WEIGHT_UNIT * torch.kron(torch.eye(NUM_CHANNELS, dtype=torch.float64), one_hot[None])


def test_each_of_the_64_steps_within_a_position_has_one_number() -> None:
    pixels = [step_pixels(number) for number in range(STEPS * STEPS)]

    assert sorted(pixels) == [(down, right) for down in range(-8, 8, 2) for right in range(-8, 8, 2)]
    assert pixels[STILL] == (0, 0)


def test_maps_that_made_the_moved_latents_are_found() -> None:
    random = torch.Generator().manual_seed(0)
    maps = random_maps(random)
    fit = MapFit(NUM_CHANNELS)
    for _ in range(3):
        # One more channel than is carried.
        still_chw = torch.randint(-40, 41, (NUM_CHANNELS + 1, 8, 9), generator=random).float()
        seen_kn = functional.unfold(still_chw[None, :NUM_CHANNELS], 3)[0].double()
        moved = [
            functional.pad((each @ seen_kn / WEIGHT_UNIT).reshape(NUM_CHANNELS, 6, 7), (1, 1, 1, 1)) for each in maps
        ]
        fit.add(still_chw, moved)

    assert torch.equal(fit.solve(), maps)


@pytest.mark.parametrize("vector", [(3, 0), (-3, 2), (0, -4), (13, -10)])
def test_a_picture_is_carried_to_where_it_moved(vector: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(1)
    fit = MapFit(NUM_CHANNELS)
    for _ in range(40):
        plane = random_plane(random)
        fit.add(plane(0, 0), moved_by_step(plane))
    motion, plane = first_motion(fit.solve()), random_plane(random)
    positions_p = torch.tensor([3 * 8 + 3, 3 * 8 + 4])

    carried_cp = motion.predict(torch.round(MEAN_STEPS * plane(0, 0)), positions_p, vector) / MEAN_STEPS

    down, right = (STEP_PIXELS * steps for steps in vector)
    expected_cp = plane(down, right).flatten(1)[:, positions_p]
    change = (plane(0, 0).flatten(1)[:, positions_p] - expected_cp).abs().max()
    error = (carried_cp - expected_cp).abs().max()
    # Weights are rounded to 64ths.
    assert float(error) < 0.2 * float(change)


def test_where_nothing_moves_within_a_position_latents_stay_as_they_are() -> None:
    fit = MapFit(NUM_CHANNELS)
    plane = random_plane(torch.Generator().manual_seed(2))
    fit.add(plane(0, 0), moved_by_step(plane))
    motion = first_motion(fit.solve())
    latent16_chw = torch.randint(-500, 501, (NUM_CHANNELS, 5, 6)).float()
    field = MotionField(vectors_k2=np.array([[8, 0]], np.int32), number_hw=np.ones((5, 6), np.uint8))

    carried_chw = motion.carry(latent16_chw, field)

    assert torch.equal(motion.maps[STILL], still_map())
    assert torch.equal(carried_chw[:, :-1], latent16_chw[:, 1:])
    assert torch.equal(carried_chw[:, -1], latent16_chw[:, -1])


@pytest.mark.parametrize("num_positions", [0, 1, 4])
def test_few_pictures_give_small_maps(num_positions: int) -> None:
    random = torch.Generator().manual_seed(3)
    fit = MapFit(NUM_CHANNELS)
    if num_positions:
        shape = (NUM_CHANNELS, 3, 2 + num_positions)
        moved = [4 * torch.randn(shape, generator=random) for _ in range(STEPS * STEPS)]
        fit.add(4 * torch.randn(shape, generator=random), moved)

    maps = fit.solve()

    others = maps[[number for number in range(STEPS * STEPS) if number != STILL]]
    assert torch.equal(maps[STILL], still_map())
    assert float(others.abs().max()) <= WEIGHT_UNIT
    assert bool(others.any()) == bool(num_positions)


def size_bytes(motion: Motion, fields: list[MotionField | None]) -> int:
    """Return what a clip's fields take."""
    total, before_hw = 0, np.zeros((9, 12), np.bool_)
    for field in fields:
        if field is not None:
            encoder = SymbolEncoder()
            motion.push(encoder, field, before_hw, most_vectors=8)
            total += len(encoder.finish())
        before_hw = np.zeros_like(before_hw) if field is None else field.moved_hw
    return total


def block_field(left: int) -> MotionField:
    """Return two objects that move side by side, each by a vector of its own."""
    number_hw = np.zeros((9, 12), np.uint8)
    number_hw[2:7, left : left + 3] = 1
    number_hw[3:6, left + 3 : left + 5] = 2
    return MotionField(vectors_k2=np.array([[0, -6], [2, -8]], np.int32), number_hw=number_hw)


def test_tables_counted_on_clips_make_such_clips_cheaper() -> None:
    maps = torch.zeros(STEPS * STEPS, NUM_CHANNELS, NEIGHBOURHOOD * NUM_CHANNELS, dtype=torch.float64)
    fields = [None, *(block_field(left) for left in (0, 1, 2, 3)), None, *(block_field(left) for left in (5, 6, 7))]

    counted = counted_motion(maps, [fields, [None, None]])

    assert size_bytes(counted, fields) < 0.6 * size_bytes(first_motion(maps), fields)


def test_with_one_vector_a_frame_nothing_is_known_of_choices() -> None:
    maps = torch.zeros(STEPS * STEPS, NUM_CHANNELS, NEIGHBOURHOOD * NUM_CHANNELS, dtype=torch.float64)
    field = MotionField(vectors_k2=np.array([[1, 1]], np.int32), number_hw=np.eye(9, 12, dtype=np.uint8))

    counted = counted_motion(maps, [[None, field]])

    unknown = first_motion(maps)
    assert np.array_equal(counted.choice_table.probabilities, unknown.choice_table.probabilities)
    assert not np.array_equal(counted.moved_table.probabilities, unknown.moved_table.probabilities)


def test_clips_in_which_nothing_moves_count_for_nothing() -> None:
    maps = torch.zeros(STEPS * STEPS, NUM_CHANNELS, NEIGHBOURHOOD * NUM_CHANNELS, dtype=torch.float64)

    with pytest.raises(ValueError, match="at least one flag"):
        counted_motion(maps, [[None, None], []])
