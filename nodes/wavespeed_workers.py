"""Several machines running one graph: each has a record of its own, so each would pay."""

from __future__ import annotations

from comfy_api.latest import io

from ..pulid_core.errors import RemoteError
from ..pulid_core.prompt_branches import runs_on_workers


def refuse_on_workers(node: type[io.ComfyNode]) -> None:
    """Order nothing where ComfyUI-Distributed runs a node once per machine.

    Args:
        node: With the hidden inputs prompt and unique_id.

    Raises:
        RemoteError: It lies before a distributed collector or upscaler.
    """
    prompt, key = node.hidden.prompt, node.hidden.unique_id
    if isinstance(prompt, dict) and runs_on_workers(prompt, str(key)):
        raise RemoteError(
            "This node should run once, but it lies before a node of ComfyUI-Distributed, so every "
            "machine would order and pay for itself. Nothing was ordered. Connect it behind that "
            "node or beside it; for several pictures use num_images."
        )
