"""Where model files lie: one set of rules for the nodes and for `pulid.py models`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

from ..errors import PulidError, importing
from .catalogue import ModelFile

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
EXTRA_PATHS = "extra_model_paths.yaml"
DEFAULT_FOLDERS = {
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("unet", "diffusion_models"),
}
"""ComfyUI folder names that stand for several folders in `models`."""
OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


class ModelFolders(Protocol):
    """ComfyUI's model folders by name."""

    def roots(self, name: str) -> list[Path]:
        """The folders of one name, in the order they are searched."""
        ...

    def files(self, name: str) -> dict[str, Path]:
        """The files in them, below their folder's name; the first folder wins."""
        ...


def comfyui_around(pack: Path) -> Path | None:
    """The ComfyUI folder that this pack is installed in, or None."""
    return pack.parents[1] if pack.parent.name == "custom_nodes" else None


def weight_files(kind: ModelFile, folders: ModelFolders) -> dict[str, Path]:
    """All weight files in the folders of this kind, by the name that a node shows."""
    files: dict[str, Path] = {}
    suffixes = (*WEIGHT_SUFFIXES, Path(kind.name).suffix)
    for folder in kind.folders:
        for name, path in folders.files(folder).items():
            if name.endswith(suffixes):
                files.setdefault(name, path)
    return files


def face_packs(folders: ModelFolders) -> dict[str, Path]:
    """InsightFace packs by name: the folder that holds the .onnx files."""
    packs: dict[str, Path] = {}
    for root in folders.roots("insightface"):
        for pack in sorted(Path(root, "models").glob("*/")):
            # The zip holds a folder of its own name, which unpacking into one doubles.
            for folder in (pack, pack / pack.name):
                if pack.name not in packs and any(folder.glob("*.onnx")):
                    packs[pack.name] = folder
    return packs


def find(file: ModelFile, folders: ModelFolders) -> Path | None:
    """Where a file lies that `auto` takes for this one, or None."""
    if file.pack:
        pack = face_packs(folders).get(file.pack)
        return pack / file.name if pack and (pack / file.name).is_file() else None
    files = weight_files(file, folders)
    for pattern in file.auto_patterns:
        for name, path in files.items():
            if fnmatch(Path(name).name.lower(), pattern):
                return path
    return None


def is_known_name(file: ModelFile, name: str) -> bool:
    """Whether a name, with any folder before it, is one that `auto` takes for this file."""
    return any(fnmatch(_base_name(name).lower(), pattern) for pattern in file.auto_patterns)


def find_chosen(file: ModelFile, name: str, folders: ModelFolders) -> Path | None:
    """Where the file lies that a node names, or one of the same name in another folder."""
    files = weight_files(file, folders)
    same = (path for path in files.values() if path.name == _base_name(name))
    return files.get(name) or next(same, None)


def _base_name(name: str) -> str:
    """The name without folders; a workflow may come from Windows."""
    return PureWindowsPath(name).name


def find_by_name(file: ModelFile, folders: ModelFolders) -> Path | None:
    """Where a file of exactly this name lies, or None."""
    if file.pack:
        return find(file, folders)
    paths = weight_files(file, folders).values()
    return next((path for path in paths if path.name.lower() == file.name.lower()), None)


def target(file: ModelFile, folders: ModelFolders) -> Path:
    """Where a new download of the file belongs."""
    name = file.folders[0]
    roots = folders.roots(name)
    root = next((root for root in roots if root.name == name), roots[0])
    if file.pack:
        root = face_packs(folders).get(file.pack, root / "models" / file.pack)
    return root / file.name


class FoldersOnDisk:
    """A models folder and the folders of extra_model_paths.yaml, searched as ComfyUI does.

    Args:
        models: ComfyUI's `models`.
        extra: Folder name, path, and whether it goes in front; in the file's order.
    """

    def __init__(self, models: Path, extra: list[tuple[str, Path, bool]] | None = None):
        self._models = models
        self._extra = extra or []

    def roots(self, name: str) -> list[Path]:
        """The folders of one name, in the order they are searched."""
        own = [self._models / folder for folder in DEFAULT_FOLDERS.get(name, (name,))]
        # ComfyUI reads the yaml before the pack makes its own folders known.
        roots = [] if name in ("pulid", "facexlib", "insightface") else list(own)
        for extra_name, path, is_first in self._extra:
            if extra_name == name and (path not in roots or is_first):
                roots = [path, *roots] if is_first else [*roots, path]
        return list(dict.fromkeys([*roots, *own]))

    def files(self, name: str) -> dict[str, Path]:
        """The files in them, below their folder's name; the first folder wins."""
        files: dict[str, Path] = {}
        for root in self.roots(name):
            for path in sorted(_walk(root)):
                files.setdefault(str(path.relative_to(root)), path)
        return dict(sorted(files.items()))


def _walk(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if name != ".git"]
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def extra_folders(file: Path) -> list[tuple[str, Path, bool]]:
    """Read an extra_model_paths.yaml, if there is one: folder name, path, whether it goes in front.

    Raises:
        MissingDependencyError: PyYAML is not installed, or cannot be imported.
        PulidError: The file is not what ComfyUI expects there.
    """
    if not file.is_file():
        return []
    with importing("PyYAML", f"Reading {file}", "yaml"):
        import yaml
    try:
        sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return [
            entry
            for section in sections.values()
            if section
            for entry in _entries(section, file.absolute().parent)
        ]
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise PulidError(
            f"{file} should list ComfyUI's further model folders, but cannot be read so. "
            "Compare it with ComfyUI's extra_model_paths.yaml.example."
        ) from error


def _entries(section: dict[str, Any], place: Path) -> Iterator[tuple[str, Path, bool]]:
    base = Path(os.path.expandvars(section.get("base_path") or "")).expanduser()
    is_first = bool(section.get("is_default", False))
    for name, lines in section.items():
        if name not in ("base_path", "is_default"):
            for line in filter(None, lines.split("\n")):
                path = os.path.normpath(place / base / line)
                yield OLD_NAMES.get(name, name), Path(path), is_first
