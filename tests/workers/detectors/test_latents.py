"""Tests of the network that reads latents, and of the detector that runs it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from framevault.workers.detectors.base import DetectorError, ReadsLatents
from framevault.workers.detectors.checkpoint import LatentDetectorConfig, load_latent_network, save_detector
from framevault.workers.detectors.latent_detector import LatentDetector
from framevault.workers.detectors.latents import LatentNetwork, LatentShape, fold_latent_network
from framevault.workers.detectors.mobilenet_v2 import set_precision
from framevault.workers.detectors.registry import detector_codec

CONFIG = LatentDetectorConfig(
    name="dicm_latents",
    labels=("person", "car"),
    codec_weights="ab" * 32,
    latent_channels=6,
    deep_channels=8,
    num_blocks=1,
    num_context_blocks=1,
    num_fine_blocks=1,
    num_map_blocks=1,
    pyramid_channels=8,
    nms_iou=0.6,
)
SHAPE = CONFIG.network_shape()


def toy_network() -> LatentNetwork:
    torch.manual_seed(0)
    return LatentNetwork(SHAPE).eval()


def trained_network() -> LatentNetwork:
    """A network whose normalisation has seen something, and whose last layers say something."""
    torch.manual_seed(0)
    network = LatentNetwork(SHAPE, is_normalised=True)
    for _ in range(3):
        network(3 * torch.randn(2, 6, 4, 5) + 1)
    for last in (network.heat[-1], network.distances[-1]):
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight)
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (9, 3)])
def test_the_maps_have_four_positions_to_a_latent_in_each_direction(height: int, width: int) -> None:
    heat_nchw, log_distances_nchw = toy_network()(torch.randn(2, 6, height, width))

    assert heat_nchw.shape == (2, 2, 4 * height, 4 * width)
    assert log_distances_nchw.shape == (2, 4, 4 * height, 4 * width)


def test_an_untrained_network_is_sure_of_nothing() -> None:
    heat_nchw, _ = toy_network()(torch.zeros(1, 6, 4, 4))

    assert float(heat_nchw.detach().sigmoid().max()) < 0.05


def test_the_levels_are_those_that_training_compares() -> None:
    entry_nchw, middle_nchw, map_nchw = toy_network().levels_of(torch.randn(1, 6, 3, 5))

    assert entry_nchw.shape == (1, 64, 3, 5)
    assert middle_nchw.shape == (1, 96, 3, 5)
    assert map_nchw.shape == (1, 8, 6, 10)


def test_folding_the_normalisation_changes_no_output_and_not_the_network() -> None:
    network = trained_network()
    before = copy.deepcopy(network.state_dict())
    latents_nchw = torch.randn(2, 6, 4, 5)

    folded = fold_latent_network(network)

    assert not [name for name in folded.state_dict() if ".norm." in name]
    for ours, theirs in zip(folded(latents_nchw), network(latents_nchw), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_lower_precision_leaves_the_last_layers_in_float32() -> None:
    network = fold_latent_network(trained_network())
    latents_nchw = torch.randn(1, 6, 4, 5)
    exact = network(latents_nchw)

    set_precision(network, torch.bfloat16, branches=(network.heat, network.distances))

    for ours, theirs in zip(network(latents_nchw.bfloat16()), exact, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).square().mean() / theirs.square().mean()) < 1e-3


class FixedMaps(LatentNetwork):
    """Says the same of every picture: one car in the middle of position (row 4, column 6) of stride 4."""

    def forward(self, latents_nchw: Tensor) -> tuple[Tensor, Tensor]:
        logits_nchw = torch.full((len(latents_nchw), 2, 12, 20), -20.0)
        logits_nchw[:, 1, 4, 6] = torch.logit(torch.tensor(0.75))
        logits_nchw[:, 0, 11, 3] = 5.0
        return logits_nchw, torch.full((len(latents_nchw), 4, 12, 20), 2.0).log()


def test_a_peak_becomes_a_box_and_what_lies_in_the_padding_none() -> None:
    detector = LatentDetector(FixedMaps(SHAPE), CONFIG)

    found = detector(torch.zeros(2, 6, 3, 5), height=40, width=80)

    assert [one.labels.tolist() for one in found] == [[1], [1]]
    assert found[0].scores.tolist() == pytest.approx([0.75])
    assert found[0].boxes_xyxy.tolist() == [[18, 10, 34, 26]]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (1024, 16)])
def test_frames_of_any_size_work(height: int, width: int) -> None:
    latents_nchw = torch.randn(2, 6, -(-height // 16), -(-width // 16))

    found = LatentDetector(toy_network(), CONFIG)(latents_nchw, height=height, width=width, score_floor=0.001)

    assert len(found) == 2
    for one in found:
        assert (one.boxes_xyxy >= 0).all()
        assert (one.boxes_xyxy <= [width, height, width, height]).all()


def test_no_frames_give_no_detections() -> None:
    assert LatentDetector(toy_network(), CONFIG)(torch.zeros(0, 6, 2, 2), height=32, width=32) == []


@pytest.mark.parametrize(
    "latents_nchw", [torch.zeros(1, 6, 10, 20), torch.zeros(1, 24, 3, 5), torch.zeros(1, 6, 3, 5).half()]
)
def test_what_are_no_latents_of_such_frames_is_refused(latents_nchw: Tensor) -> None:
    with pytest.raises(DetectorError, match=r"latents of frames of 80 x 40 pixels must be float32 \[N, 6, 3, 5\], got"):
        LatentDetector(toy_network(), CONFIG)(latents_nchw, height=40, width=80)


def test_a_checkpoint_gives_back_network_configuration_and_codec(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    network = toy_network()
    save_detector(path, network, CONFIG)

    loaded, config = load_latent_network(path, name="dicm_latents")
    detector = LatentDetector.from_checkpoint(path, name="dicm_latents", device="cpu")

    assert config == CONFIG
    assert loaded.shape == LatentShape(
        num_labels=2,
        latent_channels=6,
        deep_channels=8,
        num_blocks=1,
        num_context_blocks=1,
        num_fine_blocks=1,
        num_map_blocks=1,
        pyramid_channels=8,
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
    assert isinstance(detector, ReadsLatents)
    assert detector.codec_weights == detector_codec("dicm_latents", weights=str(path)) == "ab" * 32


def test_a_checkpoint_with_values_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    network = toy_network()
    with torch.no_grad():
        network.entry.weight[0, 0] = torch.nan
    save_detector(tmp_path / "toy.safetensors", network, CONFIG)

    with pytest.raises(DetectorError, match=r"toy\.safetensors: entry\.weight holds values that are no numbers"):
        load_latent_network(tmp_path / "toy.safetensors", name="dicm_latents")


def test_a_checkpoint_of_a_detector_on_features_names_no_codec(tmp_path: Path) -> None:
    from framevault.workers.detectors.registry import checkpoint_path

    assert detector_codec("mobilenet_v2") is None
    with pytest.raises(DetectorError, match="must name the codec that 'dicm_latents' reads"):
        detector_codec("dicm_latents", weights=str(checkpoint_path("mobilenet_v2")))
    with pytest.raises(DetectorError, match="must be a checkpoint of detector 'dicm_latents', got 'mobilenet_v2'"):
        load_latent_network(checkpoint_path("mobilenet_v2"), name="dicm_latents")
    with pytest.raises(DetectorError, match=r"nowhere can't be read"):
        detector_codec("dicm_latents", weights=str(tmp_path / "nowhere"))
