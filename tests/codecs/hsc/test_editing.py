"""Edits: the formula on numbers worked out by hand, and the toy codec's pictures."""

import pytest
import torch
from torch import Tensor

from framevault.codecs.base import Semantics
from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.codec import HscDecoder, load_hsc
from framevault.codecs.hsc.directions import Direction, Directions
from framevault.codecs.hsc.editing import Edit, Shift, move, parse_edit, shift_along, total_shift
from framevault.codecs.spec import CodecSpec
from tests.codecs.hsc.toy import TOY_CONFIG, save_toy


def squares(styles_nld: Tensor) -> Tensor:
    """Stand in for the generator's own feature: the squares of one style's values, [N, C, 1, 1]."""
    return styles_nld[:, 0, :, None, None] ** 2


def by_hand() -> Semantics:
    return Semantics(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[10.0]], [[20.0]]]]), torch.zeros(1, 3))


def directions() -> Directions:
    items = (
        Direction(name="age", about="older", shift_ld=torch.tensor([[1.0, 0.0]])),
        Direction(name="smile", about="smiles", shift_ld=torch.tensor([[0.5, -1.0]])),
    )
    return Directions(source="toy", generator="0" * 64, items=items)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> HscDecoder:
    path = save_toy(tmp_path_factory.mktemp("toy") / "toy.safetensors")
    return load_hsc(CodecSpec(name="hsc", weights=str(path))).decoder(height=64, width=64)


@pytest.fixture(scope="module")
def streams(decoder: HscDecoder) -> list[bytes]:
    frames_nchw = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return decoder.codec.encoder(height=64, width=64).encode(frames_nchw)


def led(shift_ld: Tensor) -> Shift:
    """Return what a direction of styles alone adds: the feature follows as the generator's own does."""
    return shift_along(Direction(name="x", about="", shift_ld=shift_ld), 1.0)


def random_direction(*, has_feature: bool) -> Direction:
    random = torch.Generator().manual_seed(4)
    shift_ld = torch.randn((TOY_CONFIG.num_styles, TOY_CONFIG.style), generator=random)
    shape = (TOY_CONFIG.split_channels, TOY_CONFIG.split, TOY_CONFIG.split)
    shift_chw = torch.randn(shape, generator=random) if has_feature else None
    return Direction(name="x", about="", shift_ld=shift_ld, shift_chw=shift_chw)


def test_an_edit_moves_styles_and_feature_as_worked_out_by_hand() -> None:
    moved = move(by_hand(), led(torch.tensor([[1.0, -2.0]])), squares)

    # S' = (2, 0); F(S') - F(S) = (4 - 1, 0 - 4).
    assert moved.styles_nld.tolist() == [[[2.0, 0.0]]]
    assert moved.feature_nchw.flatten().tolist() == [13.0, 16.0]
    assert moved.core_nk.tolist() == [[0.0, 0.0, 0.0]]


def test_steps_forth_and_back_lie_symmetrically_where_the_generator_is_linear() -> None:
    shift_ld = torch.tensor([[0.25, -0.5]])

    forth = move(by_hand(), led(shift_ld), lambda styles_nld: 4 * styles_nld[:, 0, :, None, None])
    back = move(by_hand(), led(-shift_ld), lambda styles_nld: 4 * styles_nld[:, 0, :, None, None])

    assert torch.equal(forth.styles_nld + back.styles_nld, 2 * by_hand().styles_nld)
    assert torch.equal(forth.feature_nchw + back.feature_nchw, 2 * by_hand().feature_nchw)


def test_edits_add_up_in_any_order() -> None:
    edits = [Edit(name="smile", amount=2.0), Edit(name="age", amount=-1.0)]

    shift = total_shift(edits, directions())

    assert shift.led_ld.tolist() == [[0.0, -2.0]]
    assert torch.equal(total_shift(edits[::-1], directions()).led_ld, shift.led_ld)
    assert shift.feature_chw is None


