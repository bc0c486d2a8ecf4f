"""Generators of other projects give the same pictures as ours, or a clear error."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from framevault.codecs.errors import CheckpointError
from framevault.codecs.hsc.domains import DOMAINS
from framevault.codecs.hsc.generator import Generator
from framevault.codecs.hsc.importing.generators import import_generator, load_generator, save_generator
from framevault.codecs.hsc.mapping import MappingNetwork
from tests.codecs.hsc.importing.foreign import run_ada, run_mapping, run_rosinality, to_ada, to_rosinality
from tests.codecs.hsc.small import SMALL, small_generator

TOLERANCE = 1e-4
"""The issue's."""

DEPTH = 3
"""Layers of the mapping network; those in the wild have 8 or 2."""

Export = Callable[[Generator, MappingNetwork], dict[str, Tensor]]
Run = Callable[[Mapping[str, Tensor], Tensor], Tensor]

LAYOUTS = {"rosinality": (to_rosinality, run_rosinality), "ada": (to_ada, run_ada)}


@pytest.fixture(autouse=True)
def _small_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, "small", SMALL)


def small_mapping() -> MappingNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        mapping = MappingNetwork(width=6, style=SMALL.style, depth=DEPTH)
        for layer in mapping.layers:
            torch.nn.init.normal_(layer.bias)  # type: ignore[arg-type]  # torch types bias as optional
        mapping.mean.normal_()
    return mapping


def write(tensors: Mapping[str, object], path: Path) -> Path:
    torch.save(dict(tensors), path)
    return path


def exported(layout: str) -> dict[str, Tensor]:
    return LAYOUTS[layout][0](small_generator(), small_mapping())


