"""IDFormer: ArcFace vector and vision features -> identity tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 64  # PuLID pulid/encoders_transformer.py IDFormer(dim_head=64); not in any shape
VISION_TOKENS = 577  # 24 x 24 patches of 14 px in 336 x 336 px, and the class token


@dataclass(frozen=True)
class IDFormerSizes:
    """Sizes of one IDFormer, read from its weights. Values behind each field: PuLID-FLUX."""

    condition_dim: int  # 1280 = 512 ArcFace + 768 pooled
    dim: int  # 1024
    inner_dim: int  # 1024 = heads * 64
    id_tokens: int  # 5 per photo
    queries: int  # 32
    output_dim: int  # 2048
    feed_forward_dim: int  # 4096
    layers: int  # 10
    scales: int  # 5 hidden states

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> IDFormerSizes:
        """Read the sizes from key -> shape, keys without the `pulid_encoder.` prefix.

        Raises:
            KeyError: A key that carries a size is missing.
        """
        dim, output_dim = shapes["proj_out"]
        return cls(
            condition_dim=shapes["id_embedding_mapping.0.weight"][1],
            dim=dim,
            inner_dim=shapes["layers.0.0.to_q.weight"][0],
            id_tokens=shapes["id_embedding_mapping.6.weight"][0] // dim,
            queries=shapes["latents"][1],
            output_dim=output_dim,
            feed_forward_dim=shapes["layers.0.1.1.weight"][0],
            layers=sum(key.endswith(".0.to_q.weight") for key in shapes),
            scales=sum(key.startswith("mapping_") and key.endswith(".0.weight") for key in shapes),
        )


class PerceiverAttention(nn.Module):
    """Latents attend to the context and to themselves."""

    def __init__(self, dim: int, inner_dim: int, ops: Any):
        super().__init__()
        self.heads = inner_dim // HEAD_DIM
        self.norm1 = ops.LayerNorm(dim)
        self.norm2 = ops.LayerNorm(dim)
        self.to_q = ops.Linear(dim, inner_dim, bias=False)
        self.to_kv = ops.Linear(dim, inner_dim * 2, bias=False)
        self.to_out = ops.Linear(inner_dim, dim, bias=False)

    def forward(self, context: Tensor, latents: Tensor, bias: Tensor | None = None) -> Tensor:
        """context (B, C, dim), latents (B, L, dim), bias of the scores (1, C + L) -> (B, L, dim)."""
        context, latents = self.norm1(context), self.norm2(latents)
        keys, values = self.to_kv(torch.cat((context, latents), dim=1)).chunk(2, dim=-1)
        queries, keys, values = (
            x.unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)  # (B, heads, tokens, 64)
            for x in (self.to_q(latents), keys, values)
        )
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.to_out(out.transpose(1, 2).flatten(2))


class IDFormerLayer(nn.ModuleList):
    """Attention, then feed-forward, each added to the latents."""

    def forward(self, context: Tensor, latents: Tensor, bias: Tensor | None = None) -> Tensor:
        """context (B, C, dim), latents (B, L, dim), bias of the scores (1, C + L) -> (B, L, dim)."""
        attention, feed_forward = self
        latents = latents + attention(context, latents, bias)
        return latents + feed_forward(latents)


def _feed_forward(dim: int, hidden_dim: int, ops: Any) -> nn.Sequential:
    return nn.Sequential(
        ops.LayerNorm(dim),
        ops.Linear(dim, hidden_dim, bias=False),
        nn.GELU(),
        ops.Linear(hidden_dim, dim, bias=False),
    )


def _mapping(in_dim: int, dim: int, out_dim: int, ops: Any) -> nn.Sequential:
    return nn.Sequential(
        ops.Linear(in_dim, dim),
        ops.LayerNorm(dim),
        nn.LeakyReLU(),
        ops.Linear(dim, dim),
        ops.LayerNorm(dim),
        nn.LeakyReLU(),
        ops.Linear(dim, out_dim),
    )


class IDFormer(nn.Module):
    """Turns what ArcFace and the vision tower saw into identity tokens.

    Args:
        sizes: Read from the checkpoint.
        ops: Namespace with Linear and LayerNorm: torch.nn, or ComfyUI's casting operations.
    """

    def __init__(self, sizes: IDFormerSizes, ops: Any = nn):
        super().__init__()
        self.sizes = sizes
        dim = sizes.dim
        self.latents = nn.Parameter(torch.empty(1, sizes.queries, dim))
        self.proj_out = nn.Parameter(torch.empty(dim, sizes.output_dim))
        self.layers = nn.ModuleList(
            IDFormerLayer(
                (
                    PerceiverAttention(dim, sizes.inner_dim, ops),
                    _feed_forward(dim, sizes.feed_forward_dim, ops),
                )
            )
            for _ in range(sizes.layers)
        )
        for scale in range(sizes.scales):
            self.add_module(f"mapping_{scale}", _mapping(dim, dim, dim, ops))
        self.id_embedding_mapping = _mapping(sizes.condition_dim, dim, dim * sizes.id_tokens, ops)

    def forward(
        self,
        condition: Tensor,
        hidden_states: list[Tensor],
        photo_weights: tuple[float, ...] | None = None,
    ) -> Tensor:
        """Encode one identity per batch item, each from one or several photos.

        Args:
            condition: ArcFace vector (512, raw) and pooled vision vector (768) concatenated,
                (B, 1280) for one photo or (B, n, 1280) for n photos of one person.
            hidden_states: One (B, n * 577, 1024) per scale.
            photo_weights: How often each of the n photos counts, above 0; None is once each.

        Returns:
            Identity tokens, (B, 32, 2048), in the dtype of `condition`.
        """
        bias = None
        if photo_weights is not None:
            tokens_per_photo = hidden_states[0].shape[1] // len(photo_weights)
            weights = condition.new_tensor(photo_weights)
            bias = self._score_bias(weights, weights.repeat_interleave(tokens_per_photo))
        return self._encode(condition, hidden_states, bias)

    def _encode(
        self, condition: Tensor, hidden_states: list[Tensor], bias: Tensor | None
    ) -> Tensor:
        id_tokens = self.id_embedding_mapping(condition)
        id_tokens = id_tokens.reshape(len(condition), -1, self.sizes.dim)  # (B, n * 5, 1024)
        latents = self.latents.to(condition).expand(len(condition), -1, -1)
        latents = torch.cat((latents, id_tokens), dim=1)
        layers_per_scale = self.sizes.layers // self.sizes.scales
        for scale, hidden in enumerate(hidden_states):
            context = torch.cat((id_tokens, self.get_submodule(f"mapping_{scale}")(hidden)), dim=1)
            for layer in self.layers[scale * layers_per_scale :][:layers_per_scale]:
                latents = layer(context, latents, bias)
        return latents[:, : self.sizes.queries] @ self.proj_out.to(condition)

    def _score_bias(self, photos: Tensor, vision_tokens: Tensor) -> Tensor:
        """Bias of the scores for the keys (id tokens, vision tokens, queries, id tokens), (1, keys).

        Softmax over a key with the bias log(w) is softmax over w copies of that key.

        Args:
            photos: How often each photo counts, (n,).
            vision_tokens: How often each row of the hidden states counts.
        """
        id_tokens = photos.log().repeat_interleave(self.sizes.id_tokens)
        queries = photos.new_zeros(self.sizes.queries)
        return torch.cat((id_tokens, vision_tokens.log(), queries, id_tokens)).unsqueeze(0)

    def unconditional(self, like: Tensor) -> Tensor:
        """Tokens of nobody: the encoding of zeros, which is not zero.

        The 577 equal rows of zeros are looked at as one row that counts 577 times.

        Args:
            like: Any tensor with the wanted device and dtype.

        Returns:
            (1, 32, 2048).
        """
        condition = like.new_zeros(1, self.sizes.condition_dim)
        hidden = like.new_zeros(1, 1, self.sizes.dim)
        bias = self._score_bias(like.new_ones(1), like.new_full((1,), VISION_TOKENS))
        return self._encode(condition, [hidden] * self.sizes.scales, bias)
