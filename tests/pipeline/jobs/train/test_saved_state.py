"""States come back as they were, and a kill between two renames costs nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn

from framevault.pipeline.jobs.train.errors import TrainingError
from framevault.pipeline.jobs.train.saved_state import load_state, previous_of, save_state


def adam_state() -> dict[str, object]:
    """Return the state of an optimiser that has made a step."""
    layer = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return optimiser.state_dict()


def test_an_optimisers_state_comes_back_whole(tmp_path: Path) -> None:
    before = adam_state()

    save_state(tmp_path / "state.safetensors", {"optimiser": before, "step": 3, "none": None, "name": "codec"})
    after = load_state(tmp_path / "state.safetensors")

    assert after is not None
    assert (after["step"], after["none"], after["name"]) == (3, None, "codec")
    optimiser = after["optimiser"]
    assert isinstance(optimiser, dict)
    assert optimiser.keys() == before.keys()
    torch.testing.assert_close(optimiser["state"], before["state"], rtol=0, atol=0)
    # JSON knows no tuples; AdamW takes its betas as a list as well.
    assert [*optimiser["param_groups"][0]] == [*before["param_groups"][0]]  # type: ignore[index]  # a dict of lists


def test_tensors_that_share_memory_or_lie_in_another_order_come_back(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(1, 2, 3, 4)

    save_state(
        tmp_path / "s", {"whole": whole, "part": whole[0, 0], "last": whole.to(memory_format=torch.channels_last)}
    )
    after = load_state(tmp_path / "s")

    assert after is not None
    for name, expected in (("whole", whole), ("part", whole[0, 0]), ("last", whole)):
        assert torch.equal(torch.as_tensor(after[name]), expected)


def test_the_state_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"

    save_state(path, {"step": 1})
    save_state(path, {"step": 2})

    assert load_state(path) == {"step": 2}
    assert load_state(previous_of(path)) == {"step": 1}


def test_killed_between_the_renames_the_state_before_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    save_state(path, {"step": 1})

    path.rename(previous_of(path))

    assert load_state(path) == {"step": 1}


def test_there_is_no_state_where_nothing_was_saved(tmp_path: Path) -> None:
    assert load_state(tmp_path / "codec.safetensors") is None


def test_a_damaged_state_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    save_state(path, {"weights": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(TrainingError, match=r"damaged .* put codec.previous.safetensors in its place"):
        load_state(path)


def test_what_is_no_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got Linear"):
        save_state(tmp_path / "s", {"layer": nn.Linear(1, 1)})
