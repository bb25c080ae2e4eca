"""PulidApplyFlux: puts one person into a FLUX model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.ldm.chroma.model
import comfy.ldm.chroma_radiance.model
import comfy.ldm.flux.model
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..pulid_core.errors import PulidError, UnsupportedModelError
from ..pulid_core.identity.identity import Identity
from ..pulid_core.injection.attention import CrossAttentionSizes
from ..pulid_core.injection.blocks import BlockKey, injected_blocks
from ..pulid_core.injection.options import InjectionOptions
from .portrait_display import show_person
from .sockets import IdentitySocket, OptionsSocket, PulidSocket, require_pulid
from .values import require_values

if TYPE_CHECKING:
    from .folds import IdentityFolds
    from .pulid_models import Pulid

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SUPPORTED = (
    comfy.ldm.flux.model.Flux,
    comfy.ldm.chroma.model.Chroma,
    comfy.ldm.chroma_radiance.model.ChromaRadiance,
)
MASK_TOLERANCE = 0.01  # blurring and resizing may leave [0, 1] a little
NUNCHAKU_WRAPPER = "ComfyFluxWrapper"  # nunchaku-tech/ComfyUI-nunchaku wrappers/flux.py


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
            search_aliases=[
                *("pulid", "face", "identity", "likeness", "face id", "same person"),
                *("portrait", "ipadapter", "instantid", "reactor", "face swap"),
                *("consistent character", "人脸", "换脸", "身份"),
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A FLUX.1 or Chroma model, with or without LoRA. For several people "
                    "put several of these nodes in a row, each with its own attn_mask.",
                ),
                PulidSocket.Input("pulid", tooltip="From Load PuLID (FLUX)."),
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
                    tooltip="Part of the noise schedule after which the identity stops. 1 is never, "
                    "0 is after the first step. Both ends are included, as in ControlNet nodes.",
                ),
                io.Mask.Input(
                    "attn_mask",
                    optional=True,
                    tooltip="Where in the picture the identity acts: 1 fully, 0 not at all. Any "
                    "size; a batch of masks belongs to a batch of latents. Where the masks of "
                    "several people overlap, their contributions are summed.",
                ),
                OptionsSocket.Input(
                    "options",
                    optional=True,
                    tooltip="From PuLID Injection Options: weight schedule, weights per block, what "
                    "the negative prompt sees, and whether it acts on the face alone. Not "
                    "connected is PuLID's own way.",
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
        options: Any = None,
    ) -> io.NodeOutput:
        """Clone, encode, patch."""
        from .block_patch import patch_model
        from .forward_plan import Application

        require_values(cls, weight=weight, start_at=start_at, end_at=end_at)
        pulid = require_pulid(pulid, cls)
        _require_order(start_at, end_at)
        blocks = _blocks(model, pulid.file.attention_sizes)
        options = _options(options)
        doubles = sum(kind == "double_block" for kind, _ in blocks)
        factors = options.block_weights(doubles, len(blocks) - doubles)
        if weight == 0:
            return io.NodeOutput(model.clone())
        identity = reference if isinstance(reference, Identity) else pulid.encode(reference)
        identity.require(pulid.file)
        person, negative = _people(model, pulid, identity, options)
        application = Application(
            person=person,
            negative=negative,
            start_at=start_at,
            end_at=end_at,
            weights=tuple(weight * factor for factor in factors),
            schedule=options.schedule,
            mask=_mask(attn_mask),
            acts_on=options.acts_on,
            floor=options.floor,
        )
        notes = pulid.notes if identity is not reference else ()
        shown = show_person(identity, [identity.crops], cls, notes)
        return io.NodeOutput(patch_model(model, application, blocks), ui=shown)


def _require_order(start_at: float, end_at: float) -> None:
    if start_at > end_at:
        raise PulidError(
            f"PulidApplyFlux should start at {start_at} and end at {end_at}, which is before "
            "it. Choose end_at above start_at."
        )


def _people(
    model: ModelPatcher, pulid: Pulid, identity: Identity, options: InjectionOptions
) -> tuple[IdentityFolds, IdentityFolds | None]:
    """Who acts on the prompt's pass, and who on the negative one."""
    from .block_patch import applications_on

    dtype = _compute_dtype(model)
    room = len(applications_on(model)) + 2  # this person and nobody
    person = pulid.folds.get(identity.tokens, dtype, room)
    person.on(model.load_device)  # the work belongs here, not into the first step
    if options.negative_sees == "nothing":
        return person, None
    if options.negative_sees == "nobody":
        return person, pulid.folds.get(identity.uncond_tokens, dtype, room)
    return person, person


