"""Tests of CompressAI's models as anchors, with random weights of few channels."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.compressai_anchors import ARCHITECTURES, architecture_class, load_anchor


def write_model(path: Path, name: str, *, has_tables: bool = False) -> Path:
    torch.manual_seed(0)
    model = architecture_class(name)(4, 6)
    if has_tables:
        model.update()
    state = model.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_real_streams_are_counted_and_decode_to_what_the_network_gives(tmp_path: Path, name: str) -> None:
    coder = load_anchor(name, write_model(tmp_path / "low.pth", name))
    frames_nchw = torch.randint(0, 256, (2, 3, 66, 70), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    (coded,) = coder.code(((frames_nchw,),), fps=25)

    assert (coder.codec, coder.setting, coder.is_intra) == (name, "low", True)
    assert coded.decoded_nchw.shape == frames_nchw.shape
    assert coded.decoded_nchw.dtype == torch.uint8
    padded_nchw = torch.nn.functional.pad(frames_nchw.float() / 255, (0, 58, 0, 62), mode="replicate")
    strings = coder.model.compress(padded_nchw)["strings"]
    assert coded.sizes == tuple(sum(len(part[n]) for part in strings) for n in range(2))
    with torch.inference_mode():
        expected_nchw = coder.model(padded_nchw)["x_hat"][:, :, :66, :70].clamp(0, 1) * 255
    # Half a value is lost in rounding. mbt2018's forward rounds y, its coder the distance from the mean: other pixels.
    tolerance = 8 if name == "mbt2018" else 0.51
    assert (coded.decoded_nchw.float() - expected_nchw).abs().max() <= tolerance


def test_files_with_tables_and_safetensors_are_read(tmp_path: Path) -> None:
    frames_nchw = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    paths = [
        write_model(tmp_path / "one.pth", "mbt2018-mean"),
        write_model(tmp_path / "two.pth", "mbt2018-mean", has_tables=True),
        write_model(tmp_path / "three.safetensors", "mbt2018-mean", has_tables=True),
    ]

    sizes = [next(iter(load_anchor("mbt2018-mean", path).code(((frames_nchw,),), fps=25))).sizes for path in paths]

    assert sizes[0] == sizes[1] == sizes[2]


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.pth", "bmshj2018-factorized")
    (tmp_path / "text.pth").write_text("weights")
    cases = [
        ("vgg16", other, "expected one of bmshj2018-factorized, .*, got 'vgg16'"),
        ("mbt2018-mean", tmp_path / "none.pth", r"mbt2018-mean: there is no file .*none\.pth"),
        ("mbt2018-mean", tmp_path / "text.pth", r"mbt2018-mean: weights .*text\.pth can't be read"),
        ("mbt2018-mean", other, r"mbt2018-mean: .*other\.pth holds no weights of it"),
    ]

    for name, path, message in cases:
        with pytest.raises(PreflightError, match=message):
            load_anchor(name, path)
