"""Which old node becomes what, and what is told about the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
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
OLD_NODES = (*LOADERS, APPLY, OPTIONS, *PASSED_BY)
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


@dataclass
class Conversion:
    """A converted workflow, and what its user should know about it."""

    workflow: dict[str, Any]
    remarks: list[str] = field(default_factory=list)
    replaced: int = 0
    """How many nodes of ours there are now."""

    def tell(self, *remarks: str) -> None:
        """Add what was not said yet."""
        self.remarks += [remark for remark in remarks if remark not in self.remarks]


def apply_remarks(name: str, values: dict[str, Any], linked: set[str]) -> list[str]:
    """What an old apply node did that ours does not, or not in the same way.

    Args:
        name: Its name in the sentences.
        values: Its widget values; None where a widget is absent.
        linked: Its inputs that something is connected to.
    """
    told = []
    fusion = values.get("fusion")
    if "fusion" in linked or fusion not in (None, "concat"):
        told.append(
            f"{name}: the fusion mode {fusion} is gone. Several photos are put side by side, as "
            f"concat did; with one photo nothing changes."
        )
    for mode, widgets in (
        ("auto_weight", ("fusion_weight_max", "fusion_weight_min")),
        ("train_weight", ("train_step",)),
    ):
        numbers = " and ".join(f"{widget} {values.get(widget)}" for widget in widgets)
        if fusion == mode:
            told.append(f"{name}: {numbers} of that mode went with it.")
    if values.get("use_gray") is False or "use_gray" in linked:
        told.append(f"{name}: use_gray false is gone. PuLID was trained with gray faces.")
    if "prior_image" in linked:
        told.append(f"{name}: prior_image is gone. Its picture is not connected any more.")
    if "attn_mask" in linked:
        told.append(
            f"{name}: attn_mask acts now. balazik's and sipie800's node ignored it, lldacing's "
            "did not."
        )
    start, end = values.get("start_at"), values.get("end_at")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and start > end:
        told.append(
            f"{name}: start_at {start} is above end_at {end}. The old node did nothing then; ours "
            "refuses it."
        )
    return told


def options_remarks(name: str, values: dict[str, Any]) -> list[str]:
    """What lldacing's options asked for that ours does not do.

    Args:
        name: The apply node's name in the sentences.
        values: The widget values of the options.
    """
    order, index = values["input_faces_order"], values["input_faces_index"]
    told = []
    if (order, index) != ("large-small", 0):
        told.append(
            f"{name}: the choice of face {index} in the order {order} is gone. The largest face "
            "is taken; crop the photo to choose another."
        )
    if values["input_faces_align_mode"] == 1:
        told.append(
            f"{name}: input_faces_align_mode 1 is gone. The face is cropped as PuLID was trained, "
            "a little wider."
        )
    return told


def provider_remarks(face_loader: str | None, provider: str) -> list[str]:
    """What the user should know about the face detector's new place.

    Args:
        face_loader: The type of the old loader, None when there was none.
        provider: PulidLoader's new value.
    """
    told = []
    if face_loader == FACENET_LOADER:
        told.append(
            "PulidLoader: FaceNet is gone. PuLID was trained with antelopev2, which PulidLoader "
            "uses (non-commercial use only)."
        )
    if provider not in ("auto", "CPUExecutionProvider"):
        told.append(
            f"PulidLoader: the provider is {provider}. If ComfyUI says that it is not in the "
            "list, ONNX Runtime lacks it here; auto takes the CPU."
        )
    return told


def stranger_remark(name: str, socket: str, source: str) -> str:
    """What to say about an input that came from a node we do not know."""
    if socket == "pulid_flux":
        return f"{name}: pulid_flux came from {source}. Connect a PulidLoader to pulid instead."
    return (
        f"{name}: {socket} came from {source}, which is not needed for it any more; PulidLoader "
        "brings its own."
    )


def staying_remark(name: str, users: str) -> str:
    """What to say about an old loader that others use as well."""
    return f"{name} stays, since {users} uses it. It needs the older pack."


def passed_by_remark(name: str, kind: str, how: str) -> str:
    """What to say about a node without a counterpart."""
    if kind == FIX_PATCH:
        return f"{name} {how}: there is nothing to fix any more."
    return (
        f"{name} {how}: what it feeds gets the whole photo. PulidApplyFlux itself shows the face "
        "that it took."
    )


def as_provider(value: Any) -> str:
    """The old loaders' CPU, CUDA or ROCM -> ONNX Runtime's name."""
    return f"{value}ExecutionProvider"