def _options(options: Any) -> InjectionOptions:
    """What the options socket carries; PuLID's own way where it is not connected."""
    if options is not None and not isinstance(options, InjectionOptions):
        raise PulidError(
            "PulidApplyFlux needs the output of PulidInjectionOptions as options, but got "
            f"{type(options).__name__}. Connect that node, or nothing."
        )
    return options or InjectionOptions()


def _mask(attn_mask: Any) -> torch.Tensor | None:
    """(H, W), (M, H, W) or (M, 1, H, W) -> (M, H, W); None stands for ones everywhere."""
    if attn_mask is None:
        return None
    found = type(attn_mask).__name__
    if isinstance(attn_mask, torch.Tensor):
        masks = attn_mask[None] if attn_mask.dim() == 2 else attn_mask
        masks = masks.squeeze(1) if masks.dim() == 4 else masks
        found = f"the shape {tuple(attn_mask.shape)}"
        if masks.dim() == 3 and masks.numel():
            low, high = (float(value) for value in masks.aminmax())
            if low >= -MASK_TOLERANCE and high <= 1 + MASK_TOLERANCE:  # False for NaN
                return None if low == high == 1 else masks.clamp(0, 1)
            found = f"values from {low:g} to {high:g}"
    raise PulidError(
        "PulidApplyFlux needs at least one mask of numbers from 0 to 1 as attn_mask, but got "
        f"{found}. Connect the mask of a node that found something, or none."
    )


def _compute_dtype(model: ModelPatcher) -> torch.dtype:
    """What FLUX computes in: a cast decides for fp8 weights, and a node may ask for one."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
    return dtype if dtype in COMPUTE_DTYPES else torch.bfloat16


def _blocks(model: ModelPatcher, sizes: CrossAttentionSizes) -> dict[BlockKey, int]:
    diffusion_model: Any = model.get_model_object("diffusion_model")
    # Nodes that compile the whole model put torch's wrapper around it.
    diffusion_model = getattr(diffusion_model, "_orig_mod", diffusion_model)
    kind = type(diffusion_model).__name__
    if kind == NUNCHAKU_WRAPPER:
        raise UnsupportedModelError(
            "PulidApplyFlux needs ComfyUI's own FLUX, but got a nunchaku model, whose compiled "
            "forward calls no block hooks. Use nunchaku's own PuLID nodes, or load FLUX another way."
        )
    if type(diffusion_model) not in SUPPORTED:  # a subclass may be anything
        raise UnsupportedModelError(
            f"PulidApplyFlux needs a FLUX.1 or Chroma model, but got {type(model.model).__name__} "
            f"({kind}). Connect a model loaded from a FLUX.1 checkpoint by a node that keeps "
            "ComfyUI's own FLUX."
        )
    if getattr(diffusion_model.params, "global_modulation", False):
        raise UnsupportedModelError(
            "PulidApplyFlux needs a FLUX.1 or Chroma model, but got FLUX.2, whose blocks PuLID was "
            "not trained on. Connect a FLUX.1 model."
        )
    return injected_blocks(
        sizes,
        diffusion_model.hidden_size,
        len(diffusion_model.double_blocks),
        len(diffusion_model.single_blocks),
    )
