"""The identity cross attention: image tokens look at identity tokens.

`IdentityCrossAttention` holds the weights of a checkpoint. What runs while sampling is one of the two
modules below it: they know one identity, and everything constant is multiplied into their weights.
`folding` makes them. Both take image tokens that are normalised without an affine part, so that
several identities share one normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 128  # PuLID pulid/encoders_transformer.py PerceiverAttentionCA(dim_head=128)


@dataclass(frozen=True)
class CrossAttentionSizes:
    """Sizes of the cross attentions of one checkpoint. Values behind each field: PuLID-FLUX."""

    count: int  # 20
    image_dim: int  # 3072, the width of FLUX
    identity_dim: int  # 2048
    inner_dim: int  # 2048 = 16 heads * 128

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> CrossAttentionSizes:
        """Read the sizes from key -> shape, keys without the `pulid_ca.` prefix.

        Raises:
            KeyError: A key that carries a size is missing.
        """
        inner_dim, image_dim = shapes["0.to_q.weight"]
        return cls(
            count=sum(key.endswith(".to_q.weight") for key in shapes),
            image_dim=image_dim,
            identity_dim=shapes["0.to_kv.weight"][1],
            inner_dim=inner_dim,
        )

    @property
    def heads(self) -> int:
        """Attention heads, 16."""
        return self.inner_dim // HEAD_DIM


class IdentityCrossAttention(nn.Module):
    """The weights of one cross attention, as the checkpoint stores them."""

    def __init__(self, sizes: CrossAttentionSizes, ops: Any = nn):
        super().__init__()
        self.heads = sizes.heads
        self.norm1 = ops.LayerNorm(sizes.identity_dim)
        self.norm2 = ops.LayerNorm(sizes.image_dim)
        self.to_q = ops.Linear(sizes.image_dim, sizes.inner_dim, bias=False)
        self.to_kv = ops.Linear(sizes.identity_dim, sizes.inner_dim * 2, bias=False)
        self.to_out = ops.Linear(sizes.inner_dim, sizes.image_dim, bias=False)

    def keys_and_values(self, identity_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project identity tokens (1, N, 2048) to keys and values, (heads, N, 128) each."""
        keys, values = self.to_kv(self.norm1(identity_tokens)).chunk(2, dim=-1)
        keys, values = (x[0].unflatten(-1, (self.heads, HEAD_DIM)) for x in (keys, values))
        return keys.transpose(0, 1), values.transpose(0, 1)


class FoldedAttention(nn.Module):
    """A cross attention for one identity: two matrices with a softmax per head between them."""

    def __init__(self, sizes: CrossAttentionSizes, tokens: int, ops: Any = nn):
        super().__init__()
        self.heads = sizes.heads
        self.scores = ops.Linear(sizes.image_dim, sizes.heads * tokens)
        self.values = ops.Linear(sizes.heads * tokens, sizes.image_dim, bias=False)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Normalised image tokens (B, T, 3072) -> what the identity adds to them, same shape."""
        scores = self.scores(image_tokens).unflatten(-1, (self.heads, -1))  # (B, T, heads, N)
        attention = scores.softmax(-1, dtype=torch.float32).to(image_tokens.dtype)
        return self.values(attention.flatten(2))


class KeyValueAttention(nn.Module):
    """A cross attention for one identity with many tokens: projections, keys and values."""

    def __init__(self, sizes: CrossAttentionSizes, tokens: int, ops: Any = nn):
        super().__init__()
        self.heads = sizes.heads
        self.queries = ops.Linear(sizes.image_dim, sizes.inner_dim)
        self.identity = KeysAndValues(sizes.heads, tokens)
        self.out = ops.Linear(sizes.inner_dim, sizes.image_dim, bias=False)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Normalised image tokens (B, T, 3072) -> what the identity adds to them, same shape."""
        queries = self.queries(image_tokens).unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)
        keys, values = self.identity(queries)
        # The scale is part of the keys.
        out = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        return self.out(out.transpose(1, 2).flatten(2))


class KeysAndValues(nn.Module):
    """What one identity brings to one attention. Not a layer that casts, so it moves by itself."""

    def __init__(self, heads: int, tokens: int):
        super().__init__()
        self.keys = nn.Parameter(torch.empty(1, heads, tokens, HEAD_DIM), requires_grad=False)
        self.values = nn.Parameter(torch.empty(1, heads, tokens, HEAD_DIM), requires_grad=False)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values (B, heads, N, 128) with the device and dtype of the queries."""
        rows = len(queries)
        keys, values = self.keys.to(queries), self.values.to(queries)
        return keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)


class IdentityAttentions(nn.ModuleList):
    """All attentions of one checkpoint for one identity, in injection order."""
