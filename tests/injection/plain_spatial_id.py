"""SpatialID as its paper has it (arXiv 2602.13994): unfolded, one picture and one person at a time."""

import math

import torch
import torch.nn.functional as F

HEAD_DIM = 128


def gathered(weights, identity_tokens, image_tokens):
    """What image tokens (B, T, D) gather of an identity before the output projection, (B, T, 2048)."""
    width = image_tokens.shape[-1]
    x = F.layer_norm(
        identity_tokens, identity_tokens.shape[-1:], weights["norm1.weight"], weights["norm1.bias"]
    )
    latents = F.layer_norm(image_tokens, (width,), weights["norm2.weight"], weights["norm2.bias"])
    q = latents @ weights["to_q.weight"].T
    k, v = (x @ weights["to_kv.weight"].T).chunk(2, dim=-1)
    q, k, v = (t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for t in (q, k, v))
    attention = (q @ k.transpose(-1, -2) / math.sqrt(HEAD_DIM)).softmax(-1)
    return (attention @ v).transpose(1, 2).flatten(2)


def blurred_response(values, grid):
    """One picture's (T, 2048) -> its lengths from 0 to 1, blurred, (H, W)."""
    length = values.norm(dim=-1)
    length = (length - length.min()) / max(length.max() - length.min(), 1e-6)
    places = torch.arange(5.0) - 2
    kernel = torch.exp(-(places**2) / (2 * 1.5**2))
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = F.pad(length.view(1, 1, *grid), (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, kernel.view(1, 1, 5, 5))[0, 0]


def mask(values, grid, noise, floor=0.0):
    """One picture's mask at a part of noise, (T, 1)."""
    height, width = grid
    if noise > 0.7:
        down, across = (torch.linspace(-1, 1, size).square() for size in grid)
        prior = torch.exp(-(down.unsqueeze(1) + across.unsqueeze(0)) / (2 * 0.3**2))
        return (prior / prior.max()).clamp(min=floor).view(-1, 1)
    soft = blurred_response(values, grid)
    hard = torch.zeros(height, width)
    for row, column in (soft > soft.mean() + 0.5 * soft.std()).nonzero().tolist():
        hard[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 1
    found = 0.7 * soft + 0.3 * hard
    if noise <= 0.3:
        found = 0.5 + 0.5 * found
    return found.clamp(min=floor).view(-1, 1)


def contribution(weights, identity_tokens, image_tokens, grid, noise, floor=0.0):
    """What one attention adds to the generated image's tokens, (B, T, D)."""
    values = gathered(weights, identity_tokens, image_tokens)
    masks = torch.stack([mask(picture, grid, noise, floor) for picture in values])
    return masks * (values @ weights["to_out.weight"].T)


def shared_contributions(weights, people, image_tokens, grid, noise):
    """The sum over people who divide the picture: at each token by e to the tenfold response."""
    values = [gathered(weights, tokens, image_tokens) for tokens in people]
    parts = [torch.stack([blurred_response(p, grid) for p in v]).flatten(1) for v in values]
    parts = [torch.exp(10 * part).unsqueeze(-1) for part in parts]
    total = sum(parts)
    added = 0
    for each, part in zip(values, parts, strict=True):
        own = 1 if noise > 0.7 else torch.stack([mask(picture, grid, noise) for picture in each])
        added = added + part / total * own * (each @ weights["to_out.weight"].T)
    return added
