"""Who acts where, when and how strongly in one forward pass of FLUX.

`plan_forward` decides it from what travels in transformer_options during one sampling: a Sampling, and
for each of its steps the Conditions.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..pulid_core.injection.blocks import BlockKey, Share
from ..pulid_core.injection.masks import TokenMask, Window, find_tile, mask_to_tokens
from ..pulid_core.injection.schedule import Points, SigmaRange, interpolate, progress_at
from ..pulid_core.injection.spatial_mask import ActsOn, Focus, Grid, centred_prior, stage_at
from .folds import IdentityFolds

LOGGER = logging.getLogger(__name__)

KEY = "pulid_for_flux"
"""Our entry among the model's wrappers and attachments, and in transformer_options."""

NEGATIVE = 1  # ComfyUI's CFGGuider: conditions are [positive, negative]

UNKNOWN_TILE = (
    "PulidApplyFlux has an attn_mask, or acts on the face, but a node runs FLUX on parts of the picture "
    "whose place in it cannot be told. The whole mask was laid over each part. Use that node without the "
    "mask, and with acts_on at whole picture."
)
TILED_FACE = (
    "PulidApplyFlux looks for the face in the whole picture, but a node runs FLUX on parts of it. The face "
    "was looked for in each part by itself. Use that node with acts_on at whole picture."
)
UNKNOWN_ROWS = (
    "PulidApplyFlux gives the negative prompt another identity, but a node runs FLUX on %d pictures at "
    "once where %d belong to the prompts. They were dealt out in equal parts. Use that node with a cfg "
    "of 1."
)


@dataclass(frozen=True, eq=False)
class Application:
    """What one PulidApplyFlux decided."""

    person: IdentityFolds
    negative: IdentityFolds | None
    """Who acts on the negative pass of true CFG: nobody's tokens, the person, or no one at all."""
    start_at: float
    end_at: float
    weights: tuple[float, ...]
    """One per cross attention."""
    schedule: Points
    """Factors on the weights, over the progress from start_at to end_at."""
    mask: Tensor | None
    """(M, H, W) in [0, 1]; item i belongs to batch item i, the list is cycled."""
    acts_on: ActsOn = "whole picture"
    floor: float = 0.0
    """How strongly it acts beside the face, in [0, 1]."""

    @cached_property
    def order(self) -> str:
        """A place among other applications that depends on content only, not on the graph."""
        settings = (self.start_at, self.end_at, self.weights, self.schedule)
        if self.acts_on != "whole picture":
            settings = (*settings, self.acts_on, self.floor)
        negative = self.negative and self.negative.digest
        content = hashlib.blake2b(repr((self.person.digest, negative, settings)).encode())
        if self.mask is not None:
            content.update(self.mask.detach().cpu().float().contiguous().numpy().data)
        return content.hexdigest()

    @property
    def is_constant(self) -> bool:
        """Whether it acts in the same way at every noise level."""
        return self.start_at <= 0 and self.end_at >= 1 and len(self.schedule) == 1

    @property
    def shares_picture(self) -> bool:
        """Whether it leaves to others of its kind what they answer to more strongly."""
        return self.acts_on == "own face" and self.mask is None

    def on(self, part: Part) -> IdentityFolds | None:
        """Say who acts on some rows."""
        return self.negative if part.is_negative else self.person

    def factor(self, sigma: float, percent_to_sigma: Any) -> float:
        """Say how strongly it acts at a noise level, as a factor on its weights."""
        limits = (self.start_at, self.end_at, percent_to_sigma)
        if sigma not in SigmaRange.from_percents(*limits):
            return 0.0
        if len(self.schedule) == 1:
            return self.schedule[0][1]
        return interpolate(self.schedule, progress_at(sigma, *limits))


