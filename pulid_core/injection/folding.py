"""Folding: identity tokens are constant while sampling, and so is all that multiplies them.

    scores = LN(image) @ (K_h W_q,h)^T / sqrt(128)    one matrix of heads * N rows
    out    = softmax_per_head(scores) @ (V_h W_out,h)  another one

The affine part of norm2 goes into the first matrix and its bias, and so does the norm's subtraction of
the mean: (x - mean(x)) @ w = x @ (w - mean(w)). Algebraically exact; computed in float32
and cast. With 16 heads, 32 tokens and width 3072 the two hold 3.1 million numbers, where the
checkpoint's module holds 21 million. Beside them 16 thousand tell how long the values are that a token
gathers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .attention import (
    HEAD_DIM,
    CrossAttentionSizes,
    FoldedAttention,
    IdentityAttentions,
    IdentityCrossAttention,
    KeyValueAttention,
    Plain,
)


def is_folding_smaller(sizes: CrossAttentionSizes, tokens: int) -> bool:
    """Say whether the folded form needs fewer numbers than the key/value form.

    Multiplications per image token go with the numbers, so the smaller form is the faster one too.
    For PuLID-FLUX the forms meet at 133 tokens: folding wins for up to four photos side by side.
    """
    folded = 2 * sizes.heads * tokens * sizes.image_dim
    key_value = 2 * sizes.inner_dim * (sizes.image_dim + tokens)
    return folded <= key_value


@torch.no_grad()
def fold_attention(
    attention: IdentityCrossAttention, identity_tokens: Tensor, sizes: CrossAttentionSizes
) -> dict[str, Tensor]:
    """Multiply everything constant of one attention and one identity together.

    Args:
        attention: Weights, float32.
        identity_tokens: (1, N, 2048) float32, on the device of the weights.
        sizes: Of the checkpoint.

    Returns:
        State dict of a FoldedAttention or, where that is smaller, of a KeyValueAttention; float32.
    """
    keys, values = attention.keys_and_values(identity_tokens)  # (heads, N, 128)
    keys = keys / math.sqrt(HEAD_DIM)
    queries, outs, norm = attention.to_q.weight, attention.to_out.weight, attention.norm2
    if not is_folding_smaller(sizes, identity_tokens.shape[1]):
        return {
            "queries.weight": _centred(queries * norm.weight),
            "queries.bias": queries @ norm.bias,
            "identity.keys": keys.unsqueeze(0),
            "identity.values": values.unsqueeze(0),
            "out.weight": outs,
        }
    per_head = (attention.heads, HEAD_DIM)
    scores = (keys @ queries.unflatten(0, per_head)).flatten(0, 1)  # (heads * N, D)
    return {
        "scores.weight": _centred(scores * norm.weight),
        "scores.bias": scores @ norm.bias,
        "out.weight": (values @ outs.T.unflatten(0, per_head)).flatten(0, 1).T,  # (D, heads * N)
        "lengths.root": _root_of_products(values),
    }


def _root_of_products(values: Tensor) -> Tensor:
    """Give R with R R^T = V V^T for (heads, N, 128), brought to [-1, 1], which every dtype holds."""
    upper = torch.linalg.qr(values.cpu().mT, mode="r").R  # Apple's GPUs have no QR
    return upper.mT / upper.abs().amax().clamp(min=torch.finfo(upper.dtype).tiny)


def _centred(matrix: Tensor) -> Tensor:
    """Take its mean out of every row."""
    return matrix - matrix.mean(dim=1, keepdim=True)


def fold_identity(
    attentions: Iterable[IdentityCrossAttention],
    identity_tokens: Tensor,
    sizes: CrossAttentionSizes,
    device: torch.device | str,
    dtype: torch.dtype,
    ops: Any = Plain,
) -> IdentityAttentions:
    """Fold all attentions of a checkpoint for one identity.

    Args:
        attentions: Weights in any dtype, in injection order; each is dropped once it is folded.
        identity_tokens: (1, N, 2048).
        sizes: Of the checkpoint.
        device: Where to compute.
        dtype: Of the result, the dtype of the image tokens.
        ops: Plain, or layers that cast the weights they lend.

    Returns:
        One small module per attention, on the CPU.
    """
    identity_tokens = identity_tokens.to(device, torch.float32)
    form = (
        FoldedAttention
        if is_folding_smaller(sizes, identity_tokens.shape[1])
        else KeyValueAttention
    )
    folded = IdentityAttentions()
    for attention in attentions:
        weights = fold_attention(attention.to(device).float(), identity_tokens, sizes)
        with torch.device("meta"):
            module = form(sizes, identity_tokens.shape[1], ops)
        weights = {key: value.to("cpu", dtype).contiguous() for key, value in weights.items()}
        module.load_state_dict(weights, strict=True, assign=True)
        folded.append(module.requires_grad_(False).eval())
    return folded
