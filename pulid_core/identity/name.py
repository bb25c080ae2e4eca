"""What a user types -> where an identity is saved, and never anywhere else."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import PulidError, quoted

SUFFIX, CARD_SUFFIX = ".safetensors", ".png"
"""Of an identity's file, and of its card."""

NOT_IN_NAMES = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f\ud800-\udfff]')
"""What Windows does not allow in file names (it would write `a:b` into a stream beside a file `a`), and what
no file system can encode."""

RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names of devices on Windows, with any ending."""

MAX_PART_BYTES = 200
"""Of one folder or file name: file systems allow 255, and a number and an ending are added."""


def path_below(folder: Path, name: str, suffix: str = SUFFIX) -> Path:
    """Turn a name as typed into the path of a file.

    Args:
        folder: Where identities are saved.
        name: A plain name, or folder/name, with or without .safetensors or .png.
        suffix: Of the file.

    Raises:
        PulidError: It would lie elsewhere, or not every system could store it.
    """
    parts = name.strip().removesuffix(SUFFIX).removesuffix(CARD_SUFFIX).split("/")
    folder = folder.resolve()
    if all(map(_is_plain, parts)):
        path = folder.joinpath(*parts[:-1], parts[-1] + suffix)
        if folder in (path.parent.resolve() / path.name).parents:
            return path
    raise PulidError(
        f"An identity is saved below {folder}, but the name is {quoted(name)}. "
        'Choose a plain name, or folder/name, without any of < > : " | ? * and \\.'
    )


def _is_plain(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and part == part.rstrip(". ")
        and not NOT_IN_NAMES.search(part)
        and not RESERVED.fullmatch(part)
        and len(part.encode("utf-8")) <= MAX_PART_BYTES
    )