@dataclass(eq=False)
class Sampling:
    """One sampling run."""

    guider: Any
    expected: set[tuple[Application, BlockKey]] = field(default_factory=set)
    """Where an identity should have acted in some forward pass."""
    reached: set[tuple[Application, BlockKey]] = field(default_factory=set)
    """Where it did."""
    acted: set[Application] = field(default_factory=set)
    """Who had a step within its range."""
    sigmas: set[float] = field(default_factory=set)
    """Of the steps, where someone had to know."""
    masks: dict[Any, list[TokenMask | None]] = field(default_factory=dict)
    """Prepared masks: a small copy to the device in each forward pass would wait for it."""
    grids: dict[Any, Grid] = field(default_factory=dict)
    """Prepared grids of tokens."""
    warnings: set[str] = field(default_factory=set)
    """What has been said."""

    def warn(self, text: str, *values: object) -> None:
        """Say something once per sampling."""
        if text not in self.warnings:
            self.warnings.add(text)
            LOGGER.warning(text, *values)


@dataclass(eq=False)
class Conditions:
    """The conditions of one step."""

    sampling: Sampling
    negative: frozenset[int]
    """Indices of the negative ones."""
    windows: dict[tuple[int, Any], Window]
    """(index, uuid) of the conditions with an area -> that area."""
    latent: Tensor
    """(B, 16, H, W), the whole picture; nodes that wrap the model may pass on parts of it."""
    _sigma: float | None = None

    def sigma(self, sigmas: Tensor) -> float:
        """Read the noise level back from the device, once per step."""
        if self._sigma is None:
            self._sigma = float(sigmas[0])
            self.sampling.sigmas.add(self._sigma)
        return self._sigma


@dataclass(frozen=True, eq=False)
class Forward:
    """What every application does in one forward pass."""

    image_token_count: int
    """Tokens of the generated image; those of reference images follow them."""
    shares: dict[Application, list[Share]]
    sampling: Sampling
    text_tokens: list[int] = field(default_factory=list)
    """How many text tokens a double block saw; in single blocks they precede the image's."""


@dataclass(frozen=True)
class Part:
    """Some rows of a forward pass: the latents of one condition, or one tile of them."""

    rows: slice
    is_negative: bool
    area: Window | None


