"""The domains whose networks have names: rows of sizes, not copies of code.

`face`, `car` and `church` have the shapes of Li et al., HSC, arXiv 2502.16799: generators of StyleGAN2's configuration
F, iresnet-50's depths in the inversion encoder, y_s of 192x2x2 and y of 8 slices of 24 channels at 8x8. Weights ship
for `face128` alone.
"""

from framevault.codecs.hsc.config import HscConfig

_CONFIG_F = (512, 512, 512, 512, 512, 256, 128, 64, 32)
"""Channels at 4, 8, ... 1024 (Karras et al., CVPR 2020, appendix B)."""


def _paper(resolution: int) -> HscConfig:
    levels = resolution.bit_length() - 2
    return HscConfig(
        resolution=resolution,
        style=512,
        channels=_CONFIG_F[:levels],
        body=(64, 128, 256, 512),
        depths=(3, 4, 14, 3),
        shrink=resolution // 256,
        style_codec="convolutions",
        core=192 * 2 * 2,
        style_hidden=192,
        wide=256,
        deep=320,
        slices=(24,) * 8,
        context=96,
    )


DOMAINS: dict[str, HscConfig] = {
    "face128": HscConfig(),
    "face": _paper(1024),
    "car": _paper(512),
    "church": _paper(256),
}
"""Sizes of each domain's networks, by name."""