def test_one_edit_after_the_other_is_both_at_once() -> None:
    first_ld, second_ld = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, -1.0]])

    both = move(by_hand(), led(first_ld + second_ld), squares)
    in_turn = move(move(by_hand(), led(first_ld), squares), led(second_ld), squares)

    assert torch.equal(both.styles_nld, in_turn.styles_nld)
    assert torch.equal(both.feature_nchw, in_turn.feature_nchw)


def test_a_direction_with_a_feature_of_its_own_moves_both_and_the_generator_does_not_follow() -> None:
    feature_chw = torch.tensor([[[3.0]], [[-1.0]]])
    glasses = Direction(name="glasses", about="", shift_ld=torch.tensor([[1.0, 1.0]]), shift_chw=feature_chw)
    both = Directions(source="toy", generator="0" * 64, items=(*directions().items, glasses))

    alone = move(by_hand(), total_shift([Edit(name="glasses", amount=2.0)], both), squares)
    with_age = move(
        by_hand(), total_shift([Edit(name="glasses", amount=2.0), Edit(name="age", amount=1.0)], both), squares
    )

    assert alone.styles_nld.tolist() == [[[3.0, 4.0]]]
    assert alone.feature_nchw.flatten().tolist() == [16.0, 18.0]
    # Age moves the first style from 1 to 2, which the generator follows: 4 - 1.
    assert with_age.styles_nld.tolist() == [[[4.0, 4.0]]]
    assert with_age.feature_nchw.flatten().tolist() == [19.0, 18.0]


@pytest.mark.parametrize("has_feature", [False, True])
def test_no_edits_and_amounts_of_zero_change_no_bit_of_the_picture(
    decoder: HscDecoder, streams: list[bytes], has_feature: bool
) -> None:
    latents = decoder.decode_latents(streams)

    moved = move(latents, shift_along(random_direction(has_feature=has_feature), 0.0), decoder.own_feature)

    assert torch.equal(decoder.render(moved.styles_nld, moved.feature_nchw), decoder.decode(streams))


@pytest.mark.parametrize("has_feature", [False, True])
def test_an_edit_changes_the_picture_and_can_be_taken_back(
    decoder: HscDecoder, streams: list[bytes], has_feature: bool
) -> None:
    latents, direction = decoder.decode_latents(streams), random_direction(has_feature=has_feature)

    moved = move(latents, shift_along(direction, 1.0), decoder.own_feature)
    back = move(moved, shift_along(direction, -1.0), decoder.own_feature)

    before = decoder.decode(streams)
    assert (decoder.render(moved.styles_nld, moved.feature_nchw) != before).float().mean() > 0.5
    difference_nchw = decoder.render(back.styles_nld, back.feature_nchw).int() - before.int()
    # Sums of float32 round: a step of 1 in 255 now and then.
    assert difference_nchw.abs().max() <= 1


def test_an_unknown_edit_names_those_that_there_are() -> None:
    with pytest.raises(CodecError, match="edit 'smlie' is unknown; toy has age, smile"):
        total_shift([Edit(name="smlie", amount=1.0)], directions())


@pytest.mark.parametrize(("text", "amount"), [("smile=+1.5", 1.5), ("smile=-2", -2.0), (" smile = 0.5", 0.5)])
def test_an_edit_is_read_from_text(text: str, amount: float) -> None:
    assert parse_edit(text) == Edit(name="smile", amount=amount)


@pytest.mark.parametrize("text", ["smile", "=1", "smile=", "smile=much", "smile=inf", "smile=nan"])
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match=r"an edit must be like smile=\+1.5"):
        parse_edit(text)


def test_a_generator_of_the_toy_has_features_of_its_own(decoder: HscDecoder) -> None:
    feature_nchw = decoder.own_feature(torch.zeros(2, TOY_CONFIG.num_styles, TOY_CONFIG.style))

    assert feature_nchw.shape == (2, TOY_CONFIG.split_channels, TOY_CONFIG.split, TOY_CONFIG.split)
