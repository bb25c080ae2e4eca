"""An identity card: a PNG that shows a person's face, says what it is, and carries their identity.

The identity stands in a chunk of its own, as docs/identity-format.md tells. Programs that write pictures
anew, chat programs above all, drop it: such a picture is refused by name.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from ..checkpoint import damaged
from ..errors import CheckpointError
from ..images import Pixels
from .identity import Provenance, consent_text

CHUNK = b"plID"
"""Ancillary, private, and not to be copied by a program that changes the picture: PNG's case rules."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 4096
"""So many are looked at in a stranger's file; a picture of 16 megapixels has about a thousand."""
OTHER_PICTURES = {b"\xff\xd8\xff": "a JPEG", b"RIFF": "a WebP", b"GIF8": "a GIF"}

FACE_PX, BAND_PX, MARGIN_PX = 336, 56, 22
WIDTH_PX = FACE_PX + 2 * MARGIN_PX
SIGN = "PuLID IDENTITY CARD"
WARNING = "Biometric data of a person.\nShare it like a photo of them."
PAPER_RGB, BAND_RGB, INK_RGB = (244, 241, 234), (176, 60, 40), (31, 40, 51)


def card_bytes(content: bytes, face: Pixels | None, lines: Sequence[str]) -> bytes:
    """Make a card.

    Args:
        content: The identity, as in a .safetensors file.
        face: The person, square, or None for a card without a picture.
        lines: From `card_lines`, one below the other.
    """
    info, file = PngInfo(), io.BytesIO()
    info.add(CHUNK, content)
    draw_card(face, lines).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def card_lines(name: str, provenance: Provenance) -> list[str]:
    """What stands below the face: who it is, who agreed, and what made it."""
    return [name, consent_text(provenance), f"PuLID for FLUX {provenance.pack_version}"]


def draw_card(face: Pixels | None, lines: Sequence[str]) -> Image.Image:
    """Draw the picture: the sign, the face in a frame of corners, the lines, and the warning."""
    from ..sheet.contact_sheet import font_for, wrap  # whoever only reads cards draws nothing

    small, large = font_for("".join(lines), 15), font_for(SIGN, 24)
    room = WIDTH_PX - 2 * MARGIN_PX
    written = [part for line in lines for part in wrap(line, small, room)]
    height = BAND_PX + FACE_PX + 2 * MARGIN_PX + 20 * len(written) + BAND_PX
    picture = Image.new("RGB", (WIDTH_PX, height), PAPER_RGB)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, WIDTH_PX, BAND_PX - 1), BAND_RGB)
    pen.text((WIDTH_PX / 2, BAND_PX / 2), SIGN, "white", large, "mm")
    _draw_face(picture, pen, face)
    for number, line in enumerate(written):
        top = BAND_PX + FACE_PX + MARGIN_PX * 3 // 2 + 20 * number
        pen.text((MARGIN_PX, top), line, INK_RGB, small)
    pen.rectangle((0, height - BAND_PX, WIDTH_PX, height), BAND_RGB)
    pen.multiline_text(
        (WIDTH_PX / 2, height - BAND_PX / 2), WARNING, "white", small, "mm", 4, "center"
    )
    return picture


def is_card(path: Path) -> bool:
    """Look whether a PNG carries an identity, at its first chunks only; of an unreadable file, no."""
    try:
        with path.open("rb") as file:
            return _find_chunk(file, (b"IDAT", b"IEND")) is not None
    except (OSError, EOFError):
        return False


def read_card(path: Path) -> bytes:
    """Take the identity out of a card, as in a .safetensors file. The picture is not decoded.

    Args:
        path: Of a file whose size was looked at.

    Raises:
        CheckpointError: It is no PNG, carries no identity, or is damaged.
    """
    with path.open("rb") as file:
        begin = file.read(len(SIGNATURE))
        if begin != SIGNATURE:
            kind = next(
                (k for start, k in OTHER_PICTURES.items() if begin.startswith(start)), "no PNG"
            )
            raise _stripped(path, f"this file is {kind}")
        file.seek(0)
        try:
            length = _find_chunk(file, (b"IEND",))
        except EOFError as error:
            raise damaged(path) from error
        if length is None:
            raise _stripped(path, "this picture carries none")
        content, check = file.read(length), file.read(4)
    if len(content) < length or zlib.crc32(CHUNK + content).to_bytes(4, "big") != check:
        raise damaged(path)
    return content


def _find_chunk(file: BinaryIO, ends: tuple[bytes, ...]) -> int | None:
    """Go to the data of our chunk and return its length, or None before a chunk that ends the search.

    Raises:
        EOFError: The file ends within a chunk.
    """
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise EOFError
        length, kind = struct.unpack(">I4s", head)
        if kind == CHUNK:
            return length
        if kind in ends:
            return None
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _stripped(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        path,
        f"An identity card was expected, but {found}. If it was one, a chat program, a web page or an "
        "editor on the way removed the identity: ask for the original PNG, sent as a file.",
    )


def _draw_face(picture: Image.Image, pen: ImageDraw.ImageDraw, face: Pixels | None) -> None:
    left, top = MARGIN_PX, BAND_PX + MARGIN_PX
    right, bottom, middle = left + FACE_PX, top + FACE_PX, WIDTH_PX // 2
    if face is None:
        pen.ellipse((middle - 60, top + 60, middle + 60, top + 200), INK_RGB)
        pen.pieslice((middle - 120, top + 220, middle + 120, bottom + 120), 180, 360, INK_RGB)
    else:
        size = (FACE_PX, FACE_PX)
        picture.paste(Image.fromarray(face).resize(size, Image.Resampling.LANCZOS), (left, top))
    for x, toward in ((left, 40), (right, -40)):
        for y, down in ((top, 40), (bottom, -40)):
            pen.line(((x + toward, y), (x, y), (x, y + down)), BAND_RGB, 6, "curve")
