"""Graphs of the older PuLID-FLUX packs in ComfyUI: the Replace button, and prompts.

ComfyUI's node-replacement API turns one node into one node. In the browser it offers to replace the
missing nodes of an opened graph, and keeps links and widget values by the mappings below. It cannot
merge: of the three old loaders only the first becomes the PulidLoader that is connected. The other
two become PulidLoaders that lead nowhere, so that no missing node stays behind; without an output
mapping, since the browser would cut `reference` off when the user deletes a loader that still held
its old link. It cannot carry the provider over or tell what is lost: `python pulid.py convert` does.

On the server the same API (0.16.3 to 0.30.0) raises KeyError, which the client sees as HTTP 500, for
prompts without `_meta`, for a mapped input that a prompt lacks, such as the optional mask, and, in
some runs, for two replaced nodes that are linked. So prompts are converted before it sees them, by
the same code as files, and what has to stay gets what that API asks for. Nodes that are installed
are never touched.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from comfy_api.latest import ComfyAPI, io

LOGGER = logging.getLogger(__name__)

PREFIXES = ("", "GR")
"""Of the older packs' ids, and of GraftingRayman's copies."""
REPLACEMENTS: list[dict[str, Any]] = [
    replacement
    for prefix in PREFIXES
    for replacement in (
        {
            "old_node_id": f"{prefix}ApplyPulidFlux",
            "new_node_id": "PulidApplyFlux",
            "old_widget_ids": ["weight", "start_at", "end_at"],
            "input_mapping": [
                {"new_id": "model", "old_id": "model"},
                {"new_id": "pulid", "old_id": "pulid_flux"},
                {"new_id": "reference", "old_id": "image"},
                {"new_id": "attn_mask", "old_id": "attn_mask"},
                {"new_id": "weight", "old_id": "weight"},
                {"new_id": "start_at", "old_id": "start_at"},
                {"new_id": "end_at", "old_id": "end_at"},
            ],
            "output_mapping": [{"old_idx": 0, "new_idx": 0}],
        },
        {
            "old_node_id": f"{prefix}PulidFluxModelLoader",
            "new_node_id": "PulidLoader",
            "old_widget_ids": ["pulid_file"],
            "input_mapping": [{"new_id": "pulid_file", "old_id": "pulid_file"}],
            "output_mapping": [{"old_idx": 0, "new_idx": 0}],
        },
        *(
            {
                "old_node_id": f"{prefix}{spare_loader}",
                "new_node_id": "PulidLoader",
                # No mapping at all would make the browser guess one.
                "input_mapping": [{"new_id": "pulid_file", "set_value": "auto"}],
            }
            for spare_loader in ("PulidFluxInsightFaceLoader", "PulidFluxEvaClipLoader")
        ),
    )
]


async def replace_old_nodes() -> None:
    """Tell ComfyUI which of our nodes stand for the older packs'."""
    from server import PromptServer

    api = ComfyAPI()
    for replacement in REPLACEMENTS:
        await api.node_replacement.register(io.NodeReplace(**replacement))
    PromptServer.instance.add_on_prompt_handler(convert_request)
    PromptServer.instance.add_on_prompt_handler(name_identities)


def name_identities(request: dict[str, Any]) -> dict[str, Any]:
    """Give PulidLoadIdentity the image that prompts of earlier versions lack; identity_file goes first.

    Args:
        request: The body of POST /prompt.
    """
    prompt = request.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if _kind(node) == "PulidLoadIdentity" else None
        if isinstance(inputs, dict) and "identity_file" in inputs:
            inputs.setdefault("image", "")
    return request


def convert_request(request: dict[str, Any]) -> dict[str, Any]:
    """Convert the prompt of a request whose old nodes are not installed.

    Args:
        request: The body of POST /prompt.
    """
    from ..pulid_core.old_workflows import OLD_NODES, OldWorkflowError, convert, is_prompt

    installed = sys.modules["nodes"].NODE_CLASS_MAPPINGS  # ComfyUI's own module
    prompt = request.get("prompt")
    if not (isinstance(prompt, dict) and is_prompt(prompt)):
        return request
    old = set(map(_kind, prompt.values())) & set(OLD_NODES)
    if not old or any(kind in installed for kind in old):
        return request
    try:
        conversion = convert(prompt)
    except OldWorkflowError as error:
        LOGGER.warning("%s", error)
        return request
    LOGGER.info("The prompt holds nodes of an older PuLID pack: %s.", ", ".join(sorted(old)))
    for remark in conversion.remarks:
        LOGGER.warning("%s", remark)
    for node in conversion.workflow.values():
        if _kind(node) in OLD_NODES:  # it stays, for a node that we do not know
            node.setdefault("_meta", {"title": _kind(node)})
            node["inputs"].setdefault("pulid_file", "auto")
    return request | {"prompt": conversion.workflow}


def _kind(node: Any) -> str:
    kind = node.get("class_type") if isinstance(node, dict) else None
    return kind if isinstance(kind, str) else ""
