"""Which blocks, when, how strongly, where: plain functions of numbers and tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttentionSizes
from .errors import UnsupportedModelError

DOUBLE_BLOCK_INTERVAL = 2  # PuLID flux/model.py Flux.__init__, commit 1aa2fc7
SINGLE_BLOCK_INTERVAL = 4

BlockKey = tuple[str, int]
"""("double_block" or "single_block", index): ComfyUI's name for a FLUX block."""


def plan_blocks(
    sizes: CrossAttentionSizes, image_dim: int, double_blocks: int, single_blocks: int
) -> dict[BlockKey, int]:
    """Say which cross attention follows which block.

    Args:
        sizes: Of the PuLID checkpoint.
        image_dim: Width of the model's image tokens.
        double_blocks: Number of double blocks of the model.
        single_blocks: Number of single blocks of the model.

    Returns:
        Block -> index of its cross attention, in the order in which a forward pass meets them.

    Raises:
        UnsupportedModelError: Width or depth do not fit the checkpoint.
    """
    if sizes.image_dim != image_dim:
        raise UnsupportedModelError(
            f"The PuLID checkpoint is for a FLUX model {sizes.image_dim} wide, but the connected "
            f"model is {image_dim} wide. Choose the PuLID file made for this model."
        )
    blocks = [("double_block", i) for i in range(0, double_blocks, DOUBLE_BLOCK_INTERVAL)]
    blocks += [("single_block", i) for i in range(0, single_blocks, SINGLE_BLOCK_INTERVAL)]
    if len(blocks) != sizes.count:
        raise UnsupportedModelError(
            f"The PuLID checkpoint holds {sizes.count} cross attentions, but a model with "
            f"{double_blocks} double and {single_blocks} single blocks takes {len(blocks)}. "
            "Use a full FLUX.1 model and the PuLID file made for it."
        )
    return {key: index for index, key in enumerate(blocks)}


def sigma_range(
    start_at: float, end_at: float, percent_to_sigma: Callable[[float], float]
) -> tuple[float, float]:
    """Turn a range of the noise schedule into sigmas, highest first.

    Args:
        start_at: 0 is the first, noisiest step; 1 is the end.
        end_at: As start_at.
        percent_to_sigma: The model sampling's own conversion.

    Returns:
        The sigmas between which the identity acts, both included. A start of 0 has no upper limit:
        a custom schedule may begin above the model's own highest sigma.
    """
    sigma_max = math.inf if start_at <= 0 else float(percent_to_sigma(start_at))
    return sigma_max, float(percent_to_sigma(end_at))


def mask_to_tokens(mask: Tensor, grid: tuple[int, int], rows: int, batch: int) -> Tensor:
    """Resize a mask to the token grid and repeat it for every row of a forward pass.

    Args:
        mask: (M, H, W) in [0, 1]; item i belongs to batch item i, the list is cycled.
        grid: Token rows and columns of the image.
        rows: Rows of the forward pass: one or several passes (positive, negative) of `batch`.
        batch: Latents in the batch.

    Returns:
        Weights, (rows, tokens, 1).
    """
    resized = F.interpolate(mask.unsqueeze(1).float(), grid, mode="bilinear", antialias=True)
    tokens = resized.flatten(2).transpose(1, 2)  # (M, tokens, 1)
    item = torch.arange(rows, device=mask.device) % batch % len(tokens)
    return tokens[item]


def select_tokens(tokens: Tensor, uncond_tokens: Tensor, is_negative: list[bool]) -> Tensor:
    """Give every pass of a forward its identity: the person, or nobody for a negative pass.

    Args:
        tokens: (1, N, D).
        uncond_tokens: (1, M, D).
        is_negative: One flag per pass.

    Returns:
        (1, N, D) where all passes see the same tokens, else (passes, max(N, M), D); the shorter
        of the two is repeated, which leaves attention unchanged when M divides N.
    """
    if not any(is_negative):
        return tokens
    if all(is_negative):
        return uncond_tokens
    uncond_tokens = uncond_tokens.repeat(1, tokens.shape[1] // uncond_tokens.shape[1], 1)
    return torch.cat([uncond_tokens if negative else tokens for negative in is_negative])


def add_identity(
    image: Tensor,
    generated: slice,
    attention: nn.Module,
    identity_tokens: Tensor,
    weight: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Add one identity to the output of one block.

    Args:
        image: Tokens after the block, (B, T, D): text, generated image, reference images.
        generated: Where the generated image lies among them; nothing else changes.
        attention: The block's cross attention.
        identity_tokens: (P, N, 2048), B a multiple of P.
        weight: 1 is the strength PuLID was trained with.
        mask: (B, generated tokens, 1), or None for everywhere.

    Returns:
        New tensor, (B, T, D).
    """
    tokens = image[:, generated]
    delta = attention(identity_tokens.to(image), tokens) * weight
    if mask is not None:
        delta = delta * mask.to(delta)
    return torch.cat((image[:, : generated.start], tokens + delta, image[:, generated.stop :]), 1)
