"""Reading foreign checkpoints without running code."""

import pickle
from pathlib import Path

import pytest
import torch

from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.importing.files import read_content


class Network:
    """Stands for a class that another project pickles."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("code was run")


def network() -> Network:
    made = Network()
    made.weight = torch.zeros(2)  # type: ignore[attr-defined]  # a state to restore
    return made


def test_a_pickle_with_code_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(pickle.dumps({"G_ema": network()}))

    with pytest.raises(
        CheckpointError, match=r"ffhq\.pkl is a pickle that holds more than tensors .*G_ema\.state_dict"
    ):
        read_content(path)


def test_a_torch_file_with_code_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save({"g_ema": network()}, path)

    with pytest.raises(CheckpointError, match=r"holds more than tensors .*Network") as caught:
        read_content(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"half a download", b"\x80\x02", b"PK\x03\x04 and no more"])
@pytest.mark.parametrize("name", ["g.pt", "g.safetensors", "g.pkl"])
def test_a_damaged_file_is_refused_by_name(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_content(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        read_content(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "must hold tensors by name, holds list"),
        ({"a": torch.zeros(1), "step": 3}, "must hold dense tensors only, these are none: step"),
        ({"a": torch.zeros(2, 2).to_sparse(), "b": torch.zeros(1)}, "these are none: a"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "these are none: a"),
        ({"g_ema": {"a": torch.zeros(1)}, "latent_avg": "none"}, "latent_avg must be a dense tensor, is str"),
        ({"g_ema": {}}, "must hold a generator's tensors, holds none"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")

    with pytest.raises(CheckpointError, match=message):
        read_content(tmp_path / "x.pt")
