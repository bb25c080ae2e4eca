"""ComfyUI's hooks -> identity injection. Every object on the model is immutable.

PulidApplyFlux leaves two kinds of objects on its clone of the model: one `Gate`, whose three wrappers
decide once per forward pass who acts, where and how strongly; and one `BlockPatch` per injected
block, which adds the identities. What one sampling or one forward pass has to remember travels in
transformer_options and ends with it:

    around_sampling    OUTER_SAMPLE      -> Sampling     folds what true CFG needs; says what was lost
    around_conditions  CALC_COND_BATCH   -> Conditions   which passes are negative, what they see
    around_forward     APPLY_MODEL       -> Forward      the shares of every identity
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..pulid_core.errors import UnsupportedModelError
from ..pulid_core.injection.blocks import (
    BlockKey,
    Points,
    Share,
    SigmaRange,
    Window,
    add_identities,
    interpolate,
    mask_to_tokens,
    progress_at,
)
from .folds import IdentityFolds

LOGGER = logging.getLogger(__name__)

KEY = "pulid_for_flux"
"""Our entry among the model's wrappers and attachments, and in transformer_options."""

NEGATIVE = 1  # ComfyUI's CFGGuider: conditions are [positive, negative]


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

    @cached_property
    def order(self) -> str:
        """A place among other applications that depends on content only, not on the graph."""
        settings = (self.start_at, self.end_at, self.weights, self.schedule)
        negative = self.negative and self.negative.digest
        content = hashlib.blake2b(repr((self.person.digest, negative, settings)).encode())
        if self.mask is not None:
            content.update(self.mask.detach().cpu().float().contiguous().numpy().data)
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class Sampling:
    """One sampling run."""

    guider: Any
    expected: set[tuple[Application, BlockKey]] = field(default_factory=set)
    """Where an identity should have acted in some forward pass."""
    reached: set[tuple[Application, BlockKey]] = field(default_factory=set)
    """Where it did."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """The conditions of one step."""

    sampling: Sampling | None
    negative: frozenset[int]
    """Indices of the negative ones."""
    windows: dict[tuple[int, Any], Window]
    """(index, uuid) of the conditions with an area -> that area."""
    latent_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Forward:
    """What every application does in one forward pass."""

    image_token_count: int
    """Tokens of the generated image; those of reference images follow them."""
    shares: dict[Application, list[Share]]
    sampling: Sampling | None


@dataclass(frozen=True, eq=False)
class Gate:
    """Decides for all identities on one model."""

    applications: tuple[Application, ...]
    blocks: tuple[BlockKey, ...]

    def around_sampling(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """OUTER_SAMPLE: load what the negative pass needs, and report blocks that were lost."""
        guider = executor.class_obj
        sampling = Sampling(guider)
        guider.model_options["transformer_options"][KEY] = sampling  # this run's own options
        if _has_negative_pass(guider):
            device = guider.model_patcher.load_device
            negatives = [a.negative.on(device) for a in self.applications if a.negative]
            comfy.model_management.load_models_gpu(negatives)
        result = executor(*args, **kwargs)
        _report_lost_blocks(sampling)
        return result

    def around_conditions(
        self, executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, options: Any
    ) -> Any:
        """CALC_COND_BATCH: note what transformer_options does not tell a forward pass."""
        transformer_options = options.get("transformer_options", {})
        sampling = transformer_options.get(KEY)
        sampling = sampling if isinstance(sampling, Sampling) else None
        guided = sampling.guider.conds if sampling else {}
        present = [(i, cond) for i, cond in enumerate(conds) if cond]
        conditions = Conditions(
            sampling,
            frozenset(i for i, cond in present if _is_negative(i, cond, guided)),
            {(i, c["uuid"]): tuple(c["area"]) for i, cond in present for c in cond if "area" in c},
            (x.shape[-2], x.shape[-1]),
        )
        options = {**options, "transformer_options": {**transformer_options, KEY: conditions}}
        return executor(model, conds, x, timestep, options)

    def around_forward(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """APPLY_MODEL: run the model with a Forward in transformer_options."""
        options = dict(transformer_options or {})
        options[KEY] = self._plan(executor.class_obj, x, options)
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _plan(self, model: Any, x: Tensor, options: dict[str, Any]) -> Forward:
        conditions = options.get(KEY)
        if not isinstance(conditions, Conditions):  # called by something else than a guider
            conditions = Conditions(None, frozenset({NEGATIVE}), {}, (x.shape[-2], x.shape[-1]))
        sigma = float(options["sigmas"][0])  # the only value read back from the device
        patch_size = model.diffusion_model.patch_size
        shares = {}
        for application in self.applications:
            factor = _factor(application, sigma, model.model_sampling.percent_to_sigma)
            if factor != 0:
                shares[application] = _shares(
                    application, factor, x, patch_size, options, conditions
                )
        if conditions.sampling is not None:
            acting = [application for application, parts in shares.items() if parts]
            conditions.sampling.expected.update((a, b) for a in acting for b in self.blocks)
        rows, columns = (-(-size // patch_size) for size in x.shape[-2:])
        return Forward(rows * columns, shares, conditions.sampling)


def _factor(application: Application, sigma: float, percent_to_sigma: Any) -> float:
    """Say how strongly an application acts at this noise level, as a factor on its weights."""
    limits = (application.start_at, application.end_at, percent_to_sigma)
    if sigma not in SigmaRange.from_percents(*limits):
        return 0.0
    if len(application.schedule) == 1:
        return application.schedule[0][1]
    return interpolate(application.schedule, progress_at(sigma, *limits))


def _shares(
    application: Application,
    factor: float,
    x: Tensor,
    patch_size: int,
    options: dict[str, Any],
    conditions: Conditions,
) -> list[Share]:
    """Divide the rows of a forward pass: one share for each pass in it that sees someone."""
    passes = options["cond_or_uncond"]
    uuids = options.get("uuids") or [None] * len(passes)
    weights = [weight * factor for weight in application.weights]
    batch = len(x) // len(passes)
    shares = []
    for place, (index, uuid) in enumerate(zip(passes, uuids, strict=True)):
        folds = application.negative if index in conditions.negative else application.person
        if folds is None:
            continue
        mask = application.mask
        if mask is not None:
            window = conditions.windows.get((index, uuid))
            mask = _token_mask(mask.to(x.device), x, window, patch_size, conditions.latent_size)
            if len(mask) > 1:
                mask = mask[torch.arange(batch) % len(mask)]
        rows = slice(place * batch, (place + 1) * batch)
        shares.append(Share(rows, folds.on(x.device).model, weights, mask))
    return shares


def _token_mask(
    mask: Tensor, x: Tensor, window: Window | None, patch_size: int, latent_size: tuple[int, int]
) -> Tensor:
    height, width = x.shape[-2:]
    if window is None:
        return mask_to_tokens(mask, (height, width), None, patch_size)
    window = (height, width, window[2], window[3])  # ComfyUI cuts areas at the border
    return mask_to_tokens(mask, latent_size, window, patch_size)


def _is_negative(index: int, cond: list[dict], guided: dict[str, list[dict]]) -> bool:
    """Say whether a list of conditions is negative: by the guider's name for it, else by place.

    The order of the lists differs between guiders (DualCFGGuider starts with the negative one), and
    guidance nodes pass single lists; but each condition keeps the uuid that the guider gave it.
    """
    uuids = {c.get("uuid") for c in cond}
    for name, known in guided.items():
        if uuids == {c.get("uuid") for c in known}:
            return "negative" in name
    return index == NEGATIVE


def _has_negative_pass(guider: Any) -> bool:
    """Say whether the guider will run one; CFGGuider leaves it out at a cfg of 1."""
    is_cfg_1 = math.isclose(getattr(guider, "cfg", 0.0), 1.0)
    return not is_cfg_1 or guider.model_options.get("disable_cfg1_optimization", False)


def _report_lost_blocks(sampling: Sampling) -> None:
    lost = {block for _, block in sampling.expected - sampling.reached}
    if lost:
        LOGGER.warning(
            "PulidApplyFlux should have acted in %d blocks, but was never called in %d of them (%s). "
            "A node that comes later in the graph replaces these blocks without calling what was "
            "there, or a cache skipped all of the steps. Put PulidApplyFlux after that node.",
            len({block for _, block in sampling.expected}),
            len(lost),
            ", ".join(f"{kind} {i}" for kind, i in sorted(lost)),
        )


@dataclass(frozen=True, eq=False)
class BlockPatch:
    """Replacement for one block: runs it, then adds the identities to the generated image tokens."""

    applications: tuple[Application, ...]
    block: BlockKey
    attention_index: int
    previous: Any
    """Another node's replacement of the same block, called instead of the block; or None."""
    device: torch.device

    @torch.compiler.disable(recursive=False)  # the block itself is still compiled
    def __call__(self, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        """Follow ComfyUI's contract for patches_replace["dit"]."""
        run = extra["original_block"] if self.previous is None else self._run_previous(extra)
        out = run(args)
        return {**out, "img": self._add(out["img"], args)}

    @torch.compiler.disable()  # ComfyUI compiles without guards on transformer_options
    def _add(self, image: Tensor, args: dict[str, Any]) -> Tensor:
        options = args.get("transformer_options") or {}
        forward = options.get(KEY)
        if not isinstance(forward, Forward):
            raise UnsupportedModelError(
                "PulidApplyFlux decides once per forward pass, but another node replaced FLUX's "
                "forward and dropped transformer_options. Remove that node, often a cache, from "
                "the model's way."
            )
        if forward.sampling is not None:
            forward.sampling.reached.update((a, self.block) for a in self.applications)
        shares = [share for a in self.applications for share in forward.shares.get(a, ())]
        text_tokens = 0 if "txt" in args else options["img_slice"][0]
        generated = slice(text_tokens, text_tokens + forward.image_token_count)
        return add_identities(image, generated, shares, self.attention_index)

    def _run_previous(self, extra: dict[str, Any]) -> Any:
        return lambda args: self.previous(args, extra)

    def models(self) -> list[ModelPatcher]:
        """Models that ComfyUI must load together with the patched one."""
        previous = self.previous.models() if hasattr(self.previous, "models") else []
        return [*(a.person.on(self.device) for a in self.applications), *previous]

    def to(self, device_or_dtype: Any) -> BlockPatch:
        """Give the patch for another device; identities are folded for each device by itself."""
        previous = self.previous
        if hasattr(previous, "to"):
            previous = previous.to(device_or_dtype)
        device = device_or_dtype if isinstance(device_or_dtype, torch.device) else self.device
        if previous is self.previous and device == self.device:
            return self
        return replace(self, previous=previous, device=device)

    def cleanup(self) -> None:
        """Pass on the end of sampling."""
        if hasattr(self.previous, "cleanup"):
            self.previous.cleanup()


def patch_model(
    model: ModelPatcher, application: Application, plan: dict[BlockKey, int]
) -> ModelPatcher:
    """Put one application on a clone of the model; the model itself stays as it is.

    Args:
        model: A FLUX model, patched before or not.
        application: Whom to inject, and how.
        plan: Block -> index of its cross attention.

    Returns:
        The clone.
    """
    patched = model.clone()
    existing = patched.model_options["transformer_options"].get("patches_replace", {})
    for block, attention_index in plan.items():
        previous = existing.get("dit", {}).get(block)
        applications: Iterable[Application] = (application,)
        if isinstance(previous, BlockPatch):  # side by side: all see the block's own output
            applications = sorted(
                (*previous.applications, application), key=lambda other: other.order
            )
            previous = previous.previous
        patch = BlockPatch(
            tuple(applications), block, attention_index, previous, patched.load_device
        )
        patched.set_model_patch_replace(patch, "dit", *block)
    _set_gate(patched, application, tuple(plan))
    return patched


def _set_gate(
    patched: ModelPatcher, application: Application, blocks: tuple[BlockKey, ...]
) -> None:
    earlier = patched.get_attachment(KEY)
    gate = Gate((*(earlier.applications if earlier else ()), application), blocks)
    patched.set_attachments(KEY, gate)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: gate.around_sampling,
        WrappersMP.CALC_COND_BATCH: gate.around_conditions,
        WrappersMP.APPLY_MODEL: gate.around_forward,
    }
    for kind, wrapper in wrappers.items():
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    callbacks = comfy.patcher_extension.CallbacksMP
    for kind in ("ON_DEEPCLONE_MULTIGPU", "ON_MATCH_MULTIGPU_CLONES"):  # ComfyUI 0.23 and newer
        if hasattr(callbacks, kind):
            patched.remove_callbacks_with_key(getattr(callbacks, kind), KEY)
            patched.add_callback_with_key(getattr(callbacks, kind), KEY, _move_patches)


def _move_patches(_: ModelPatcher, clone: ModelPatcher) -> None:
    """Give ComfyUI's clone for another GPU identities of its own."""
    clone.model_patches_to(clone.load_device)
