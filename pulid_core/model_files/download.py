"""`pulid.py models`: tells which model files are there, and fetches those that are asked for.

Files come from Hugging Face, or the mirror in HF_ENDPOINT, through huggingface_hub. What has come
waits beside its place as `NAME.….partial`; it takes the place only when size and SHA-256 are right.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from ..errors import ModelDownloadError, importing
from .catalogue import ALL_FILES, FACE_FILES, FLUX_FILES, HUB, SMALLER_FILES, ModelFile, size_text
from .finder import ModelFolders, find, find_by_name, target

Targets = Mapping[ModelFile, Path]
"""Files to download, and where each belongs."""
MISSING = "missing"
"""Name for whatever PuLID itself still lacks."""
SHA256 = re.compile("[0-9a-f]{64}")
LISTED = (
    ("PuLID; for saved identities the first is enough", FACE_FILES),
    ("FLUX, for the workflows", FLUX_FILES),
    ("Smaller, in place of flux1-dev and t5xxl_fp16", SMALLER_FILES),
)


def listing(folders: ModelFolders) -> str:
    """Every file, found where or missing, with size, licence and source."""
    lines = []
    for title, files in LISTED:
        lines.append(title)
        for file in files:
            path = find(file, folders)
            lines.append(f"  {file.name:30} {size_text(file.size):>7}  licence: {file.licence}")
            if path:
                lines.append(f"    found    {path}")
            else:
                lines.append(f"    MISSING  {file.description}; from {file.source}")
    missing = chosen([MISSING], folders)
    if missing:
        size = size_text(sum(file.size for file in missing))
        lines.append(f"PuLID lacks {len(missing)} of its files: `models missing` fetches {size}.")
    else:
        lines.append("PuLID has all its files.")
    return "\n".join(lines)


def chosen(names: Iterable[str], folders: ModelFolders) -> Targets:
    """The files of these names that are not there yet, and where each belongs.

    Args:
        names: File names; `missing` stands for what PuLID needs, not for FLUX.
        folders: Where files are looked for.

    Raises:
        ModelDownloadError: A name that is no file of the pack.
    """
    files: dict[str, ModelFile] = {file.name: file for file in ALL_FILES}
    wanted: list[ModelFile] = []
    for name in names:
        if name == MISSING:
            wanted += [file for file in FACE_FILES if find(file, folders) is None]
        elif name not in files:
            raise ModelDownloadError(
                f"{name} is no model file of this pack. It uses {', '.join(files)}; "
                "`missing` stands for those that PuLID lacks."
            )
        elif find_by_name(files[name], folders) is None:
            wanted.append(files[name])
    return {file: target(file, folders) for file in wanted}


def overview(targets: Targets) -> str:
    """What a download would do: size, licence and place of each file, and where from.

    Raises:
        MissingDependencyError: huggingface_hub is not installed, or cannot be imported.
    """
    hub = _hub()
    lines = [f"From {_told_endpoint(hub)}:"]
    if not _is_encrypted(hub):
        lines.append("  (over plain http, so no Hugging Face token is sent)")
    for file, path in targets.items():
        lines.append(f"* {file.name}, {size_text(file.size)}, licence {file.licence}")
        lines.append(f"  from {file.repo}, to {path}")
        if file.is_gated:
            lines.append(f"  needs an account that accepted the licence at {file.page}")
    lines.append(f"{size_text(sum(file.size for file in targets))} in all.")
    return "\n".join(lines)


@dataclass(frozen=True)
class Download:
    """One file, and what the hub says of it."""

    file: ModelFile
    target: Path
    commit: str
    etag: str
    size: int
    sha256: str
    """What the hub gives, else what the catalogue has; empty where neither knows it."""

    @property
    def partial(self) -> Path:
        """What has come so far of this version of the file; no suffix that ComfyUI lists."""
        version = hashlib.sha256(self.etag.encode()).hexdigest()[:8]
        return self.target.with_name(f"{self.target.name}.{version}.partial")

    @property
    def bytes_here(self) -> int:
        """How much has come so far."""
        return self.partial.stat().st_size if self.partial.exists() else 0


def download(targets: Targets, say: Callable[[str], object]) -> None:
    """Download files into their places; what an earlier run began is gone on with.

    Args:
        targets: Files and places; an existing file is never overwritten.
        say: Takes one line for each file that has come.

    Raises:
        MissingDependencyError: huggingface_hub is not installed, or cannot be imported.
        ModelDownloadError: A file cannot be had, is not what the hub promised, or does not fit.
    """
    hub = _hub()
    left = dict(targets)
    downloads = []
    for file, path in targets.items():
        with _told(hub, file, left):
            downloads.append(_look_up(hub, file, path))
    _check_space(hub, downloads, left)
    for wanted in downloads:
        with _told(hub, wanted.file, left):
            _fetch(hub, wanted)
            checked = _check(wanted)
            _put_in_place(wanted)
        del left[wanted.file]
        say(f"{wanted.target}: complete, {checked}.")


def _hub() -> ModuleType:
    with importing("huggingface_hub", "Downloading model files"):
        import huggingface_hub.file_download
    return huggingface_hub


def _told_endpoint(hub: ModuleType) -> str:
    """The hub's address, or the mirror's, without a password that may stand in it."""
    parts = urlsplit(hub.constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _is_encrypted(hub: ModuleType) -> bool:
    return urlsplit(hub.constants.ENDPOINT).scheme == "https"


def _token(hub: ModuleType) -> bool | None:
    """What huggingface_hub is told of the token: None is the user's own, False is none."""
    return None if _is_encrypted(hub) else False


