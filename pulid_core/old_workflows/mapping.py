"""Which old node becomes what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

MODEL_LOADER = "PulidFluxModelLoader"
EVA_CLIP_LOADER = "PulidFluxEvaClipLoader"
FACE_LOADER = "PulidFluxInsightFaceLoader"
FACENET_LOADER = "PulidFluxFaceNetLoader"
APPLY = "ApplyPulidFlux"
OPTIONS = "PulidFluxOptions"
FACE_DETECTOR = "PulidFluxFaceDetector"
FIX_PATCH = "FixPulidFluxPatch"

LOADERS = (MODEL_LOADER, EVA_CLIP_LOADER, FACE_LOADER, FACENET_LOADER)
PASSED_BY = (FACE_DETECTOR, FIX_PATCH)
"""Have no counterpart; what comes in at their first fitting input goes on to what they feed."""
COPIES = {
    "GRApplyPulidFlux": APPLY,
    "GRPulidFluxModelLoader": MODEL_LOADER,
    "GRPulidFluxEvaClipLoader": EVA_CLIP_LOADER,
    "GRPulidFluxInsightFaceLoader": FACE_LOADER,
}
"""GraftingRayman's nodes, and those of sipie800 that they were made from."""
OLD_NODES = (*LOADERS, APPLY, OPTIONS, *PASSED_BY, *COPIES)
FEEDERS = {  # what an apply node's inputs came from
    "pulid_flux": (MODEL_LOADER,),
    "eva_clip": (EVA_CLIP_LOADER,),
    "face_analysis": (FACE_LOADER, FACENET_LOADER),
    "options": (OPTIONS,),
}
OLD_TYPES = ("PULIDFLUX", "EVA_CLIP", "FACEANALYSIS", "OPTIONS")

APPLY_WIDGETS = {  # name -> default, in the order in which workflows save their values
    "weight": 1.0,
    "start_at": 0.0,
    "end_at": 1.0,
    "fusion": None,  # from here on sipie800's
    "fusion_weight_max": 1.0,
    "fusion_weight_min": 0.0,
    "train_step": 1000,
    "use_gray": True,
}
COPY_ONLY_WIDGETS = ("use_face_number", "face_number", "blur", "face_select")
"""GRApplyPulidFlux has these between end_at and fusion."""
OPTIONS_WIDGETS = {
    "input_faces_order": "large-small",
    "input_faces_index": 0,
    "input_faces_align_mode": 1,
}
KEPT_WIDGETS = ("weight", "start_at", "end_at")
NEW_SOCKETS = {  # old name -> new name and type
    "model": ("model", "MODEL"),
    "pulid_flux": ("pulid", "PULID"),
    "image": ("reference", "IMAGE,PULID_IDENTITY"),
    "attn_mask": ("attn_mask", "MASK"),
}
NEW_LOADER_WIDGETS = {
    "pulid_file": "auto",
    "eva_clip_file": "auto",
    "face_parsing_file": "auto",
    "face_model": "antelopev2",
    "provider": "auto",
}
NEWEST_FILE, OLDER_FILE = "pulid_flux_v0.9.1.safetensors", "pulid_flux_v0.9.0.safetensors"


@dataclass
class Conversion:
    """A converted workflow, and what its user should know about it."""

    workflow: Any
    remarks: list[str] = field(default_factory=list)
    replaced: int = 0
    """How many nodes of ours there are now."""

    def tell(self, *remarks: str) -> None:
        """Add what was not said yet."""
        self.remarks += [remark for remark in remarks if remark not in self.remarks]


def new_file(old: Any) -> Any:
    """The PulidLoader's choice for an old loader's file.

    v0.9.0 is what most old graphs name and what few still have, and a folder in front of the
    published name was that of somebody's machine: `auto` takes what is there.
    """
    path = PureWindowsPath(old) if isinstance(old, str) else PureWindowsPath()
    in_a_folder = path.name == NEWEST_FILE and path.parent.parts
    return "auto" if path.name == OLDER_FILE or in_a_folder else old


def names_older_file(old: Any) -> bool:
    """Whether an old loader asks for v0.9.0."""
    return isinstance(old, str) and PureWindowsPath(old).name == OLDER_FILE


def copy_values(saved: Any) -> Any:
    """The values of a GRApplyPulidFlux by name; sipie800's order is left to `widget_values`."""
    names = list(APPLY_WIDGETS)
    if isinstance(saved, list) and len(saved) > len(names):
        return dict(zip([*names[:3], *COPY_ONLY_WIDGETS, *names[3:]], saved, strict=False))
    return saved
