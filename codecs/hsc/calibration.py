"""What is measured on the domain's own pictures after training: from where on one is outside.

Letters in shapes: N pictures, H and W pixels.
"""

import torch
from torch import Tensor

from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.hsc.distortion import Distortion, DomainLimits, limits_of
from framevault.codecs.hsc.networks import NUM_QUALITIES

BATCH_SIZE = 16
"""Pictures that go through the networks together."""


def find_limits(codec: HscCodec, frames_nchw: Tensor) -> DomainLimits:
    """Return the limits that all but 0.5 % of some pictures of the domain keep, at each quality.

    Args:
        codec: With whole streams, at any quality.
        frames_nchw: Pictures of the domain, RGB uint8 [N, 3, H, W]; hundreds, for a quantile.
    """
    size = {"height": frames_nchw.shape[2], "width": frames_nchw.shape[3]}
    distortions = []
    for quality in range(1, NUM_QUALITIES + 1):
        encoder = codec.at_quality(quality).encoder(**size)
        found = [encoder.measure(batch_nchw) for batch_nchw in torch.split(frames_nchw, BATCH_SIZE)]
        distortions.append(
            Distortion(
                psnr_db_n=torch.cat([each.psnr_db_n for each in found]),
                ssim_n=torch.cat([each.ssim_n for each in found]),
            )
        )
    return limits_of(distortions)
