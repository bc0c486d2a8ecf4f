"""GIE, the general inversion encoder: a picture to styles and a mid-level feature.

Li et al., HSC, arXiv 2502.16799, IEEE TIP 2025. The body is iresnet's (Deng et al., ArcFace, CVPR 2019, arXiv
1801.07698): batch norm before each convolution, PReLU. We differ in the style heads: the paper's, one linear layer a
style on pooled features, are 80 of its 114 million parameters; ours share a trunk and a low-rank last layer. Letters in
shapes: N pictures, L styles of D values, C channels of the feature.
"""

import torch
from torch import Tensor, nn

from framevault.codecs.hsc.config import HscConfig


class ResidualUnit(nn.Module):
    """iresnet's unit.

    ::

        x -> norm -> 3x3 -> norm, prelu -> 3x3 / stride -> norm -> + shortcut(x)
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        """Build the unit."""
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        is_same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity()
            if is_same
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the features, the side divided by the stride."""
        out_nchw: Tensor = self.body(x_nchw) + self.shortcut(x_nchw)
        return out_nchw


def _stage(in_channels: int, out_channels: int, *, depth: int, stride: int) -> nn.Sequential:
    first = ResidualUnit(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(ResidualUnit(out_channels, out_channels, stride=1) for _ in range(1, depth)))


class InversionEncoder(nn.Module):
    """A picture to its styles S and feature f.

    ::

        rgb [N, 3, R, R] -> mean of shrink x shrink -> [N, 3, Q, Q] -> 3x3 / 2 -> units -> [Q/2] -> units / 2 -> [Q/4]
            -> units / 2 -> [Q/8] -> norm, 3x3 (/ 2), norm, prelu, 3x3 -> f [N, C, split, split]
                              |-> further units / 2 -> pooled, with this level's own -> trunk -> styles [N, L, D]

    iresnet's stem has no stride: ours, with a quarter of the work at the first level, is for CPUs.
    """

    def __init__(self, config: HscConfig) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.config = config
        widths = config.body
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        self.stages = nn.ModuleList(
            _stage(before, after, depth=depth, stride=1 if number == 0 else 2)
            for number, (before, after, depth) in enumerate(
                zip((widths[0], *widths), widths, config.depths, strict=False)
            )
        )
        self.content = nn.Sequential(
            nn.BatchNorm2d(widths[2]),
            nn.Conv2d(widths[2], widths[2], 3, stride=config.content_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[2]),
            nn.PReLU(widths[2]),
            nn.Conv2d(widths[2], config.split_channels, 3, padding=1),
        )
        pooled = sum(widths[2:]) + 16 * widths[-1]
        self.trunk = nn.Sequential(
            nn.Linear(pooled, config.style_rank),
            nn.LayerNorm(config.style_rank),
            nn.PReLU(config.style_rank),
            nn.Linear(config.style_rank, config.style_rank),
        )
        self.styles = nn.Linear(config.style_rank, config.num_styles * config.style)

    def forward(self, rgb_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """Return styles [N, L, D] and the feature [N, C, split, split] of RGB in -1..1."""
        x_nchw = self.stem(self.shrink(rgb_nchw))
        levels: list[Tensor] = []
        for stage in self.stages:
            x_nchw = stage(x_nchw)
            levels.append(x_nchw)
        return self.styles_of(levels), self.content(levels[2])

    def shrink(self, rgb_nchw: Tensor) -> Tensor:
        """Return a picture of the side that the body is made for."""
        factor = self.config.shrink
        return rgb_nchw if factor == 1 else nn.functional.avg_pool2d(rgb_nchw, factor)

    def styles_of(self, levels: list[Tensor]) -> Tensor:
        """Return styles [N, L, D] of what the stages gave."""
        pooled = [level_nchw.mean(dim=(2, 3)) for level_nchw in levels[2:]]
        # The last level whole, too: where eyes and mouth are is lost by pooling.
        pooled.append(nn.functional.adaptive_avg_pool2d(levels[-1], 4).flatten(1))
        styles_nm: Tensor = self.styles(self.trunk(torch.cat(pooled, dim=1)))
        return styles_nm.reshape(-1, self.config.num_styles, self.config.style)
