"""What a person is told about a conversion, in plain sentences."""

from __future__ import annotations

from typing import Any

from .mapping import FACE_LOADER, FACENET_LOADER, FIX_PATCH


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
            "is taken; PulidEncodeIdentity chooses another."
        )
    if values["input_faces_align_mode"] == 1:
        told.append(
            f"{name}: input_faces_align_mode 1 is gone. The face is cropped as PuLID was trained, "
            "a little wider."
        )
    return told


def copy_remarks(name: str, values: dict[str, Any]) -> list[str]:
    """What GraftingRayman's apply node did besides.

    Args:
        name: Its name in the sentences.
        values: Its widget values by name; empty for the other packs' nodes.
    """
    choice = values.get("face_select") or "largest_face"
    if values.get("use_face_number") is True:
        choice = f"number {values.get('face_number')}"
    if choice == "largest_face":
        return []
    return [
        f"{name}: the choice of the face ({choice}) is gone. The largest face is taken; "
        "PulidEncodeIdentity chooses another."
    ]


def face_loader_remarks(kind: str | None, provider: Any) -> list[str]:
    """What the user should know about the face detector's new place.

    Args:
        kind: The type of the old loader, None when there was none.
        provider: CPU, CUDA or ROCM.
    """
    if kind == FACENET_LOADER:
        return [
            "PulidLoader: FaceNet is gone. PuLID was trained with antelopev2, which PulidLoader "
            "uses (non-commercial use only)."
        ]
    if kind == FACE_LOADER and isinstance(provider, str) and provider != "CPU":
        return [
            f"PulidLoader: the face detector ran on {provider}; the provider auto takes the CPU. "
            f"With an ONNX Runtime for it, choose {provider}ExecutionProvider."
        ]
    return []


def older_file_remark(name: str) -> str:
    """What to say where a graph asked for v0.9.0.

    Args:
        name: The loader's or apply node's name in the sentence.
    """
    return (
        f"{name}: it named the older PuLID file, v0.9.0. PulidLoader's auto takes v0.9.1 where it "
        "is there, else v0.9.0; pictures differ between the two."
    )


def stranger_remark(name: str, socket: str, source: str) -> str:
    """What to say about an input that came from a node we do not know."""
    if socket == "pulid_flux":
        return f"{name}: pulid_flux came from {source}. Connect a PulidLoader to pulid instead."
    return (
        f"{name}: {socket} came from {source}, which is not needed for it any more; PulidLoader "
        "brings its own."
    )


def staying_remark(name: str, users: str) -> str:
    """What to say about an old loader that others use."""
    return f"{name} stays, since {users} uses it. It needs the older pack."


def passed_by_remark(name: str, kind: str, how: str) -> str:
    """What to say about a node without a counterpart."""
    if kind == FIX_PATCH:
        return f"{name} {how}: there is nothing to fix any more."
    return (
        f"{name} {how}: what it feeds gets the whole photo. PulidApplyFlux itself shows the face "
        "that it took."
    )
