"""Model folders: registering, listing, finding, and saying where a missing file comes from."""

from __future__ import annotations

import os
import re
import shlex
import sys
from itertools import chain
from pathlib import Path

import folder_paths
from comfy.cli_args import args

from ..pulid_core.errors import CheckpointError, MissingFilesError
from ..pulid_core.identity.file import SUFFIX as IDENTITY_SUFFIX
from ..pulid_core.model_files import finder as model_finder
from ..pulid_core.model_files.catalogue import FACE_DETECTOR, FACE_FILES, FACE_MODEL, ModelFile

AUTO = "auto"
NONE = "none"
"""Choice for the models of the encoder where only saved identities are used."""
IDENTITIES = "pulid_identities"
"""Folder below output, where identities are saved, and below models, where others' are put."""
PACK = Path(__file__).resolve().parent.parent
"""This folder, with `pulid.py` in it."""


class ComfyFolders:
    """ComfyUI's model folders; its file lists are cached."""

    def roots(self, name: str) -> list[Path]:
        """The folders of one name, in the order they are searched."""
        return [Path(path) for path in folder_paths.get_folder_paths(name)]

    def files(self, name: str) -> dict[str, Path]:
        """The files in them, below their folder's name; the first folder wins."""
        paths = {
            file: folder_paths.get_full_path(name, file)
            for file in folder_paths.get_filename_list(name)
        }
        return {file: Path(path) for file, path in paths.items() if path is not None}


FOLDERS = ComfyFolders()


def register_folders() -> None:
    """Tell ComfyUI about our folders; those from extra_model_paths.yaml stay in front."""
    for name in ("pulid", "facexlib", "insightface"):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))
    for folder in (identity_folder(), Path(folder_paths.models_dir) / IDENTITIES):
        folder_paths.add_model_folder_path(IDENTITIES, str(folder))


def identity_folder() -> Path:
    """Where identities are saved."""
    return Path(folder_paths.get_output_directory()) / IDENTITIES


def hash_memory_place() -> Path:
    """Where hashes of model files are remembered over restarts."""
    return Path(folder_paths.get_user_directory()) / "pulid_flux_hashes.json"


def identity_choices() -> list[str]:
    """Names of all saved identities and of those put into models/pulid_identities, newest first."""
    files = FOLDERS.files(IDENTITIES)
    names = [name for name in files if name.endswith(IDENTITY_SUFFIX)]
    return sorted(names, key=lambda name: _written(files[name]), reverse=True)


def _written(path: Path) -> float:
    """When a file was written; long ago when it is gone by now."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


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
    return [AUTO, *model_finder.weight_files(kind, FOLDERS)]


def find_file(kind: ModelFile, name: str) -> Path:
    """Turn a choice into a path; for a known name that is not there, of another file of its kind.

    Raises:
        MissingFilesError: No such file; the text says where it belongs and how to get it.
    """
    path = None if name == AUTO else model_finder.find_chosen(kind, name, FOLDERS)
    if path is None and (name == AUTO or model_finder.is_known_name(kind, name)):
        path = model_finder.find(kind, FOLDERS)
    if path is not None:
        return path
    target = model_finder.target(kind, FOLDERS)
    if name in (AUTO, kind.name):
        raise MissingFilesError({target: kind.summary}, fetch_command())
    told = f"chosen as {kind.description}; auto takes {kind.name}, {kind.summary}"
    raise MissingFilesError({target.parent / name: told}, fetch_command())


def face_model_choices() -> list[str]:
    """Names of the InsightFace packs found, the default one even if it is missing."""
    return [*dict.fromkeys([FACE_MODEL, *sorted(model_finder.face_packs(FOLDERS))])]


def find_face_model(name: str) -> Path:
    """Turn the name of an InsightFace pack into the folder that holds its .onnx files.

    Raises:
        MissingFilesError: No such pack, or a file of antelopev2 is missing.
    """
    missing = {
        model_finder.target(file, FOLDERS): file.summary
        for file in FACE_FILES
        if file.pack == name and model_finder.find(file, FOLDERS) is None
    }
    packs = model_finder.face_packs(FOLDERS)
    if name not in packs and not missing:
        root = Path(folder_paths.get_folder_paths("insightface")[0])
        told = f"chosen as the InsightFace pack; PuLID was trained with {FACE_DETECTOR.source}"
        missing[root / "models" / name] = told
    if missing:
        known = [path.name for path in missing if path.name in {file.name for file in FACE_FILES}]
        raise MissingFilesError(missing, fetch_command(*known))
    return packs[name]


def fetch_command(*names: str) -> str:
    """What a user types to download files into the folders of this ComfyUI: all that PuLID lacks, or these."""
    command = [sys.executable, str(PACK / "pulid.py"), "models", *(names or ("missing",))]
    comfyui, models = Path(str(folder_paths.__file__)).parent, Path(folder_paths.models_dir)
    configs = list(map(Path, chain(*args.extra_model_paths_config or [])))
    if configs or comfyui != model_finder.comfyui_around(PACK) or models != comfyui / "models":
        command += ["--models", str(models)]
        for config in (comfyui / model_finder.EXTRA_PATHS, *configs):
            if config.is_file():
                command += ["--extra-model-paths-config", str(config.absolute())]
    return _for_windows(command) if os.name == "nt" else shlex.join(command)


def _for_windows(command: list[str]) -> str:
    """A line for cmd; PowerShell would take a quoted program for a text."""
    line = " ".join(f'"{part}"' if re.search(r"[^\w:./\\-]", part) else part for part in command)
    return f"{line}   (in PowerShell, with & in front)" if line.startswith('"') else line
