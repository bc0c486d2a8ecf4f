"""Tests of what the detector's training begins with."""

import torch

from framevault.pipeline.jobs.train.detector.start import relabel, use_plain_convolutions
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape

LABELS = ("person", "car", "face")


def make_network() -> DetectorNetwork:
    torch.manual_seed(0)
    network = DetectorNetwork(NetworkShape(num_labels=3, pyramid_channels=8, map_channels=8)).eval()
    torch.nn.init.normal_(network.heat[-1].weight, std=0.3)  # type: ignore[arg-type]  # a convolution's
    return network.requires_grad_(False)


def test_labels_of_the_same_name_are_taken_over_and_the_others_are_unsure() -> None:
    network = make_network()
    features_nchw = torch.randn(1, 24, 16, 20)

    fitted = relabel(network, LABELS, ("card", "face", "person")).eval()

    (heat_nchw, distances_nchw), (new_heat_nchw, new_distances_nchw) = network(features_nchw), fitted(features_nchw)
    assert torch.equal(new_heat_nchw[:, [1, 2]], heat_nchw[:, [2, 0]])
    assert torch.equal(new_distances_nchw, distances_nchw)
    assert new_heat_nchw[:, 0].sigmoid().max() < 0.05


def test_plain_convolutions_give_the_same() -> None:
    network = make_network()
    features_nchw = torch.randn(1, 24, 16, 20)
    before = network(features_nchw)

    use_plain_convolutions(network)

    assert not [name for name, module in network.named_modules() if type(module).__name__ == "PointwiseConv2d"]
    for one, other in zip(before, network(features_nchw), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # sums in another order
