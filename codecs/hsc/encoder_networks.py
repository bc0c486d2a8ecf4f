"""The encoder's float networks as they run: batch norms folded away, in the precision that is fastest.

Only the symbols that they lead to count, so any precision is valid. What is summed up over a picture (pooled levels)
and the latents themselves need more than bfloat16's eight bits and stay in float32.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from framevault.codecs.hsc.networks import HscNetworks


class EncoderNetworks(nn.Module):
    """Inversion encoder and the feature codec's analysis.

    ::

        rgb [N, 3, R, R] -> inversion -> styles [N, L, D], f [N, C, s, s]
        f, F(S^) -> analysis -> y [N, M, s/2, s/2]
    """

    def __init__(self, networks: HscNetworks, dtype: torch.dtype) -> None:
        """Copy what the encoder needs; the given networks, in evaluation mode, stay as they are."""
        super().__init__()
        self.dtype = dtype
        self.networks = networks
        inversion = copy.deepcopy(networks.inversion)
        _fold_norms(inversion)
        self.stem = inversion.stem.to(dtype)
        self.stages = inversion.stages.to(dtype)
        self.content = inversion.content.to(dtype)
        self.inversion = inversion
        self.hidden = copy.deepcopy(networks.feature_codec.analysis[:-1]).to(dtype)

    def fast_precision(self) -> torch.autocast:
        """Return a context in which networks that are not copied here run in the same precision."""
        device = next(self.networks.parameters()).device
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)

    def invert(self, rgb_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return styles [N, L, D] and the feature [N, C, s, s], float32, of RGB in -1..1."""
        x_nchw = self.stem(self.inversion.shrink(rgb_nchw).to(self.dtype))
        levels: list[Tensor] = []
        for stage in self.stages:
            x_nchw = stage(x_nchw)
            levels.append(x_nchw)
        styles_nld = self.inversion.styles_of([level_nchw.float() for level_nchw in levels])
        return styles_nld, self.content(levels[2]).float()

    def analyse(self, feature_nchw: Tensor, own_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return the scaled latent y [N, M, s/2, s/2], float32; qualities count from 0."""
        codec = self.networks.feature_codec
        hidden_nchw = self.hidden(torch.cat([feature_nchw, own_nchw], dim=1).to(self.dtype))
        y_nmgg: Tensor = codec.analysis[-1](hidden_nchw.float()) * codec.gain(quality_n)
        return y_nmgg


def _fold_norms(module: nn.Module) -> None:
    """Fold every batch norm that follows a convolution in a sequence into it."""
    for child in module.modules():
        if not isinstance(child, nn.Sequential):
            continue
        for number in range(1, len(child)):
            before, norm = child[number - 1], child[number]
            if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                child[number - 1] = fuse_conv_bn_eval(before, norm)
                child[number] = nn.Identity()
