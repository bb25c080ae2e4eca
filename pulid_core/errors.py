"""Every error this pack raises on purpose, but for old_workflows, which needs nothing of the rest.

PulidError
|-- NoFaceError              no face in a photo
|-- FaceIndexError           fewer faces in a photo than the chosen index asks for
|-- ReferenceImageError      the photo itself cannot be used (empty, NaN, too small)
|-- CheckpointError          a model file is damaged or something else than expected
|-- MissingFilesError        model files are not there
|-- ModelDownloadError       a model file cannot be downloaded, or is not what was downloaded
|-- IdentityMismatchError    an identity made by another PuLID checkpoint or face model
|-- IdentityExistsError      an identity would overwrite a file
|-- UnsupportedModelError    the connected model cannot take a PuLID identity
|-- MissingDependencyError   a Python package is not installed, or cannot be imported
`-- RemoteError              see pulid_core.wavespeed.errors

Texts follow three beats: what was wanted, what was found, what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

QUOTED_CHARACTERS = 120


def quoted(text: object) -> str:
    """Quote what a stranger wrote: on one line, without control characters, and not at length."""
    printable = "".join(
        character if character.isprintable() else "�"
        for character in str(text)[: QUOTED_CHARACTERS + 1]
    )
    return repr(printable if len(printable) <= QUOTED_CHARACTERS else printable[:-1] + "…")


class PulidError(Exception):
    """Base of all errors of this pack.

    ComfyUI prints an error's module before its text, which for a node pack is the path of its folder.
    """

    __module__ = "pulid"

    def __init_subclass__(cls, **options: object) -> None:
        """Let every error print as `pulid.NoFaceError`."""
        super().__init_subclass__(**options)
        cls.__module__ = PulidError.__module__


class ReferenceImageError(PulidError):
    """A reference photo that cannot be used at all, face or not."""


class NoFaceError(PulidError):
    """No face was found in one photo; `image_index` counts from 0."""

    def __init__(self, image_index: int, image_count: int, reason: str):
        super().__init__(f"No face found in image {image_index + 1} of {image_count}: {reason}")


class FaceIndexError(PulidError):
    """A photo shows faces, but fewer than the chosen index asks for."""

    def __init__(self, image_index: int, image_count: int, face_index: int, faces: tuple[str, ...]):
        found = "; ".join(faces)
        super().__init__(
            f"Face {face_index} was wanted in image {image_index + 1} of {image_count}, but only "
            f"{len(faces)} face(s) were found, counted from 0: {found}. "
            f"Choose a face_index from 0 to {len(faces) - 1}."
        )


class CheckpointError(PulidError):
    """A model file that is damaged or holds another model, or a saved identity that is missing.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | Path, reason: str):
        self.path = Path(path)
        super().__init__(f"{path}: {reason}")


class MissingFilesError(PulidError):
    """Model files that a node was told to use are not there.

    Attributes:
        files: Where each belongs, and what it is, in one line.
        command: What fetches them.
    """

    def __init__(self, files: Mapping[Path, str], command: str):
        self.files = dict(files)
        self.command = command
        names = ", ".join(path.name for path in files)
        listed = "\n".join(f"* {path}: {told}" for path, told in files.items())
        super().__init__(
            f"Model files are needed that are not there: {names}. Fetch them with\n"
            f"{command}\nor by hand, and press R in ComfyUI. Where they belong:\n{listed}"
        )


class ModelDownloadError(PulidError):
    """A model file cannot be downloaded, or what came is not the file."""


class IdentityMismatchError(PulidError):
    """Two things that must come from the same PuLID checkpoint or face model do not."""

    def __init__(self, found: str, wanted: str, remedy: str):
        super().__init__(f"An identity for {wanted} was wanted, but it is for {found}. {remedy}")


class IdentityExistsError(PulidError):
    """Saving would overwrite a file.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        super().__init__(
            f"The identity should become the file {path}, but that exists already. "
            "Choose another name, or allow overwriting."
        )


class UnsupportedModelError(PulidError):
    """The connected MODEL cannot take this identity."""


class MissingDependencyError(PulidError):
    """A Python package that is needed now is not installed, or cannot be imported.

    Attributes:
        package: Its name on PyPI.
    """

    def __init__(self, package: str, purpose: str, reason: str | None = None):
        self.package = package
        found = f"is not installed. Run `pip install {package}`"
        if reason is not None:
            found = (
                f"is installed but cannot be imported: {reason}\nSupply what is missing there, or "
                f"run `pip uninstall {package}` and `pip install {package}`"
            )
        super().__init__(
            f"{purpose} needs the Python package {package}, which {found} with the Python that "
            "runs ComfyUI."
        )


@contextmanager
def importing(package: str, purpose: str, module: str | None = None) -> Iterator[None]:
    """Turn a failing import into an error that says whether the package is there.

    Args:
        package: Its name on PyPI.
        purpose: What it is needed for.
        module: What it is imported as, if not by its name on PyPI.

    Raises:
        MissingDependencyError: The import inside failed.
    """
    try:
        yield
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == (module or package)
        raise MissingDependencyError(package, purpose, None if is_absent else str(error)) from error


class RemoteError(PulidError):
    """Base of everything that goes wrong between this machine and WaveSpeedAI."""
