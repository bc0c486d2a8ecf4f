"""Stage 1: the backbone and RE learn by themselves, under a rate, which parts of a picture tell it from others.

MoCo v2 (He et al., CVPR 2020, arXiv 1911.05722; Chen et al., arXiv 2003.04297) on views that `semantic_crops.py` and
`views.py` draw, with the loss of DICM (Tang, Yi, Wang, IEEE Trans. Broadcasting 2025): InfoNCE + 0.1 rate + 0.1
L1(f1, f2). Letters in shapes: N pictures, D embedding, Q queue, K channels of the last stage, C channels of f1, H and W
pixels.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.dicm.redundancy import RedundancyElimination, RedundancyLosses, eliminate_redundancy

STAGE_1_RATE_WEIGHT = 0.1
"""Weight of the rate against InfoNCE."""

STAGE_1_FEATURE_WEIGHT = 0.1
"""Weight of L1(f1, f2) against InfoNCE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastConfig:
    """Settings of the contrast; the defaults are MoCo v2's."""

    embedding: int = 128
    """D, length of an embedding."""
    queue: int = 65536
    """Q, keys of earlier batches that serve as negatives: a multiple of the batch."""
    momentum: float = 0.999
    """Share of the key encoder's weights that stays at each step."""
    temperature: float = 0.2
    """Similarities are divided by it."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A value is out of its range.
        """
        if self.embedding < 1 or self.queue < 1:
            raise ValueError(f"embedding and queue must be at least 1, got {self.embedding} and {self.queue}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must be within 0 to 1, got {self.momentum}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")


class SemanticEncoder(nn.Module):
    """Backbone with RE in its middle, and a projection to embeddings.

    ::

        rgb [N, 3, H, W] -> head -> f1 [N, C, H/4, W/4] -> RE -> f2 -> tail -> last [N, K, H/32, W/32]
                         -> mean -> linear, relu, linear -> / length -> [N, D]
    """

    def __init__(
        self,
        *,
        head: nn.Module,
        redundancy: RedundancyElimination,
        density: nn.Module,
        tail: nn.Module,
        last_channels: int,
        embedding: int,
    ) -> None:
        """Put the parts together; the projection starts at random.

        Args:
            head: rgb -> f1.
            redundancy: RE.
            density: Of RE's bottleneck: an `EntropyBottleneck` of its channels, in training mode.
            tail: f2 -> the last stage's features.
            last_channels: K.
            embedding: D.
        """
        super().__init__()
        self.head = head
        self.redundancy = redundancy
        self.density = density
        self.tail = tail
        # MoCo v2's head: a hidden layer as wide as the features; it goes when the training ends.
        self.project = nn.Sequential(
            nn.Linear(last_channels, last_channels), nn.ReLU(), nn.Linear(last_channels, embedding)
        )

    def forward(self, rgb_nchw: Tensor) -> tuple[Tensor, RedundancyLosses]:
        """Return embeddings [N, D] and RE's losses of normalised pictures [N, 3, H, W]."""
        num_pixels = rgb_nchw.shape[2] * rgb_nchw.shape[3]
        restored_nchw, losses = eliminate_redundancy(
            self.redundancy, self.density, features_nchw=self.head(rgb_nchw), num_pixels=num_pixels
        )
        return self.embed(self.tail(restored_nchw)), losses

    def last_features(self, rgb_nchw: Tensor) -> Tensor:
        """Return the last stage's features [N, K, H/32, W/32]: what embeddings and heat maps are made of."""
        last_nkhw: Tensor = self.tail(self.redundancy(self.head(rgb_nchw)))
        return last_nkhw

    def embed(self, last_nkhw: Tensor) -> Tensor:
        """Return the embeddings of last features, of length 1, [N, D]."""
        return functional.normalize(self.project(last_nkhw.mean(dim=(2, 3))), dim=1)


