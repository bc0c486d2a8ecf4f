"""Latent channels that fell silent, brought back.

A channel whose symbols are all zero has no gradient that could revive it: the decoder does not listen to it, so nothing
is gained by a louder one, and bits are paid for trying. It begins anew as a principal component of what the analysis
knows and the living channels don't say.

Letters in shapes: N pictures, U channels of the analysis's last hidden layer, M latent channels, K of them living, P
positions of all pictures, g the side of the latent's grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framevault.codecs.hsc.networks import FeatureCodec, first_log_gain
from framevault.codecs.hsc.training import TrainedModels
from framevault.pipeline.jobs.train.codec_start import MIDDLE_SCALE

LEAST_USED = 0.01
"""Share of a channel's latents, at the highest quality, that must be nearer to another symbol than to their mean's."""

LISTENING_STD = 0.02
"""Of the decoder's random weights for a revived channel: too small to disturb it, and no zeros, which learn nothing."""

EIGENVALUE_FLOOR = 1e-6
"""Of a component's variance over the first one's: what is less is rounding errors."""


@torch.no_grad()
def revive_channels(models: TrainedModels, rgb_batches: Sequence[Tensor]) -> int:
    """Give silent channels new directions, gains and scales; the others stay as they are.

    Args:
        models: The codec under training; changed.
        rgb_batches: Pictures in -1..1, [N, 3, R, R] each: together some thousands of positions of the latent.

    Returns:
        How many channels were silent.
    """
    codec = models.networks.feature_codec
    hidden_pu = torch.cat([_hidden(models, rgb_nchw) for rgb_nchw in rgb_batches]).double()
    last, first = codec.analysis[-1], codec.expand[0]
    assert isinstance(last, nn.Conv2d)
    assert isinstance(first, nn.Conv2d)
    assert last.bias is not None
    mean_u = hidden_pu.mean(dim=0)
    centred_pu = hidden_pu - mean_u
    weight_mu = last.weight[:, :, 0, 0].double()
    y_pm = centred_pu @ weight_mu.T * codec.log_gain[-1].double().exp()
    is_used_m = y_pm.abs().gt(0.5).double().mean(dim=0) >= LEAST_USED
    silent = torch.nonzero(~is_used_m)[:, 0]
    if len(silent) == 0:
        return 0
    unsaid_uu = _unsaid(centred_pu, weight_mu[is_used_m])
    directions_ku = _components(centred_pu @ unsaid_uu, num_components=len(silent)) @ unsaid_uu.T
    silent = silent[: len(directions_ku)]
    last.weight[silent] = directions_ku.to(last.weight)[:, :, None, None]
    last.bias[silent] = -(directions_ku @ mean_u).to(last.bias)
    first.weight[:, silent] = LISTENING_STD * torch.randn_like(first.weight[:, silent])
    _start_gains(codec, silent)
    _start_parameters(models, silent)
    return len(silent)


def _hidden(models: TrainedModels, rgb_nchw: Tensor) -> Tensor:
    """Return what the analysis's last layer sees, at each position, [P, U]."""
    networks = models.networks
    styles_nld, feature_nchw = networks.inversion(rgb_nchw)
    decoded_nld = networks.style_codec.synthesise(torch.round(networks.style_codec.analyse(styles_nld)))
    own_nchw, _ = networks.generator.lower(decoded_nld)
    hidden_nugg: Tensor = networks.feature_codec.analysis[:-1](torch.cat([feature_nchw, own_nchw], dim=1))
    return hidden_nugg.permute(0, 2, 3, 1).flatten(0, 2)


def _unsaid(centred_pu: Tensor, living_ku: Tensor) -> Tensor:
    """Return what takes from hidden values all that living channels say of them linearly, [U, U]."""
    said_pk = centred_pu @ living_ku.T
    known_ku = torch.linalg.lstsq(said_pk, centred_pu).solution if len(living_ku) else living_ku
    return torch.eye(centred_pu.shape[1], dtype=centred_pu.dtype, device=centred_pu.device) - living_ku.T @ known_ku


def _components(rest_pu: Tensor, *, num_components: int) -> Tensor:
    """Return principal directions, the first scaled to a unit variance and the others as the first, [K, U]."""
    values_u, vectors_uu = torch.linalg.eigh(rest_pu.T @ rest_pu / len(rest_pu))
    order = torch.argsort(values_u, descending=True)[:num_components]
    largest = values_u[order[0]].clamp_min(torch.finfo(torch.float64).tiny)
    is_real_k = values_u[order] > EIGENVALUE_FLOOR * largest
    scaled_uk: Tensor = vectors_uu[:, order] * is_real_k / largest.sqrt()
    return scaled_uk.T


def _start_gains(codec: FeatureCodec, silent: Tensor) -> None:
    """Let each quality round the first component, of unit variance, as training from random networks begins."""
    log_gain_q1 = first_log_gain().to(codec.log_gain)[:, None]
    codec.log_gain[:, silent] = log_gain_q1
    codec.log_inverse_gain[:, silent] = -log_gain_q1


def _start_parameters(models: TrainedModels, silent: Tensor) -> None:
    """Let the entropy model expect middling symbols around zero where it expected none."""
    start = 0
    for number, size in enumerate(models.entropy.slices):
        mine = silent[(silent >= start) & (silent < start + size)] - start
        for layers, bias in ((models.entropy.scales, MIDDLE_SCALE), (models.entropy.means, 0.0)):
            layer = layers[number].get_submodule("conv")
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.weight[mine] = 0.0
            layer.bias[mine] = bias
        start += size
