"""Model folders: registering, listing, finding, and saying where a missing file comes from."""

from __future__ import annotations

import os
import re
import shlex
import sys
from functools import lru_cache
from itertools import chain
from pathlib import Path

import folder_paths
from comfy.cli_args import args

from ..pulid_core.errors import CheckpointError, MissingFilesError
from ..pulid_core.identity.name import CARD_SUFFIX
from ..pulid_core.identity.name import SUFFIX as IDENTITY_SUFFIX
from ..pulid_core.model_files import finder as model_finder
from ..pulid_core.model_files.catalogue import FACE_DETECTOR, FACE_FILES, FACE_MODEL, ModelFile

AUTO = "auto"
NONE = "none"
"""Choice for the models of the encoder where only saved identities are used."""
IDENTITIES = "pulid_identities"
"""Folder below input, where cards are saved, below output, where .safetensors files are saved, and below
models, where others' are put."""
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
    """Where identities are saved as .safetensors files."""
    return Path(folder_paths.get_output_directory()) / IDENTITIES


def card_folder() -> Path:
    """Where cards are saved: below input, from where whatever takes a graph elsewhere takes pictures along."""
    return Path(folder_paths.get_input_directory()) / IDENTITIES


def hash_memory_place() -> Path:
    """Where hashes of model files are remembered over restarts."""
    return Path(folder_paths.get_user_directory()) / "pulid_flux_hashes.json"


def card_choices() -> list[str]:
    """Names of the cards in input and of those saved there, newest first, as ComfyUI names pictures."""
    root = Path(folder_paths.get_input_directory())
    cards = {}
    for path in chain(root.glob("*"), card_folder().rglob("*")):
        written = _written(path) if path.suffix == CARD_SUFFIX else 0
        if written and _is_card(path, written):
            cards[path.relative_to(root).as_posix()] = written
    return sorted(cards, key=cards.__getitem__, reverse=True)


@lru_cache(16384)  # ComfyUI asks several times for each prompt
def _is_card(path: Path, written: int) -> bool:  # noqa: ARG001 - a file that was replaced is read again
    from ..pulid_core.identity.card import is_card

    return is_card(path)


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 when it is gone by now."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def find_identity(name: str) -> Path:
    """Turn the name of a card, or of another saved identity, into a path.

    Args:
        name: Of a picture as LoadImage takes it, or of a file in one of the folders of identities.

    Raises:
        CheckpointError: No such file.
    """
    plain, base = folder_paths.annotated_filepath(name)
    root = Path(base or folder_paths.get_input_directory()).absolute()
    picture = Path(os.path.normpath(root / plain))
    if picture.suffix != IDENTITY_SUFFIX and picture.is_relative_to(root) and picture.is_file():
        return picture
    files = FOLDERS.files(IDENTITIES)
    if plain in files and plain.endswith((IDENTITY_SUFFIX, CARD_SUFFIX)):
        return files[plain]
    raise CheckpointError(
        card_folder() / plain,
        "This identity is not there. Save one with PulidSaveIdentity, upload its card, or put the file "
        "into that folder and press R in ComfyUI.",
    )


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
