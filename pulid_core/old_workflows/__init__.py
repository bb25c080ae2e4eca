"""Graphs made with the older PuLID-FLUX packs -> graphs with our nodes.

Knows the nodes of balazik/ComfyUI-PuLID-Flux, sipie800/ComfyUI-PuLID-Flux-Enhanced and
lldacing/ComfyUI_PuLID_Flux_ll, which share their ids. Three loaders and one apply node become one
PulidLoader and one PulidApplyFlux; what has no counterpart is told in plain sentences.

Needs the standard library alone: `python pulid.py convert` runs it without a virtual environment,
and the running pack uses it for prompts that still name the old nodes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from .mapping import OLD_NODES, Conversion
from .prompts import convert_prompt
from .saved import convert_saved

__all__ = ["OLD_NODES", "Conversion", "OldWorkflowError", "convert", "is_prompt"]


class OldWorkflowError(Exception):
    """The file is no workflow; the text is for the person in front of it."""


def convert(workflow: Any) -> Conversion:
    """Put our nodes in place of the older packs'; a workflow without those comes back as it is.

    Args:
        workflow: What ComfyUI saves (format 0.4 or 1, with subgraphs) or exports for the API.

    Returns:
        A changed copy. In a saved workflow the remarks stand in a note beside the new nodes too.

    Raises:
        OldWorkflowError: This is neither of the two.
    """
    workflow = deepcopy(workflow)
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        return convert_saved(workflow)
    if is_prompt(workflow):
        return convert_prompt(workflow)
    if isinstance(workflow, dict) and is_prompt(workflow.get("prompt")):  # the body of a request
        conversion = convert_prompt(workflow["prompt"])
        conversion.workflow = workflow | {"prompt": conversion.workflow}
        return conversion
    raise OldWorkflowError(
        "A ComfyUI workflow was expected, saved or exported for the API, but this JSON holds "
        "neither nodes nor a prompt."
    )


def is_prompt(value: Any) -> bool:
    """Whether this is a workflow in API format."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)
            for node in value.values()
        )
    )