def _look_up(hub: ModuleType, file: ModelFile, path: Path) -> Download:
    url = hub.hf_hub_url(file.repo, file.repo_path)
    found = hub.get_hf_file_metadata(url, token=_token(hub))
    if not (found.commit_hash and found.etag and found.size):
        raise ModelDownloadError(
            f"{_told_endpoint(hub)} should be Hugging Face or a mirror of it, but its answer for "
            f"{file.name} is no hub's. Check HF_ENDPOINT, and whether the network asks for a login."
        )
    is_named = SHA256.fullmatch(found.etag) is not None
    if not (is_named or file.size_is_rounded or found.size == file.size):
        raise ModelDownloadError(
            f"{_told_endpoint(hub)} gives no SHA-256 for {file.name}, and a file of {found.size} "
            f"bytes in place of {file.size}. Nothing was downloaded; choose another HF_ENDPOINT."
        )
    sha256 = found.etag if is_named else file.sha256
    return Download(file, path, found.commit_hash, found.etag, found.size, sha256)


def _fetch(hub: ModuleType, wanted: Download) -> None:
    """Fetch what has not come yet.

    Not `hf_hub_download`: since huggingface_hub 2 it begins anew after every interruption.
    """
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    here = wanted.bytes_here
    if here >= wanted.size:
        return
    with wanted.partial.open("ab") as stream:
        hub.file_download.http_get(
            hub.hf_hub_url(wanted.file.repo, wanted.file.repo_path, revision=wanted.commit),
            stream,
            resume_size=here,
            headers=hub.utils.build_hf_headers(token=_token(hub)),
            displayed_filename=wanted.file.name,
        )


@contextmanager
def _told(hub: ModuleType, file: ModelFile, left: Targets) -> Iterator[None]:
    """Turn what goes wrong between here and the hub, or on the disk, into a sentence.

    The exceptions' own texts are left out: they can hold request headers, and the token with them.
    """
    errors = hub.errors
    # The bases are the errors of the HTTP library, which is another one in each major version.
    http_errors = (OSError, *errors.HfHubHTTPError.__bases__)
    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelDownloadError(_refusal(_told_endpoint(hub), status, file, left)) from error
    except UnicodeEncodeError as error:
        raise ModelDownloadError(
            "The Hugging Face token holds a character that no token has. Set HF_TOKEN anew, or log "
            "in again with `hf auth login`."
        ) from error
    except http_errors as error:
        if getattr(error, "errno", None):
            raise ModelDownloadError(
                f"{file.name} could not be written: {error}. What has come is kept; the same "
                "command goes on from there."
            ) from error
        raise ModelDownloadError(
            f"{file.name} was wanted from {_told_endpoint(hub)}, but the connection failed "
            f"({type(error).__name__}). {_ways_out(left)}"
        ) from error


def _refusal(endpoint: str, status: int, file: ModelFile, left: Targets) -> str:
    if status in (401, 403):
        return (
            f"{endpoint} gives {file.name} only to accounts with access ({status}). Accept the "
            f"licence at {file.page}, log in with `hf auth login` or set HF_TOKEN, and run this "
            "again."
        )
    return f"{endpoint} answered {status} where {file.name} was wanted. {_ways_out(left)}"


def _ways_out(left: Targets) -> str:
    by_hand = "\n".join(f"* {file.url(HUB)}\n  to {path}" for file, path in left.items())
    return (
        "What has come is kept; the same command goes on from there. Where Hugging Face cannot be "
        "reached, set HF_ENDPOINT to a mirror, or copy these by hand from another machine:\n"
        f"{by_hand}"
    )


def _check_space(hub: ModuleType, downloads: list[Download], left: Targets) -> None:
    needed: Counter[int] = Counter()
    disks: dict[int, tuple[Path, int]] = {}
    for wanted in downloads:
        with _told(hub, wanted.file, left):
            folder = _nearest_folder(wanted.target)
            disk = folder.stat().st_dev
            needed[disk] += wanted.size - wanted.bytes_here
            disks[disk] = folder, shutil.disk_usage(folder).free
    for disk, size in needed.items():
        folder, free = disks[disk]
        if free < size:
            raise ModelDownloadError(
                f"{size_text(size)} would come to the disk of {folder}, but only "
                f"{size_text(free)} are free there. Nothing was downloaded; make room, or choose "
                "fewer files."
            )


def _nearest_folder(path: Path) -> Path:
    for folder in path.parents:
        if folder.exists():
            return folder
    raise ModelDownloadError(
        f"{path.name} belongs into {path.parent}, but {path.anchor} is not there. Connect that "
        "drive, or name another place in ComfyUI's extra_model_paths.yaml."
    )


def _check(wanted: Download) -> str:
    """Compare with what was promised, and say what was compared."""
    right = wanted.bytes_here == wanted.size
    if right and wanted.sha256:
        digest = hashlib.sha256()
        with wanted.partial.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
        right = digest.hexdigest() == wanted.sha256
    if not right:
        wanted.partial.unlink()
        raise ModelDownloadError(
            f"{wanted.file.name} came, but is not the file that was promised: its size or its "
            "SHA-256 differs. It was deleted. Run this again; if it happens again, something "
            "between here and the hub changes downloads."
        )
    return f"size{' and SHA-256' if wanted.sha256 else ''} checked"


def _put_in_place(wanted: Download) -> None:
    if os.path.lexists(wanted.target):
        raise ModelDownloadError(
            f"{wanted.target} should be new, but is there by now. It was left as it is; the "
            f"download waits beside it as {wanted.partial.name}."
        )
    wanted.partial.replace(wanted.target)
