"""The codec's float networks: g_a, g_s and h_a. What must be the same everywhere is in `entropy_model.py`.

Letters in shapes: N pictures, C channels of the backbone's features, M latent channels, Z hyper-latent channels, H and
W pixels (multiples of 64).
"""

import copy

import torch
from torch import Tensor, nn

from framevault.codecs.dicm.architectures import build_analysis, build_hyper_analysis, build_synthesis
from framevault.codecs.dicm.backbones.registry import BACKBONES
from framevault.codecs.dicm.config import DicmConfig

NUM_QUALITIES = 8
"""`quality` runs from 1 (fewest bytes) to 8."""

LATENT_STRIDE = 16
"""Pixels to a position of the latent y."""

HYPER_STRIDE = 64
"""Pixels to a position of the hyper-latent z; frames are padded to a multiple of it."""


class DicmNetworks(nn.Module):
    """The networks before and after the entropy coder, and the gains that make one model serve every quality.

    ::

        image -> head -> f -> g_a -> y -> * gain[q] -> round -> / gain[q] -> g_s -> f^
                                             `-> h_a -> z -> round -> entropy model -> scale, mean

    A gain vector a quality, as in Cui et al., "Asymmetric Gained Deep Image Compression", CVPR 2021, with its inverse
    learned apart.
    """

    def __init__(self, config: DicmConfig) -> None:
        """Build the networks with random weights."""
        super().__init__()
        self.config = config
        row = BACKBONES[config.backbone]
        self.head = row.make_head()
        self.g_a = build_analysis(config, blocks=config.blocks, head_channels=row.head_channels)
        self.g_s = build_synthesis(config, blocks=config.blocks, head_channels=row.head_channels)
        self.h_a = build_hyper_analysis(config)
        # Wherever the networks are built: the first `linspace` on `meta` takes a quarter of a second.
        with torch.device("cpu"):
            steps_q = torch.linspace(0, 1, NUM_QUALITIES)
            # Steps 1/3.5 to 1/20: latents of unit size rounded to integers would carry no information at the start.
            log_gain_q = torch.log(torch.tensor(3.5)) + steps_q * torch.log(torch.tensor(20 / 3.5))
        self.log_gain = nn.Parameter(torch.empty(NUM_QUALITIES, config.latent).copy_(log_gain_q[:, None]))
        self.log_inverse_gain = nn.Parameter(torch.empty(NUM_QUALITIES, config.latent).copy_(-log_gain_q[:, None]))
        self.register_buffer("feature_mean", torch.zeros(row.head_channels))
        self.register_buffer("feature_std", torch.ones(row.head_channels))
        self.feature_mean: Tensor
        self.feature_std: Tensor

    def analyse(self, features_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return the scaled latent y [N, M, H/16, W/16] of features [N, C, H/4, W/4]; qualities count from 0."""
        latent_nchw: Tensor = self.g_a(self.normalise(features_nchw))
        return latent_nchw * self.gain(quality_n)

    def normalise(self, features_nchw: Tensor) -> Tensor:
        """Return features with the training set's mean and standard deviation of each channel taken out."""
        return (features_nchw - self.feature_mean[:, None, None]) / self.feature_std[:, None, None]

    def gain(self, quality_n: Tensor) -> Tensor:
        """Return the gain of each latent channel, [N, M, 1, 1]; qualities count from 0."""
        return torch.exp(self.log_gain[quality_n])[:, :, None, None]

    def unscale(self, latent_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Take the gain out of a scaled latent [N, M, h, w], so that all qualities are alike; they count from 0."""
        return latent_nchw * torch.exp(self.log_inverse_gain[quality_n])[:, :, None, None]

    def synthesise(self, latent_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return features [N, C, H/4, W/4] of a scaled, rounded latent; qualities count from 0."""
        normal_nchw: Tensor = self.g_s(self.unscale(latent_nchw, quality_n))
        return normal_nchw * self.feature_std[:, None, None] + self.feature_mean[:, None, None]


class EncoderNetworks(nn.Module):
    """Head and g_a as the encoder runs them: in bfloat16 where the processor computes with it, which is twice as fast.

    Only the symbols that they lead to count, so any precision is valid. The last projection and the gain stay in
    float32: the latents themselves need more than bfloat16's eight bits.
    """

    def __init__(self, networks: DicmNetworks, dtype: torch.dtype) -> None:
        """Copy what the encoder needs; the given networks stay as they are."""
        super().__init__()
        self.dtype = dtype
        self.head = copy.deepcopy(networks.head).to(dtype)
        self.hidden = copy.deepcopy(networks.g_a[:-1]).to(dtype)
        self.networks = networks

    def forward(self, rgb_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return the scaled latent y [N, M, h, w], float32, of ImageNet-normalised RGB; qualities count from 0."""
        features_nchw = self.head(rgb_nchw.to(self.dtype)).float()
        normal_nchw = self.networks.normalise(features_nchw).to(self.dtype)
        latent_nchw: Tensor = self.networks.g_a[-1](self.hidden(normal_nchw).float())
        return latent_nchw * self.networks.gain(quality_n)
