"""ComfyUI's hooks -> identity injection. Every object on the model is immutable.

PulidApplyFlux leaves two kinds of objects on its clone of the model: one `Gate`, whose three wrappers
decide once per forward pass who acts, where and how strongly; and one `BlockPatch` per injected
block, which adds the identities. What one sampling or one forward pass has to remember travels in
transformer_options and ends with it:

    around_sampling    OUTER_SAMPLE      -> Sampling     folds what true CFG needs; says what was lost
    around_conditions  CALC_COND_BATCH   -> Conditions   which passes are negative, what they see
    around_forward     APPLY_MODEL       -> Forward      the shares of every identity

Nodes that swap FLUX's forward, step caches above all, may drop transformer_options on the way to the
blocks; for them the Forward is in a context variable, too, for as long as the pass runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..pulid_core.errors import UnsupportedModelError
from ..pulid_core.injection.blocks import BlockKey, add_identities
from ..pulid_core.injection.schedule import progress_at
from .forward_plan import KEY, NEGATIVE, Application, Conditions, Forward, Sampling, plan_forward

LOGGER = logging.getLogger(__name__)

_RUNNING: ContextVar[Forward | None] = ContextVar(f"{KEY}_forward", default=None)
"""The forward pass that this thread is in."""

LOST_FORWARD = (
    "PulidApplyFlux decides once per forward pass, but another node replaced FLUX's forward and runs its "
    "blocks outside of ComfyUI's model call. Remove that node, often a cache, from the model's way."
)


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
            _load_with(guider, [a.negative.on(device) for a in self.applications if a.negative])
        result = executor(*args, **kwargs)
        _report_lost_blocks(sampling)
        self._report_missed_steps(sampling)
        return result

    def around_conditions(
        self, executor: Any, model: Any, conds: Any, x: Tensor, timestep: Tensor, options: Any
    ) -> Any:
        """CALC_COND_BATCH: note what transformer_options does not tell a forward pass."""
        transformer_options = options.get("transformer_options", {})
        sampling = transformer_options.get(KEY)
        sampling = sampling if isinstance(sampling, Sampling) else Sampling(None)
        guided = sampling.guider.conds if sampling.guider else {}
        present = [(i, cond) for i, cond in enumerate(conds) if cond]
        conditions = Conditions(
            sampling,
            frozenset(i for i, cond in present if _is_negative(i, cond, guided)),
            {(i, c["uuid"]): tuple(c["area"]) for i, cond in present for c in cond if "area" in c},
            x,
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
        forward = plan_forward(self.applications, self.blocks, executor.class_obj, x, options)
        options[KEY] = forward
        token = _RUNNING.set(forward)
        try:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        finally:
            _RUNNING.reset(token)

    def _report_missed_steps(self, sampling: Sampling) -> None:
        """Say which identities no step of a sampling asked for."""
        missed = [a for a in self.applications if a not in sampling.acted and not a.is_constant]
        if not missed or not sampling.sigmas:
            return
        schedule = sampling.guider.model_patcher.get_model_object("model_sampling")
        ran = [progress_at(s, 0.0, 1.0, schedule.percent_to_sigma) for s in sampling.sigmas]
        LOGGER.warning(
            "PulidApplyFlux should act from start_at to end_at (%s), but no step of this sampling does: "
            "its steps lie between %.3f and %.3f of the noise schedule; a denoise below 1 starts late. "
            "This picture is without that person. Move start_at or end_at.",
            ", ".join(f"{a.start_at:g} to {a.end_at:g}" for a in missed),
            min(ran),
            max(ran),
        )


def _is_negative(
    index: int, cond: list[dict[str, Any]], guided: dict[str, list[dict[str, Any]]]
) -> bool:
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
    """Say whether the guider will run one; CFGGuider leaves it out at a cfg of 1.

    Guiders of other kinds count their cfg in ways of their own, so only CFGGuider's is believed.
    """
    if not any("negative" in name for name in guider.conds):
        return False
    is_left_out = type(guider) is comfy.samplers.CFGGuider and math.isclose(guider.cfg, 1.0)
    return not is_left_out or bool(guider.model_options.get("disable_cfg1_optimization", False))


def _load_with(guider: Any, models: list[ModelPatcher]) -> None:
    """Have models loaded together with FLUX, which makes room for them: they come with its conditions.

    Those of the guider are this run's own.
    """
    for name, conds in guider.conds.items():
        guider.conds[name] = [
            {**c, "additional_models": [*c.get("additional_models", ()), *models]} for c in conds
        ]


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
        forward, is_foreign = options.get(KEY), False
        if not isinstance(forward, Forward):
            forward, is_foreign = _RUNNING.get(), True
        if forward is None:
            raise UnsupportedModelError(LOST_FORWARD)
        acting = [a for a in self.applications if forward.shares.get(a)]
        forward.sampling.reached.update((a, self.block) for a in acting)
        shares = [share for a in acting for share in forward.shares[a]]
        start = self._text_tokens(args, options, forward)
        generated = slice(start, start + forward.image_token_count)
        # ComfyUI adds ControlNets to the same tensor in place; other nodes may keep it.
        in_place = self.previous is None and not is_foreign
        return add_identities(image, generated, shares, self.attention_index, in_place)

    def _text_tokens(self, args: dict[str, Any], options: dict[str, Any], forward: Forward) -> int:
        """Say how many text tokens precede those of the image in the block's output."""
        if "txt" in args:
            forward.text_tokens[:] = [args["txt"].shape[1]]
            return 0
        if "img_slice" in options:
            return options["img_slice"][0]
        if not forward.text_tokens:
            raise UnsupportedModelError(LOST_FORWARD)
        return forward.text_tokens[0]

    def _run_previous(self, extra: dict[str, Any]) -> Any:
        return lambda args: self.previous(args, extra)

    def models(self) -> list[ModelPatcher]:
        """Models that ComfyUI must load together with the patched one."""
        previous = self.previous.models() if hasattr(self.previous, "models") else []
        return [*(a.person.on(self.device) for a in self.applications), *previous]

    def to(self, device_or_dtype: Any) -> BlockPatch:
        """Pass on where the model goes; the identities stay on the device that computes.

        ComfyUI also says so when it unloads the model, and asks for `models` before it loads it again.
        """
        if not hasattr(self.previous, "to"):
            return self
        return replace(self, previous=self.previous.to(device_or_dtype))

    def cleanup(self) -> None:
        """Pass on the end of sampling."""
        if hasattr(self.previous, "cleanup"):
            self.previous.cleanup()


def applications_on(model: ModelPatcher) -> tuple[Application, ...]:
    """What earlier PulidApplyFlux nodes put on a model, in the order of the graph."""
    gate = model.get_attachment(KEY)
    return gate.applications if gate else ()


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
    gate = Gate((*applications_on(patched), application), blocks)
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
    blocks = clone.model_options["transformer_options"]["patches_replace"]["dit"]
    for block, patch in blocks.items():
        if isinstance(patch, BlockPatch):
            blocks[block] = replace(patch, device=clone.load_device)
