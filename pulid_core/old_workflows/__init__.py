"""Graphs made with the older PuLID-FLUX packs -> graphs with our nodes.

Knows the nodes of balazik/ComfyUI-PuLID-Flux, sipie800/ComfyUI-PuLID-Flux-Enhanced and
lldacing/ComfyUI_PuLID_Flux_ll, which share their ids, and GraftingRayman's copies of them. Three
loaders and one apply node become one PulidLoader and one PulidApplyFlux; what has no counterpart,
and which PuLID nodes of other packs stay, is told in plain sentences.

files    JSON and pictures that hold a workflow
mapping  which old node becomes what
saved    workflows with their layout: tracing follows links, graph changes them, layout finds places,
         cleaning removes, broadcast makes links of what is handed around without, shape checks first
prompts  workflows in API format
remarks, others  what a person is told about old nodes, and about those that stay
errors   what keeps a file from being converted

Needs the standard library alone: `python pulid.py convert` runs it without a virtual environment,
and the running pack uses it for prompts that still name the old nodes.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from .errors import OldWorkflowError
from .files import is_prompt, is_saved, places, read_workflow
from .mapping import OLD_NODES, Conversion
from .prompts import convert_prompt
from .saved import convert_saved
from .shape import check_depth, check_saved

__all__ = ["OLD_NODES", "Conversion", "OldWorkflowError", "convert", "is_prompt", "read_workflow"]


def convert(workflow: Any) -> Conversion:
    """Put our nodes in place of the older packs'; a workflow without those comes back as it is.

    Args:
        workflow: What ComfyUI saves (format 0.4 or 1, with subgraphs) or exports for the API; also
            within the body of a request, or the input of a service that runs workflows.

    Returns:
        A changed copy. In a saved workflow the remarks stand in a note beside the new nodes too.

    Raises:
        OldWorkflowError: There is no workflow in it, or it is broken.
    """
    check_depth(workflow)
    holder = {"": deepcopy(workflow)}
    found = list(places(holder, ""))
    if not found:
        raise OldWorkflowError(
            "A ComfyUI workflow was expected, saved or exported for the API, but this JSON holds "
            "neither nodes nor a prompt."
        )
    whole = Conversion(None)
    for place, key in found:
        one = _convert_value(place[key])
        place[key] = one.workflow
        whole.tell(*one.remarks)
        whole.replaced = max(whole.replaced, one.replaced)
    whole.workflow = holder[""]
    return whole


def _convert_value(value: Any) -> Conversion:
    if isinstance(value, str):  # JSON within JSON
        conversion = _convert_value(json.loads(value))
        conversion.workflow = json.dumps(conversion.workflow)
        return conversion
    if is_saved(value):
        check_saved(value)
        return convert_saved(value)
    return convert_prompt(value)
