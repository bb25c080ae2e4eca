"""The identity cross attention: image tokens look at identity tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


class IdentityCrossAttention(nn.Module):
    """One cross attention from image tokens to identity tokens, without position."""

    def __init__(self, sizes: CrossAttentionSizes, ops: Any = nn):
        super().__init__()
        self.heads = sizes.inner_dim // HEAD_DIM
        self.norm1 = ops.LayerNorm(sizes.identity_dim)
        self.norm2 = ops.LayerNorm(sizes.image_dim)
        self.to_q = ops.Linear(sizes.image_dim, sizes.inner_dim, bias=False)
        self.to_kv = ops.Linear(sizes.identity_dim, sizes.inner_dim * 2, bias=False)
        self.to_out = ops.Linear(sizes.inner_dim, sizes.image_dim, bias=False)

    def forward(self, identity_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Compute what the identity adds to the image tokens.

        Args:
            identity_tokens: (P, N, 2048): one identity for every B / P neighbouring rows.
            image_tokens: (B, T, 3072), same device and dtype.

        Returns:
            (B, T, 3072).
        """
        keys, values = self.to_kv(self.norm1(identity_tokens)).chunk(2, dim=-1)
        queries, keys, values = (
            x.unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)  # (B, heads, tokens, 128)
            for x in (self.to_q(self.norm2(image_tokens)), keys, values)
        )
        rows_per_identity = len(image_tokens) // len(identity_tokens)
        keys = keys.repeat_interleave(rows_per_identity, dim=0)
        values = values.repeat_interleave(rows_per_identity, dim=0)
        out = F.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(out.transpose(1, 2).flatten(2))


class CrossAttentions(nn.ModuleList):
    """All cross attentions of one checkpoint, in injection order."""

    def __init__(self, sizes: CrossAttentionSizes, ops: Any = nn):
        super().__init__(IdentityCrossAttention(sizes, ops) for _ in range(sizes.count))
        self.sizes = sizes
