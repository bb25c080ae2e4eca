"""Model folders: registering, listing, finding, and saying where a missing file comes from."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import folder_paths

from ..pulid_core.errors import CheckpointError
from ..pulid_core.identity_file import SUFFIX as IDENTITY_SUFFIX

AUTO = "auto"
NONE = "none"
"""Choice for the models of the encoder where only saved identities are used."""
IDENTITIES = "pulid_identities"
"""Folder below output, where identities are saved, and below models, where others' are put."""
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
DEFAULT_FACE_MODEL = "antelopev2"
FACE_MODEL_SOURCE = (
    "https://github.com/deepinsight/insightface/releases/download/v0.7/antelopev2.zip"
)


@dataclass(frozen=True)
class ModelFile:
    """One kind of weights: where it may lie, how it is called, where it comes from."""

    description: str
    folders: tuple[str, ...]
    """ComfyUI folder names; the first is where a new download belongs."""
    auto_patterns: tuple[str, ...]
    """Lower-case file name patterns that `auto` looks for, best first."""
    source: str


PULID = ModelFile(
    "the PuLID-FLUX checkpoint",
    ("pulid",),
    ("pulid_flux_v0.9.1.*", "pulid_flux_v0.9.0.*", "pulid_flux*"),
    "https://huggingface.co/guozinan/PuLID/resolve/main/pulid_flux_v0.9.1.safetensors",
)
EVA_CLIP = ModelFile(
    "the EVA02-CLIP-L-14-336 vision model",
    ("clip_vision", "text_encoders"),
    ("eva02_clip_l_336_psz14_s6b.*", "*eva02*clip*336*"),
    "https://huggingface.co/QuanSun/EVA-CLIP/resolve/main/EVA02_CLIP_L_336_psz14_s6B.pt",
)
FACE_PARSING = ModelFile(
    "the BiSeNet face parsing model",
    ("facexlib",),
    ("parsing_bisenet.*",),
    "https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth",
)


def register_folders() -> None:
    """Tell ComfyUI about our folders; those from extra_model_paths.yaml stay in front."""
    for name in ("pulid", "facexlib", "insightface"):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))
    for folder in (identity_folder(), Path(folder_paths.models_dir) / IDENTITIES):
        folder_paths.add_model_folder_path(IDENTITIES, str(folder))


def identity_folder() -> Path:
    """Where identities are saved."""
    return Path(folder_paths.get_output_directory()) / IDENTITIES


def identity_choices() -> list[str]:
    """Names of all saved identities, and of those put into models/pulid_identities."""
    return [
        name
        for name in folder_paths.get_filename_list(IDENTITIES)
        if name.endswith(IDENTITY_SUFFIX)
    ]


def find_identity(name: str) -> Path:
    """Turn the name of a saved identity into a path.

    Raises:
        CheckpointError: No such file.
    """
    path = folder_paths.get_full_path(IDENTITIES, name)
    if path is None or name not in identity_choices():
        raise CheckpointError(
            identity_folder() / name,
            "This identity is not there. Save one with PulidSaveIdentity, or put the file into "
            "that folder and press R in ComfyUI.",
        )
    return Path(path)


def file_choices(kind: ModelFile) -> list[str]:
    """`auto` and the names of all weight files in the folders of this kind."""
    return [AUTO, *_files(kind)]


def find_file(kind: ModelFile, name: str) -> Path:
    """Turn a choice into a path.

    Raises:
        CheckpointError: No such file; the text says where it belongs and where to get it.
    """
    files = _files(kind)
    if name != AUTO and name in files:
        return files[name]
    if name == AUTO:
        for pattern in kind.auto_patterns:
            for file, path in files.items():
                if fnmatch(Path(file).name.lower(), pattern):
                    return path
    wanted = kind.source.rsplit("/", 1)[1] if name == AUTO else name
    raise CheckpointError(
        Path(folder_paths.get_folder_paths(kind.folders[0])[0]) / wanted,
        f"This file, {kind.description}, is not there. "
        f"Download it into that folder from {kind.source} and press R in ComfyUI.",
    )


def face_model_choices() -> list[str]:
    """Names of the InsightFace packs found, the default one even if it is missing, and none."""
    return [*dict.fromkeys([DEFAULT_FACE_MODEL, *sorted(_face_models())]), NONE]


def find_face_model(name: str) -> Path:
    """Turn the name of an InsightFace pack into the folder that holds its .onnx files.

    Raises:
        CheckpointError: No such pack.
    """
    packs = _face_models()
    if name in packs:
        return packs[name]
    root = Path(folder_paths.get_folder_paths("insightface")[0])
    raise CheckpointError(
        root / "models" / name,
        "This InsightFace model pack is not there. "
        f"Download {FACE_MODEL_SOURCE} and unpack it into that folder.",
    )


def _files(kind: ModelFile) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in kind.folders:
        for name in folder_paths.get_filename_list(folder):
            if name.endswith(WEIGHT_SUFFIXES) and name not in files:
                files[name] = Path(folder_paths.get_full_path_or_raise(folder, name))
    return files


def _face_models() -> dict[str, Path]:
    packs: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths("insightface"):
        for pack in sorted(Path(root, "models").glob("*/")):
            # The zip holds a folder of its own name, which unpacking into one doubles.
            for folder in (pack, pack / pack.name):
                if pack.name not in packs and any(folder.glob("*.onnx")):
                    packs[pack.name] = folder
    return packs
