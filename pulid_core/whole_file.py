"""Files that are there whole, or not at all, also after the process died while writing."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, content: bytes, *, overwrite: bool = False, mode: int = 0o666) -> None:
    """Write a new file beside its place, and move it there when it is on the disk.

    Args:
        path: In a folder that exists. A link is replaced, never written through.
        content: Of the file.
        overwrite: Replace what is there.
        mode: Who may read and write it, less what the process's umask takes away.

    Raises:
        FileExistsError: Something is there, and overwriting is not allowed. It stays as it is.
        OSError: It cannot be written; nothing is left behind.
    """
    begun = path.with_name(f".{uuid4().hex}.unfinished")
    try:
        begun.touch(mode, exist_ok=False)
        with begun.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            begun.replace(path)
        else:
            _move_to_free_place(begun, path)
    finally:
        begun.unlink(missing_ok=True)


def _move_to_free_place(begun: Path, path: Path) -> None:
    if os.name == "nt":
        begun.rename(path)  # refuses by itself
        return
    try:
        path.hardlink_to(begun)
    except FileExistsError:
        raise
    except OSError:  # no hard links there, as on exFAT; what appears meanwhile would be replaced
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        begun.rename(path)