@dataclass(frozen=True, eq=False)
class Call:
    """One forward pass as ComfyUI asks for it."""

    x: Tensor
    """(B, 16, H, W)."""
    patch_size: int
    conditions: Conditions
    options: dict[str, Any]
    """transformer_options."""
    parts: list[Part]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the generated image's tokens."""
        height, width = (-(-size // self.patch_size) for size in self.x.shape[-2:])
        return height, width

    @property
    def sigma(self) -> float:
        """The noise level, for which the host waits once per step."""
        return self.conditions.sigma(self.options["sigmas"])


def plan_forward(
    applications: Iterable[Application],
    blocks: Iterable[BlockKey],
    model: Any,
    x: Tensor,
    options: dict[str, Any],
) -> Forward:
    """Decide for all applications what they do in one forward pass.

    Args:
        applications: In the order of the graph.
        blocks: Where they act.
        model: ComfyUI's BaseModel.
        x: What it gets, (B, 16, H, W).
        options: transformer_options.
    """
    conditions = options.get(KEY)
    if not isinstance(conditions, Conditions):  # called by something else than a guider
        passes = len(options["cond_or_uncond"])
        latent = x[: len(x) // passes]
        conditions = Conditions(Sampling(None), frozenset({NEGATIVE}), {}, latent)
    parts = list(_parts(x, options, conditions))
    call = Call(x, model.diffusion_model.patch_size, conditions, options, parts)
    factors = {a: _factor(a, call, model.model_sampling) for a in applications}
    acting = {a: factor for a, factor in factors.items() if factor != 0}
    shares = {a: list(_shares(a, factor, call, acting)) for a, factor in acting.items()}
    sampling = conditions.sampling
    sampling.acted.update(shares)
    sampling.expected.update((a, b) for a, found in shares.items() if found for b in blocks)
    rows, columns = call.grid
    return Forward(rows * columns, shares, sampling)


def _factor(application: Application, call: Call, model_sampling: Any) -> float:
    if application.is_constant:
        return application.schedule[0][1]
    return application.factor(call.sigma, model_sampling.percent_to_sigma)


def _parts(x: Tensor, options: dict[str, Any], conditions: Conditions) -> Iterator[Part]:
    """Divide the rows: condition by condition and, where x holds several tiles, tile by tile."""
    passes = options["cond_or_uncond"]
    uuids = options.get("uuids") or [None] * len(passes)
    batch = len(conditions.latent)
    if len(x) % (batch * len(passes)):
        if len({index in conditions.negative for index in passes}) > 1:
            conditions.sampling.warn(UNKNOWN_ROWS, len(x), batch * len(passes))
        batch = max(len(x) // len(passes), 1)
    starts = range(0, len(x), batch)
    for place, start in enumerate(starts):
        index, uuid = passes[place % len(passes)], uuids[place % len(passes)]
        rows = slice(start, min(start + batch, len(x)))
        yield Part(rows, index in conditions.negative, conditions.windows.get((index, uuid)))


def _shares(
    application: Application, factor: float, call: Call, acting: Iterable[Application]
) -> Iterator[Share]:
    """One share for each part that sees someone, or for each of its rows with a mask of its own."""
    weights = [weight * factor for weight in application.weights]
    for part in call.parts:
        folds = application.on(part)
        if folds is None:
            continue
        attentions = folds.on(call.x.device).model
        focus, has_prior = _focus(application, part, call, acting)
        if application.mask is None and not has_prior:
            yield Share(part.rows, attentions, weights, None, focus)
            continue
        masks = _masks(application, part, call, has_prior, focus is not None)
        whole = [part.rows] if len(masks) == 1 else _single_rows(part.rows)
        for item, rows in enumerate(whole):
            mask = masks[item % len(masks)]
            if mask is not None:
                yield Share(rows, attentions, weights, mask, focus)


def _single_rows(rows: slice) -> list[slice]:
    return [slice(row, row + 1) for row in range(rows.start, rows.stop)]


def _focus(
    application: Application, part: Part, call: Call, acting: Iterable[Application]
) -> tuple[Focus | None, bool]:
    """Say what keeps an application to its place, and whether the middle stands for it so far."""
    if application.acts_on == "whole picture":
        return None, False
    sampling = call.conditions.sampling
    if not _shows_area(part, call):
        sampling.warn(TILED_FACE)
    rivals = [a for a in acting if a.shares_picture and a.on(part)]
    has_rivals = application.shares_picture and len(rivals) > 1
    stage = stage_at(call.sigma)
    if stage == "early" and not has_rivals:
        return None, application.acts_on == "face" or application.mask is None
    key = (*call.grid, call.x.device)
    if key not in sampling.grids:
        sampling.grids[key] = Grid.of(*key)
    return Focus.at(stage, sampling.grids[key], application.floor, has_rivals), False


def _masks(
    application: Application, part: Part, call: Call, has_prior: bool, all_look: bool
) -> list[TokenMask | None]:
    """Prepare an application's masks for what a part sees, once per sampling."""
    size, window = _place(part, call)
    key = (application, size, window, call.x.device, has_prior, all_look)
    known = call.conditions.sampling.masks
    if key not in known:
        # On the CPU: Apple's GPUs cannot pool to every size.
        weights = torch.ones(1, 1, 1)
        if application.mask is not None:
            weights = mask_to_tokens(application.mask.cpu(), size, window, call.patch_size)
        if has_prior:
            prior = centred_prior(size, window or (*size, 0, 0), call.patch_size)
            weights = weights * prior.clamp(min=application.floor)
        given = (call.x.device, application.person.dtype, all_look)
        known[key] = [TokenMask.of(w, *given) for w in weights]
    return known[key]


def _shows_area(part: Part, call: Call) -> bool:
    """Say whether a part shows all of its condition's area, and not a tile of it."""
    whole = call.conditions.latent.shape[-2:]
    height, width, top, left = part.area or (*whole, 0, 0)
    # ComfyUI cuts areas at the border.
    return tuple(call.x.shape[-2:]) == (min(height, whole[0] - top), min(width, whole[1] - left))


def _place(part: Part, call: Call) -> tuple[tuple[int, int], Window | None]:
    """Say how large the picture is, and which window of it a part shows, None for all of it."""
    size = (call.x.shape[-2], call.x.shape[-1])
    whole = (call.conditions.latent.shape[-2], call.conditions.latent.shape[-1])
    if _shows_area(part, call):
        return whole, (*size, *part.area[2:]) if part.area else None
    tile = find_tile(call.x[part.rows.start], call.conditions.latent[0])
    if tile is None:
        call.conditions.sampling.warn(UNKNOWN_TILE)
        return size, None
    return whole, tile
