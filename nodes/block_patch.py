"""ComfyUI's block callbacks -> identity injection. Every object here is immutable.

PulidApplyFlux leaves two kinds of objects on its clone of the model: one `ForwardGate` that decides
once per forward pass, and one `BlockPatch` per injected block that adds the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..pulid_core.errors import UnsupportedModelError
from ..pulid_core.identity import Identity
from ..pulid_core.injection import (
    BlockKey,
    add_identity,
    mask_to_tokens,
    select_tokens,
    sigma_range,
)

KEY = "pulid_for_flux"
"""Our entry among the model's wrappers and in transformer_options."""

NEGATIVE = 1  # index of the negative conditioning in transformer_options["cond_or_uncond"]


@dataclass(frozen=True, eq=False)
class Application:
    """What one PulidApplyFlux decided."""

    attentions: ModelPatcher
    identity: Identity
    weight: float
    start_at: float
    end_at: float
    mask: Tensor | None
    """(M, H, W) in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Injection:
    """What one application does in one forward pass."""

    identity_tokens: Tensor
    """(1 or passes, N, 2048) on the device of the forward pass."""
    image_token_count: int
    """Tokens of the generated image; those of reference images follow them."""
    mask: Tensor | None
    """(rows, tokens, 1)."""


@dataclass(frozen=True, eq=False)
class ForwardGate:
    """APPLY_MODEL wrapper: decides once per forward pass which identities act, and where."""

    applications: tuple[Application, ...]

    def __call__(
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
        """Run the model with our entry in transformer_options, application -> Injection."""
        options = dict(transformer_options or {})
        options[KEY] = self._plan(executor.class_obj, x, options)
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _plan(self, model: Any, x: Tensor, options: dict[str, Any]) -> dict[Application, Injection]:
        sigma = float(options["sigmas"].max())  # the only value read back from the device
        plan = {}
        for application in self.applications:
            sigma_max, sigma_min = sigma_range(
                application.start_at, application.end_at, model.model_sampling.percent_to_sigma
            )
            if sigma_max >= sigma >= sigma_min:
                plan[application] = _injection(application, model.diffusion_model, x, options)
        return plan


def _injection(
    application: Application, diffusion_model: Any, x: Tensor, options: dict[str, Any]
) -> Injection:
    patch_size = diffusion_model.patch_size
    grid = (-(-x.shape[-2] // patch_size), -(-x.shape[-1] // patch_size))
    passes = options["cond_or_uncond"]
    mask = application.mask
    if mask is not None:
        mask = mask_to_tokens(mask.to(x.device), grid, len(x), len(x) // len(passes))
    tokens = select_tokens(
        application.identity.tokens.to(x.device),
        application.identity.uncond_tokens.to(x.device),
        [index == NEGATIVE for index in passes],
    )
    return Injection(tokens, grid[0] * grid[1], mask)


@dataclass(frozen=True, eq=False)
class BlockPatch:
    """Replacement for one block: runs it, then adds the identity to the generated image tokens."""

    application: Application
    attention_index: int
    previous: Any
    """Another node's replacement of the same block, called instead of the block; or None."""

    def __call__(self, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        """Follow ComfyUI's contract for patches_replace["dit"]."""
        run = extra["original_block"] if self.previous is None else self._run_previous(extra)
        out = run(args)
        options = args.get("transformer_options") or {}
        if KEY not in options:
            raise UnsupportedModelError(
                "PulidApplyFlux decides once per forward pass, but another node replaced FLUX's "
                "forward and dropped transformer_options. Remove that node, often a cache, from "
                "the model's way."
            )
        injection = options[KEY].get(self.application)
        if injection is None:
            return out
        text_tokens = 0 if "txt" in args else options["img_slice"][0]
        return {
            **out,
            "img": add_identity(
                out["img"],
                slice(text_tokens, text_tokens + injection.image_token_count),
                self.application.attentions.model[self.attention_index],
                injection.identity_tokens,
                self.application.weight,
                injection.mask,
            ),
        }

    def _run_previous(self, extra: dict[str, Any]) -> Any:
        return lambda args: self.previous(args, extra)

    def models(self) -> list[ModelPatcher]:
        """Models that ComfyUI must load together with the patched one."""
        previous = self.previous.models() if hasattr(self.previous, "models") else []
        return [self.application.attentions, *previous]

    def to(self, device_or_dtype: Any) -> BlockPatch:
        """Move what another node's patch holds; we hold nothing that needs moving."""
        if not hasattr(self.previous, "to"):
            return self
        return BlockPatch(self.application, self.attention_index, self.previous.to(device_or_dtype))

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
        patch = BlockPatch(application, attention_index, previous)
        patched.set_model_patch_replace(patch, "dit", *block)
    gates = patched.get_wrappers(WrappersMP.APPLY_MODEL, KEY)
    applications = tuple(a for gate in gates for a in gate.applications)
    patched.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, KEY)
    patched.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, KEY, ForwardGate((*applications, application))
    )
    return patched
