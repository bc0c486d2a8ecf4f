"""The network of the detector that reads a codec's decoded latents: no features are made of them, let alone pixels.

Latents lie at stride 16. Blocks like those of the codec's synthesis turn them into what layer 10 of MobileNetV2 gives
at that stride. Layers 11-13 follow, then a pyramid and a head like those of `mobilenet_v2.py`, but that stride 8 comes
from the latents by a pixel shuffle, that stride 32 has gated blocks, and that the maps at stride 4 are computed at
stride 8, four positions at once.

Letters in shapes: N pictures, M latent channels, C labels, h and w positions at stride 16.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from framevault.codecs.dicm.backbone import RESIDUAL_ROWS, build_layers
from framevault.codecs.layers.gated import GatedBlock
from framevault.codecs.layers.pointwise import PointwiseConv2d
from framevault.workers.detectors.mobilenet_v2 import (
    ConvUnit,
    SeparableUnit,
    folded_state,
    run_branch,
    start_unsure,
    upsample_to,
)

FIRST_LAYER, LAST_LAYER = 11, 13
"""Layers of MobileNetV2 that are used, of stride 16; those before them are what the blocks stand in for."""

SHUFFLE = 2
"""Positions of the finer grid to one of the coarser, in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentShape:
    """The sizes of the network; with the labels all that is needed to build it again."""

    num_labels: int
    """Channels of the heat map."""
    latent_channels: int = 128
    """M."""
    deep_channels: int = 160
    """U, channels of the blocks at strides 16 and 32."""
    num_blocks: int = 3
    """How many there are."""
    num_context_blocks: int = 2
    """How many there are at stride 32."""
    num_fine_blocks: int = 2
    """How many there are at stride 8, below the pyramid."""
    num_map_blocks: int = 1
    """How many there are at stride 8, above it."""
    pyramid_channels: int = 96
    """P, channels at strides 8, 16 and 32."""


class LatentNetwork(nn.Module):
    """Decoded latents in, a heat map for each label and the distances to a box's sides out.

    ::

        y [N, M, h, w] -> 1x1, gated blocks [N, U, h, w] -> 1x1 [N, 64, h, w] -> tail 11-13 [N, 96, h, w] -> 3x3 / 2,
                                 |                                                   |                    gated blocks
                     1x1, shuffle, gated block                                      1x1                [N, U, h/2, w/2]
                          [N, P, 2h, 2w]                                             |                       |
                                 |                                                   |                      1x1
                                1x1                                                  |                       |
                                 +-> separable <-------------up----- separable <-----+<----------up----------+
                                         |
                                         +-> 2 x separable -> 1x1, shuffle -> heat logits [N, C, 4h, 4w]
                                         `-> separable -> 1x1, shuffle -> log distances to left, top, right, bottom
                                                                          [N, 4, 4h, 4w]
    """

    def __init__(self, shape: LatentShape, *, is_normalised: bool = False) -> None:
        """Build the network with random weights.

        Args:
            shape: Its sizes.
            is_normalised: With batch normalisation in pyramid and head, as it is trained; shipped without.
        """
        super().__init__()
        self.shape = shape
        deep, wide, middle = shape.deep_channels, shape.pyramid_channels, RESIDUAL_ROWS[LAST_LAYER - 1].out_channels
        self.stem = nn.Sequential(PointwiseConv2d(shape.latent_channels, deep), *_gated_blocks(deep, shape.num_blocks))
        self.entry = PointwiseConv2d(deep, RESIDUAL_ROWS[FIRST_LAYER - 1].in_channels)
        self.tail = build_layers(FIRST_LAYER, LAST_LAYER + 1)
        self.context = nn.Sequential(
            nn.Conv2d(middle, deep, 3, stride=2, padding=1),
            *_gated_blocks(deep, shape.num_context_blocks),
        )
        self.fine = nn.Sequential(
            PointwiseConv2d(deep, SHUFFLE**2 * wide),
            nn.PixelShuffle(SHUFFLE),
            *_gated_blocks(wide, shape.num_fine_blocks),
        )
        self.laterals = nn.ModuleList(
            ConvUnit(channels, wide, kernel=1, is_normalised=is_normalised) for channels in (wide, middle, deep)
        )
        self.merges = nn.ModuleList(SeparableUnit(wide, wide, kernel=3, is_normalised=is_normalised) for _ in range(2))
        self.refine = nn.Sequential(*_gated_blocks(wide, shape.num_map_blocks))
        self.heat = nn.Sequential(
            SeparableUnit(wide, wide, kernel=3, is_normalised=is_normalised),
            SeparableUnit(wide, wide, kernel=3, is_normalised=is_normalised),
            PointwiseConv2d(wide, SHUFFLE**2 * shape.num_labels),
        )
        self.distances = nn.Sequential(
            SeparableUnit(wide, wide, kernel=3, is_normalised=is_normalised), PointwiseConv2d(wide, SHUFFLE**2 * 4)
        )
        self.shuffle = nn.PixelShuffle(SHUFFLE)
        start_unsure(heat=self.heat[-1], distances=self.distances[-1])

    def forward(self, latents_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return heat logits [N, C, 4h, 4w] and log distances [N, 4, 4h, 4w] in positions of stride 4."""
        return self.maps_of(self.levels_of(latents_nchw)[-1])

    def levels_of(self, latents_nchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what stands in for layer 10's output, layer 13's, and the map at stride 8.

        Training compares each with what the detector on features has there.
        """
        deep_nchw = self.stem(latents_nchw)
        entry_nchw = self.entry(deep_nchw)
        middle_nchw = self.tail(entry_nchw)
        map_nchw = self.laterals[2](self.context(middle_nchw))
        for level_nchw, number, merge in zip((middle_nchw, self.fine(deep_nchw)), (1, 0), self.merges, strict=True):
            lateral_nchw = self.laterals[number](level_nchw)
            map_nchw = merge(lateral_nchw + upsample_to(map_nchw, lateral_nchw))
        return entry_nchw, middle_nchw, map_nchw

    def maps_of(self, map_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return heat logits and log distances of the map at stride 8, [N, P, 2h, 2w]."""
        refined_nchw = self.refine(map_nchw)
        heat_nchw, distances_nchw = (run_branch(branch, refined_nchw) for branch in (self.heat, self.distances))
        return self.shuffle(heat_nchw), self.shuffle(distances_nchw)


def _gated_blocks(channels: int, count: int) -> list[GatedBlock]:
    return [GatedBlock(channels) for _ in range(count)]


def fold_latent_network(network: LatentNetwork) -> LatentNetwork:
    """Return a copy in evaluation mode whose batch normalisation is folded into its convolutions."""
    folded = LatentNetwork(network.shape)
    folded.load_state_dict(folded_state(network))
    return folded.eval().requires_grad_(False)
