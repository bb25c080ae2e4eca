"""The list of our nodes. Only this folder imports ComfyUI.

Each node's file has its name: its inputs, defaults and tooltips stand there (the remote node's in
wavespeed_inputs). What they share:

sockets, values     what comes through links, and the refusal of what does not fit
display             what a node shows of itself after it ran
portrait_display    the same of a person that was encoded
model_files         model folders, and what to say about a missing file
pulid_models        the networks that PulidLoader hands on, under ComfyUI's memory management
folds               folded identities, likewise
block_patch         the hooks on the model
forward_plan        who acts in one forward pass of FLUX
wavespeed_background, wavespeed_workers  the remote node at work, and its refusal on several machines
workers             what other machines of ComfyUI-Distributed lack, told on this one
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_flux import PulidApplyFlux
from .auto_tune import PulidAutoTune, PulidAutoTuneResult
from .contact_sheet import PulidContactSheet
from .face_crop import PulidFaceCrop
from .face_model import PulidLoadFaceModel
from .face_similarity import PulidFaceSimilarity
from .identity import PulidBlendIdentities, PulidEncodeIdentity
from .identity_files import PulidLoadIdentity, PulidSaveIdentity
from .injection_options import PulidInjectionOptions
from .likeness_gate import PulidLikenessGate
from .loader import PulidLoader
from .local_or_hosted import PulidLocalOrHosted, drop_unchosen
from .model_files import register_folders
from .old_workflows import replace_old_nodes
from .regions import PulidRegions
from .tuning_grid import PulidTuningGrid
from .wavespeed_remote import WavespeedAccount, WavespeedFluxPulidRemote
from .workers import attend


class PulidExtension(ComfyExtension):
    """What ComfyUI asks for our nodes."""

    async def on_load(self) -> None:
        """Make our model folders known before any node lists them; stand in for older packs."""
        from server import PromptServer

        register_folders()
        await replace_old_nodes()
        PromptServer.instance.add_on_prompt_handler(drop_unchosen)
        PromptServer.instance.add_on_prompt_handler(attend)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        return [
            PulidLoader,
            PulidApplyFlux,
            PulidInjectionOptions,
            PulidRegions,
            PulidEncodeIdentity,
            PulidSaveIdentity,
            PulidLoadIdentity,
            PulidBlendIdentities,
            PulidLoadFaceModel,
            PulidFaceSimilarity,
            PulidLikenessGate,
            PulidFaceCrop,
            PulidTuningGrid,
            PulidAutoTune,
            PulidAutoTuneResult,
            PulidContactSheet,
            WavespeedFluxPulidRemote,
            WavespeedAccount,
            PulidLocalOrHosted,
        ]


async def comfy_entrypoint() -> PulidExtension:
    """Entry point that ComfyUI calls once."""
    return PulidExtension()