def info_nce(query_nd: Tensor, key_nd: Tensor, *, queue_qd: Tensor, temperature: float) -> Tensor:
    """Return the loss of telling each query's own key from the queue's, in nats, [N] (MoCo, equation 1).

    Args:
        query_nd: Embeddings of one view, of length 1.
        key_nd: Of the other view, of length 1; no gradient should flow into it.
        queue_qd: Negatives, of length 1.
        temperature: What similarities are divided by.
    """
    positive_n1 = (query_nd * key_nd).sum(dim=1, keepdim=True)
    logits = torch.cat([positive_n1, query_nd @ queue_qd.T], dim=1) / temperature
    return torch.logsumexp(logits, dim=1) - logits[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastLosses:
    """One batch's losses, each a vector over the pictures [N], and the keys to remember."""

    contrast: Tensor
    """InfoNCE, in nats."""
    redundancy: RedundancyLosses
    """Rate and L1 of RE on the query view."""
    key_nd: Tensor
    """Embeddings of the key view: `Contrast.remember` takes them once the step is done."""

    def total(self) -> Tensor:
        """Return the weighted sum, [N]."""
        weights = {"rate_weight": STAGE_1_RATE_WEIGHT, "feature_weight": STAGE_1_FEATURE_WEIGHT}
        return self.contrast + self.redundancy.total(**weights)


class Contrast(nn.Module):
    """The whole state of stage 1: encoder, momentum encoder, queue. `state_dict` has all of it.

    One step of a loop that owns the data and the optimiser (of `encoder.parameters()` alone)::

        boxes_n4 = object_boxes(heat_map(contrast.last_features(rgb_nchw)), threshold)    # every few epochs
        query_nchw, key_nchw = two crops of each picture by `sample_crops` and `crop_and_resize`, each through `vary`
        losses = contrast(query_nchw, key_nchw)
        losses.total().mean().backward(); optimiser.step()
        contrast.remember(losses.key_nd)

    MoCo shuffles batches over GPUs because statistics of batch normalisation tell which pictures belong together. Our
    backbones have it folded into the convolutions, so there is nothing to hide.
    """

    def __init__(self, encoder: SemanticEncoder, config: ContrastConfig) -> None:
        """Copy the encoder to a momentum encoder and fill the queue with random directions.

        Args:
            encoder: What is trained; kept, not copied.
            config: Its `embedding` must be the encoder's.
        """
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue_qd", functional.normalize(torch.randn(config.queue, config.embedding), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.queue_qd: Tensor
        self.oldest: Tensor

    def forward(self, query_nchw: Tensor, key_nchw: Tensor) -> ContrastLosses:
        """Return the losses of two views of each picture; changes no state.

        Args:
            query_nchw: One view of each picture, normalised, [N, 3, H, W].
            key_nchw: Another view of the same pictures.
        """
        query_nd, redundancy = self.encoder(query_nchw)
        with torch.no_grad():
            key_nd = self.momentum_encoder.embed(self.momentum_encoder.last_features(key_nchw))
        contrast_n = info_nce(query_nd, key_nd, queue_qd=self.queue_qd, temperature=self.config.temperature)
        return ContrastLosses(contrast=contrast_n, redundancy=redundancy, key_nd=key_nd)

    @torch.no_grad()
    def last_features(self, rgb_nchw: Tensor) -> Tensor:
        """Return the last features of whole pictures for their heat maps, by the momentum encoder, the steadier one."""
        return self.momentum_encoder.last_features(rgb_nchw)

    @torch.no_grad()
    def remember(self, key_nd: Tensor) -> None:
        """Move the momentum encoder towards the encoder, and these keys into the queue for the oldest ones.

        Call it after the backward pass, which still needs the queue as it was.

        Raises:
            ValueError: The queue is no multiple of the batch, so that the keys would not fit in turn.
        """
        if self.config.queue % len(key_nd):
            raise ValueError(f"the queue must be a multiple of the batch, got {self.config.queue} and {len(key_nd)}")
        for key, query in zip(self.momentum_encoder.parameters(), self.encoder.parameters(), strict=True):
            key.lerp_(query, 1 - self.config.momentum)
        start = int(self.oldest)
        self.queue_qd[start : start + len(key_nd)] = key_nd
        self.oldest.fill_((start + len(key_nd)) % self.config.queue)
