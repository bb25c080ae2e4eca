"""Where: a user's mask on the tokens of the picture, of an area of it, or of a tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_TILE_CORNERS = 64  # places that are looked at; noise hardly ever has two

Window = tuple[int, int, int, int]
"""Height, width, top, left: part of the latent image, as ComfyUI's areas."""


def mask_to_tokens(
    mask: Tensor, latent_size: tuple[int, int], window: Window | None, patch_size: int
) -> Tensor:
    """Resize a mask to the latents, cut out what a forward pass sees, and average it per token.

    Args:
        mask: (M, H, W) in [0, 1].
        latent_size: Height and width of the whole latent image.
        window: The part of it that the pass computes (area prompts), or None for all.
        patch_size: Latents per token and side, 2. Odd sizes are padded, as FLUX does.

    Returns:
        Weights, (M, tokens, 1).
    """
    latents = mask.unsqueeze(1).float()
    if mask.shape[-2] >= latent_size[0] and mask.shape[-1] >= latent_size[1]:
        latents = F.adaptive_avg_pool2d(latents, latent_size)  # keeps hard borders hard
    else:
        latents = F.interpolate(latents, latent_size, mode="bilinear", antialias=True)
    if window is not None:
        height, width, top, left = window
        # Around the border: some tiles are cut from a picture that was rolled.
        latents = latents.roll((-top, -left), (-2, -1))[..., :height, :width]
    height, width = latents.shape[-2:]
    padding = (0, -width % patch_size, 0, -height % patch_size)
    tokens = F.avg_pool2d(F.pad(latents, padding, mode="replicate"), patch_size)
    return tokens.flatten(2).transpose(1, 2)  # (M, tokens, 1)


def find_tile(tile: Tensor, latent: Tensor) -> Window | None:
    """Find where a tile was cut from a latent image, also around its border, by their equal values.

    Args:
        tile: (C, h, w).
        latent: (C, H, W), of the same device.

    Returns:
        Its window; None if it is not a part of the image, or if it is in more than one place.
    """
    height, width = tile.shape[-2:]
    if height > latent.shape[-2] or width > latent.shape[-1]:
        return None
    corners = (latent == tile[:, :1, :1]).all(0).nonzero().tolist()
    found = [
        (height, width, top, left)
        for top, left in corners[:MAX_TILE_CORNERS]
        if torch.equal(latent.roll((-top, -left), (-2, -1))[:, :height, :width], tile)
    ]
    return found[0] if len(found) == 1 and len(corners) <= MAX_TILE_CORNERS else None


@dataclass(frozen=True, eq=False)
class TokenMask:
    """Where among the image tokens one identity acts, and how strongly."""

    places: Tensor | None
    """(K,) indices of the tokens; None for all of them."""
    weights: Tensor
    """(K, 1)."""

    @classmethod
    def of(
        cls, weights: Tensor, device: torch.device, dtype: torch.dtype, all_look: bool = False
    ) -> TokenMask | None:
        """Prepare one mask (tokens, 1) for a device; None where it is 0 everywhere.

        Args:
            weights: The mask.
            device: Of the image tokens.
            dtype: Of the image tokens.
            all_look: Whether the tokens where it is 0 are looked at, too.
        """
        places = weights[:, 0].nonzero()[:, 0]
        if len(places) == 0:
            return None
        if all_look or len(places) == len(weights):
            return cls(None, weights.to(device, dtype))
        return cls(places.to(device), weights[places].to(device, dtype))
