"""The list of our nodes. Only this folder imports ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_flux import PulidApplyFlux
from .loader import PulidLoader
from .model_files import register_folders
from .old_workflows import replace_old_nodes


class PulidExtension(ComfyExtension):
    """What ComfyUI asks for our nodes."""

    async def on_load(self) -> None:
        """Make our model folders known before any node lists them; stand in for older packs."""
        register_folders()
        await replace_old_nodes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        return [PulidLoader, PulidApplyFlux]


async def comfy_entrypoint() -> PulidExtension:
    """Entry point that ComfyUI calls once."""
    return PulidExtension()
