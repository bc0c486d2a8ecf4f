"""How g_a, g_s and h_a are built: the paper's recursive gated convolutions and transformers, and faster ones.

Tang, Yi, Wang, DICM, IEEE Trans. Broadcasting 2025, with HorNet's g^nConv (orders 2, 3 and 4). Letters in shapes: N
pictures, C channels of the backbone's features, V wide, U deep, M latent and Z hyper-latent channels, H and W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from framevault.codecs.dicm.config import BlockKind
from framevault.codecs.layers.gated import GatedBlock
from framevault.codecs.layers.gnconv import build_hornet_block
from framevault.codecs.layers.pointwise import PointwiseConv2d
from framevault.codecs.layers.transformer import build_transformer_block


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksRow:
    """The residual blocks of g_a by resolution; g_s mirrors them."""

    build: Callable[[int, int], nn.Module]
    """Makes a block of so many channels and of such an order."""
    shallow: tuple[int, ...]
    """Orders of the blocks at stride 4, on the backbone's own channels."""
    wide: tuple[int, ...]
    """Orders of the blocks at stride 8."""
    deep: tuple[int, ...]
    """Orders of the blocks at stride 16."""


EXPANSION = 2
"""Hidden channels of the blocks' feed-forward halves over their channels. HorNet has 4, in networks without a limit to
their time a frame; this gives about as many parameters as the gated blocks have."""

ATTENTION_HEAD_CHANNELS = 32
"""Channels of a head of h_a's attention, as in Swin; widths that it does not divide get one head."""


def _hornet_block(channels: int, order: int) -> nn.Module:
    return build_hornet_block(channels, order, expansion=EXPANSION)


def _gated_block(channels: int, order: int) -> nn.Module:
    assert order == 2, "a gated block is the second-order case alone"
    return GatedBlock(channels)


BLOCKS_ROWS: dict[BlockKind, BlocksRow] = {
    "gated": BlocksRow(build=_gated_block, shallow=(), wide=(2, 2), deep=(2, 2, 2)),
    "hornet": BlocksRow(build=_hornet_block, shallow=(2,), wide=(3,), deep=(4,)),
}
"""`hornet` is the paper's. Its block at stride 4 has few weights but many positions: a seventh (float32) to a third
(bfloat16) of mobilenet_v2's time. Without it, all between strides 4 and 8 is one convolution. After 600 steps hornet's
loss was 4.5 % below that of `gated`, of which half comes from stride 4; `gated` is faster."""


class Widths(Protocol):
    """Channels of the codec's networks; `DicmConfig` has them."""

    @property
    def wide(self) -> int:
        """V, channels at stride 8, a multiple of 4."""

    @property
    def deep(self) -> int:
        """U, channels at stride 16, a multiple of 8."""

    @property
    def latent(self) -> int:
        """M, channels of y."""

    @property
    def hyper(self) -> int:
        """Z, channels of z."""


def build_analysis(widths: Widths, *, blocks: BlockKind, head_channels: int) -> nn.Sequential:
    """Build g_a: two stride-2 convolutions between blocks; the last module is the projection to y.

    ::

        f [N, C, H/4, W/4] -> shallow -> 3x3 / 2 -> [N, V, H/8, W/8] -> wide -> 3x3 / 2 -> [N, U, H/16, W/16]
                           -> deep -> 1x1 -> y [N, M, H/16, W/16]

    Args:
        widths: V, U, M.
        blocks: A key of `BLOCKS_ROWS`.
        head_channels: C, even.
    """
    row = BLOCKS_ROWS[blocks]
    return nn.Sequential(
        *_blocks(row.build, head_channels, row.shallow),
        nn.Conv2d(head_channels, widths.wide, 3, stride=2, padding=1),
        *_blocks(row.build, widths.wide, row.wide),
        nn.Conv2d(widths.wide, widths.deep, 3, stride=2, padding=1),
        *_blocks(row.build, widths.deep, row.deep),
        PointwiseConv2d(widths.deep, widths.latent),
    )


def build_synthesis(widths: Widths, *, blocks: BlockKind, head_channels: int) -> nn.Sequential:
    """Build g_s, the mirror of g_a; a stride-2 convolution's mirror is a convolution and a pixel shuffle.

    ::

        y [N, M, H/16, W/16] -> 1x1 -> [N, U, H/16, W/16] -> deep -> 1x1, shuffle -> [N, V, H/8, W/8] -> wide
                             -> 3x3, shuffle -> [N, C, H/4, W/4] -> shallow -> f [N, C, H/4, W/4]

    Args:
        widths: V, U, M.
        blocks: A key of `BLOCKS_ROWS`.
        head_channels: C, even.
    """
    row = BLOCKS_ROWS[blocks]
    return nn.Sequential(
        PointwiseConv2d(widths.latent, widths.deep),
        *_blocks(row.build, widths.deep, row.deep[::-1]),
        PointwiseConv2d(widths.deep, 4 * widths.wide),
        nn.PixelShuffle(2),
        *_blocks(row.build, widths.wide, row.wide[::-1]),
        nn.Conv2d(widths.wide, 4 * head_channels, 3, padding=1),
        nn.PixelShuffle(2),
        *_blocks(row.build, head_channels, row.shallow[::-1]),
    )


def build_hyper_analysis(widths: Widths) -> nn.Sequential:
    """Build h_a: y [N, M, H/16, W/16] -> hyper-latent z [N, Z, H/64, W/64].

    The paper's has transformer blocks (`build_transformer_hyper_analysis`); at equal steps they gained nothing, in 15
    times the time.
    """
    return nn.Sequential(
        nn.Conv2d(widths.latent, 96, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(96, widths.hyper, 3, stride=2, padding=1),
    )


def build_transformer_hyper_analysis(widths: Widths) -> nn.Sequential:
    """Build the paper's h_a: transformer blocks with downscaling, in the encoder only.

    The blocks normalise inside their branches alone, so that the latents' size, which is what z is about, stays in the
    sum. The second block's windows are shifted, so that the first one's borders are inside them::

        y [N, M, H/16, W/16] -> block -> 3x3 / 2 -> [N, M, H/32, W/32] -> block -> 3x3 / 2 -> z [N, Z, H/64, W/64]

    Args:
        widths: M, Z.
    """
    heads = 1 if widths.latent % ATTENTION_HEAD_CHANNELS else widths.latent // ATTENTION_HEAD_CHANNELS
    return nn.Sequential(
        build_transformer_block(widths.latent, num_heads=heads, expansion=2),
        nn.Conv2d(widths.latent, widths.latent, 3, stride=2, padding=1),
        build_transformer_block(widths.latent, num_heads=heads, shift=4, expansion=2),
        nn.Conv2d(widths.latent, widths.hyper, 3, stride=2, padding=1),
    )


def _blocks(build: Callable[[int, int], nn.Module], channels: int, orders: tuple[int, ...]) -> list[nn.Module]:
    return [build(channels, order) for order in orders]
