"""Nodes of other packs that stay in a graph, and what is told about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .mapping import OLD_NODES

OUR_NODES = (
    *("PulidLoader", "PulidApplyFlux", "PulidInjectionOptions", "PulidRegions"),
    *("PulidEncodeIdentity", "PulidSaveIdentity", "PulidLoadIdentity", "PulidBlendIdentities"),
    *("PulidLoadFaceModel", "PulidFaceSimilarity", "PulidLikenessGate", "PulidFaceCrop"),
    *("PulidTuningGrid", "PulidAutoTune", "PulidAutoTuneResult", "PulidContactSheet"),
    "WavespeedFluxPulidRemote",
)

USE_OURS = "Put PulidLoader and PulidApplyFlux there instead"
PULID_NODES = (
    (
        r"(?i:nunchaku.*pulid.*)",
        "Nunchaku's 4-bit FLUX is a model of its own, which no other node can reach. "
        f"{USE_OURS}, behind a FLUX from Load Diffusion Model (fp8) or the GGUF loader.",
    ),
    (
        r"ApplyPuLIDFlux2|PuLIDModelLoader|PuLIDEVACLIPLoader|PuLIDInsightFaceLoader"
        r"|(?i:.*pulid.*(flux[ ._-]?2|klein).*)",
        "PuLID was trained for FLUX.1, and this is for FLUX.2, which takes reference images by "
        "itself.",
    ),
    (
        r"(?i:aq_multiface_applypulidflux)",
        "a list of photos is no input of ours. Put one PulidApplyFlux for each person in a row, and their "
        "masks from PulidRegions.",
    ),
    (
        r"ApplyPulid(Advanced)?|Pulid(Model|EvaClip|InsightFace)Loader|easy pulIDApply(ADV)?",
        f"PuLID for SDXL is another model. {USE_OURS} where the graph uses FLUX.1.",
    ),
    (
        r"(?i:.*pulid.*)",
        f"unknown to this conversion. {USE_OURS} where the graph uses FLUX.1.",
    ),
)
"""Patterns of node types, the first that fits, and why such a node stays."""

STEP_CACHES = (
    (
        r"(Flux|Dit|Video)ForwardOverrider|Apply(TeaCache|FirstBlockCache)Patch(Advanced)?",
        "lldacing's ComfyUI_Patches_ll works together with PulidApplyFlux, and has to be installed.",
    ),
    (
        r"TeaCache\w*|ApplyFBCacheOnModel",
        "the pack does not start in newer ComfyUI. Where it does not, bypass the node; ComfyUI's "
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
    staying: dict[str, list[str]] = {}
    for number, kind in nodes:
        if kind not in (*OUR_NODES, *OLD_NODES):
            why = next((why for form, why in reasons if re.fullmatch(form, kind)), None)
            if why:
                staying.setdefault(why, []).append(f"{kind} (node {number})")
    return [
        f"{', '.join(names)} {'stays' if len(names) == 1 else 'stay'}: {why}"
        for why, names in staying.items()
    ]