def random_styles() -> Tensor:
    return torch.randn(1, SMALL.num_styles, SMALL.style, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("layout", ["rosinality", "ada"])
def test_the_picture_is_that_of_the_other_project(layout: str, tmp_path: Path) -> None:
    tensors = exported(layout)
    styles_nld = random_styles()

    imported = import_generator(write(tensors, tmp_path / "g.pt"), domain="small")

    assert imported.layout == layout
    expected_3hw = LAYOUTS[layout][1](tensors, styles_nld[0])
    with torch.inference_mode():
        rgb_3hw = imported.parts.generator(styles_nld)[0].double()
    assert expected_3hw.std() > 0.1
    torch.testing.assert_close(rgb_3hw, expected_3hw, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(("layout", "key", "first"), [("rosinality", "style.{}", 1), ("ada", "mapping.fc{}", 0)])
def test_the_styles_are_those_of_the_other_project(layout: str, key: str, first: int, tmp_path: Path) -> None:
    tensors = exported(layout)
    z_nz = torch.randn(2, 6, generator=torch.Generator().manual_seed(5))

    mapping = import_generator(write(tensors, tmp_path / "g.pt"), domain="small").parts.mapping

    def dense(number: int) -> tuple[Tensor, Tensor]:
        name = key.format(number + first)
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    with torch.inference_mode():
        w_nd = mapping(z_nz).double()
    expected_nd = torch.stack([run_mapping(dense, z_z, depth=DEPTH) for z_z in z_nz])
    torch.testing.assert_close(w_nd, expected_nd, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_training_checkpoint_gives_its_averaged_generator(tmp_path: Path) -> None:
    tensors = exported("rosinality")
    content = {
        "g": {name: torch.zeros_like(tensor) for name, tensor in tensors.items()},
        "d": {"convs.0.0.weight": torch.zeros(1)},
        "g_ema": tensors,
        "g_optim": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(size=64, lr=0.002),
        "latent_avg": small_mapping().mean,
    }

    imported = import_generator(write(content, tmp_path / "g.pt"), domain="small")

    assert imported.unused == ("g", "d", "g_optim", "args")
    assert imported.has_mean
    assert torch.equal(imported.parts.mapping.mean, small_mapping().mean)
    assert torch.equal(imported.parts.generator.constant, tensors["input.input"])


def test_a_psp_checkpoint_gives_its_decoder_and_names_the_rest(tmp_path: Path) -> None:
    decoder = {f"decoder.{name}": tensor for name, tensor in exported("rosinality").items()}
    content = {
        "state_dict": {"encoder.input_layer.0.weight": torch.zeros(4, 3, 3, 3), **decoder},
        "latent_avg": small_mapping().mean.expand(SMALL.num_styles, -1),
        "opts": {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True},
    }

    imported = import_generator(write(content, tmp_path / "psp.pt"), domain="small")

    assert imported.layout == "psp"
    assert imported.unused == ("encoder.input_layer.0.weight", "opts")
    torch.testing.assert_close(imported.parts.mapping.mean, small_mapping().mean)
    with torch.inference_mode():
        rgb_nchw = imported.parts.generator(random_styles())
        expected_nchw = small_generator()(random_styles())
    torch.testing.assert_close(rgb_nchw, expected_nchw, atol=TOLERANCE, rtol=TOLERANCE)


def test_safetensors_are_read(tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in exported("ada").items()}
    save_file(tensors, tmp_path / "g.safetensors")

    imported = import_generator(tmp_path / "g.safetensors", domain="small", layout="ada")

    assert torch.equal(imported.parts.mapping.mean, tensors["mapping.w_avg"])


def test_without_a_mean_style_it_is_measured(tmp_path: Path) -> None:
    imported = import_generator(write(exported("rosinality"), tmp_path / "g.pt"), domain="small")

    z_nz = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        expected_d = imported.parts.mapping(z_nz).mean(dim=0)
    assert not imported.has_mean
    torch.testing.assert_close(imported.parts.mapping.mean, expected_d, atol=0.05, rtol=0.05)


def test_other_channels_than_the_domain_s_are_taken_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    monkeypatch.setitem(DOMAINS, "small", dataclasses.replace(SMALL, channels=(12, 12, 12, 12, 12), style=20))

    imported = import_generator(write(exported("ada"), tmp_path / "g.pt"), domain="small")

    assert imported.parts.config.channels == SMALL.channels
    assert imported.parts.config.style == SMALL.style


def test_a_stored_generator_is_read_back(tmp_path: Path) -> None:
    parts = import_generator(write(exported("ada"), tmp_path / "g.pt"), domain="small").parts

    save_generator(parts, tmp_path / "own.safetensors")
    again = load_generator(tmp_path / "own.safetensors")

    assert again.config == parts.config
    with torch.inference_mode():
        assert torch.equal(again.generator(random_styles()), parts.generator(random_styles()))
    assert torch.equal(again.mapping.mean, parts.mapping.mean)


def test_a_stored_generator_without_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint

    path = tmp_path / "own.safetensors"
    save_generator(import_generator(write(exported("ada"), tmp_path / "g.pt"), domain="small").parts, path)
    tensors, config = load_checkpoint(path, codec="hsc-generator")
    assert load_file(path).keys() == tensors.keys()
    del tensors["generator.first.bias"]
    save_checkpoint(path, tensors, codec="hsc-generator", config=config)

    with pytest.raises(CheckpointError, match=r"missing or unknown: generator\.first\.bias"):
        load_generator(path)


def test_every_missing_unknown_and_misshapen_key_is_named(tmp_path: Path) -> None:
    tensors = exported("ada")
    del tensors["synthesis.b8.conv0.weight"]
    tensors["synthesis.b8.conv3.weight"] = torch.zeros(1)
    tensors["synthesis.b16.torgb.weight"] = torch.zeros(4, 7, 1, 1)
    tensors["synthesis.b4.const"] = torch.full((10, 4, 4), torch.nan)

    with pytest.raises(CheckpointError) as caught:
        import_generator(write(tensors, tmp_path / "g.pt"), domain="small")

    message = str(caught.value)
    assert "missing: synthesis.b8.conv0.weight" in message
    assert "unknown: synthesis.b8.conv3.weight" in message
    assert "synthesis.b16.torgb.weight must be [3, 7, 1, 1], is [4, 7, 1, 1]" in message
    assert "no finite numbers: synthesis.b4.const" in message


def test_wrong_keys_of_a_decoder_are_named_as_in_the_file(tmp_path: Path) -> None:
    tensors = {f"decoder.{name}": tensor for name, tensor in exported("rosinality").items()}
    del tensors["decoder.convs.0.noise.weight"]

    with pytest.raises(CheckpointError, match=r"missing: decoder\.convs\.0\.noise\.weight"):
        import_generator(write({"state_dict": tensors}, tmp_path / "g.pt"), domain="small")


def test_another_resolution_is_refused(tmp_path: Path) -> None:
    path = write(exported("ada"), tmp_path / "g.pt")

    with pytest.raises(CheckpointError, match="64 x 64 pixels, domain 'church' has 256 x 256; domains of 64: small"):
        import_generator(path, domain="church")


def test_an_unknown_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="domain must be one of face128, face, car, church, small, got 'cat'"):
        import_generator(write(exported("ada"), tmp_path / "g.pt"), domain="cat")


def test_another_network_s_keys_are_refused(tmp_path: Path) -> None:
    path = write({"features.0.weight": torch.zeros(1)}, tmp_path / "g.pt")

    with pytest.raises(CheckpointError, match=r"must have keys as rosinality's .* got features\.0\.weight"):
        import_generator(path, domain="small")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mapping.embed.weight", torch.zeros(12, 10), "with class labels"),
        ("synthesis.b8.skip.weight", torch.zeros(9, 10, 1, 1), "of the residual kind"),
        ("synthesis.b8.conv0.resample_filter", torch.full((4, 4), 1 / 16), "must be the filter"),
        ("mapping.w_avg", torch.zeros(5), "mean style must be 12 numbers"),
    ],
)
def test_what_would_be_another_network_is_refused(key: str, value: Tensor, message: str, tmp_path: Path) -> None:
    path = write({**exported("ada"), key: value}, tmp_path / "g.pt")

    with pytest.raises(CheckpointError, match=message):
        import_generator(path, domain="small")


def test_a_mean_that_differs_between_layers_is_refused(tmp_path: Path) -> None:
    content = {"g_ema": exported("rosinality"), "latent_avg": torch.randn(SMALL.num_styles, SMALL.style)}

    with pytest.raises(CheckpointError, match="the same for all layers"):
        import_generator(write(content, tmp_path / "g.pt"), domain="small")
