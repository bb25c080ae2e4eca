"""Nodes of other packs that stay in a graph, and what is told about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .mapping import OLD_NODES

OUR_NODES = (
    *("PulidLoader", "PulidApplyFlux", "PulidInjectionOptions", "PulidRegions"),
    *("PulidEncodeIdentity", "PulidSaveIdentity", "PulidLoadIdentity", "PulidBlendIdentities"),
    *("PulidFaceSimilarity", "PulidTuningGrid", "PulidContactSheet", "WavespeedFluxPulidRemote"),
)

USE_OURS = "Put PulidLoader and PulidApplyFlux in its place"
PULID_NODES = (
    (
        r"(?i:nunchaku.*pulid.*)",
        "it runs in Nunchaku's own 4-bit FLUX, which no other node can reach. "
        f"{USE_OURS}, behind a FLUX from Load Diffusion Model (fp8) or the GGUF loader.",
    ),
    (
        r"ApplyPuLIDFlux2|PuLIDModelLoader|PuLIDEVACLIPLoader|PuLIDInsightFaceLoader"
        r"|(?i:.*pulid.*(flux[ ._-]?2|klein).*)",
        "it is for FLUX.2, and PuLID was trained for FLUX.1. FLUX.2 takes reference images "
        "by itself.",
    ),
    (
        r"(?i:aq_multiface_applypulidflux)",
        "it takes a list of photos. Put one PulidApplyFlux for each person in a row, and their "
        "masks from PulidRegions.",
    ),
    (
        r"ApplyPulid(Advanced)?|Pulid(Model|EvaClip|InsightFace)Loader|easy pulIDApply(ADV)?",
        f"it is for SDXL. {USE_OURS} where the graph uses FLUX.1.",
    ),
    (
        r"(?i:.*pulid.*)",
        f"this conversion does not know it. {USE_OURS} where it does what ApplyPulidFlux does.",
    ),
)
"""Patterns of node types, the first that fits, and why such a node stays."""

STEP_CACHES = (
    (
        r"(Flux|Dit|Video)ForwardOverrider|Apply(TeaCache|FirstBlockCache)Patch(Advanced)?",
        "it works together with PulidApplyFlux, and needs lldacing's ComfyUI_Patches_ll.",
    ),
    (
        r"TeaCache\w*|ApplyFBCacheOnModel",
        "its pack does not start in newer ComfyUI. Where it does not, bypass it; ComfyUI's "
        "EasyCache skips steps as well.",
    ),
)
"""The same for nodes that skip steps, which graphs with PuLID often hold."""


def other_nodes_remarks(nodes: Iterable[tuple[Any, str]], *, with_caches: bool) -> list[str]:
    """What stays in a graph though it looks like PuLID, or changes FLUX's forward pass.

    Args:
        nodes: Id and type of each node.
        with_caches: Whether our nodes are in the graph, so that step caches matter.
    """
    reasons = (*PULID_NODES, *(STEP_CACHES if with_caches else ()))
    told = []
    for number, kind in nodes:
        if kind not in (*OUR_NODES, *OLD_NODES):
            why = next((why for form, why in reasons if re.fullmatch(form, kind)), None)
            told += [f"{kind} (node {number}) stays: {why}"] if why else []
    return told
