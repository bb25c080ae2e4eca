"""PulidApplyFlux: puts one person into a FLUX model."""

from __future__ import annotations

from typing import Any

import comfy.ldm.flux.model
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..pulid_core.attention import CrossAttentionSizes
from ..pulid_core.errors import PulidError, UnsupportedModelError
from ..pulid_core.identity import Identity
from ..pulid_core.injection import BlockKey, plan_blocks
from .block_patch import Application, patch_model
from .loader import PulidSocket
from .pulid_models import Pulid
from .sockets import IdentitySocket


class PulidApplyFlux(io.ComfyNode):
    """Injects one identity into a clone of a FLUX model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidApplyFlux",
            display_name="Apply PuLID (FLUX)",
            category="PuLID FLUX",
            description="Gives the picture the face of the person on the reference photo. "
            "Shows what the encoder saw: the aligned face, and the masked gray crop.",
            search_aliases=["pulid", "face", "identity", "likeness", "face id", "same person"],
            inputs=[
                io.Model.Input("model", tooltip="A FLUX.1 model, with or without LoRA."),
                PulidSocket.Input("pulid", tooltip="From PulidLoader."),
                io.MultiType.Input(
                    "reference",
                    types=[io.Image, IdentitySocket],
                    tooltip="One photo, or a batch of photos of one person; or an identity made "
                    "earlier. The largest face of each photo is taken.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=-1.0,
                    max=5.0,
                    step=0.05,
                    tooltip="How strongly the identity acts. 0 is off, 1 is what PuLID was "
                    "trained with; negative values push away from the person.",
                ),
                io.Float.Input(
                    "start_at",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Part of the noise schedule after which the identity acts. 0 is from "
                    "the first step (strongest likeness); about 0.14 leaves pose and light to the "
                    "prompt; 1 is never.",
                ),
                io.Float.Input(
                    "end_at",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Part of the noise schedule at which the identity stops. 1 is never, "
                    "0 is before the first step.",
                ),
                io.Mask.Input(
                    "attn_mask",
                    optional=True,
                    tooltip="Where in the picture the identity acts: 1 fully, 0 not at all. Any "
                    "size; a batch of masks belongs to a batch of latents.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="A patched clone.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        pulid: Any,
        reference: Any,
        weight: float,
        start_at: float,
        end_at: float,
        attn_mask: Any = None,
    ) -> io.NodeOutput:
        """Clone, encode, patch."""
        if not isinstance(pulid, Pulid):
            raise PulidError(
                f"PulidApplyFlux needs the output of PulidLoader as pulid, but got "
                f"{type(pulid).__name__}. Other packs use the same socket name; connect our loader."
            )
        if start_at > end_at:
            raise PulidError(
                f"PulidApplyFlux should start at {start_at} and end at {end_at}, which is before "
                "it. Choose end_at above start_at."
            )
        plan = _plan(model, pulid.file.attention_sizes)
        if weight == 0:
            return io.NodeOutput(model.clone())
        identity = reference if isinstance(reference, Identity) else pulid.encode(reference)
        identity.require(pulid.file)
        if attn_mask is not None:
            attn_mask = attn_mask.reshape(-1, *attn_mask.shape[-2:])  # some nodes give (H, W)
        application = Application(pulid.attentions, identity, weight, start_at, end_at, attn_mask)
        preview = ui.PreviewImage(identity.crops, cls=cls) if len(identity.crops) else None
        return io.NodeOutput(patch_model(model, application, plan), ui=preview)


def _plan(model: ModelPatcher, sizes: CrossAttentionSizes) -> dict[BlockKey, int]:
    diffusion_model = model.get_model_object("diffusion_model")
    if not isinstance(diffusion_model, comfy.ldm.flux.model.Flux):
        raise UnsupportedModelError(
            f"PulidApplyFlux needs a FLUX.1 model, but got {type(model.model).__name__} "
            f"({type(diffusion_model).__name__}). Connect a model loaded from a FLUX.1 checkpoint "
            "by a node that keeps ComfyUI's own FLUX."
        )
    return plan_blocks(
        sizes,
        diffusion_model.hidden_size,
        len(diffusion_model.double_blocks),
        len(diffusion_model.single_blocks),
    )
