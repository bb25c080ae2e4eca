"""The forms in which people keep workflows: JSON, pictures, and what is wrapped around them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import OldWorkflowError
from .prompts import is_node

LARGEST_BYTES = 2**28
LARGEST_TEXT_BYTES = 2**26
"""Of a text that lies compressed in a picture, unpacked."""
DEEPEST_WRAPPER = 4
PNG, RIFF, JPEG = b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff"
NAMES = ("workflow", "prompt")
"""What ComfyUI calls the two formats in a picture; the first is better, it has the layout."""


def read_workflow(path: Path, names: Sequence[str] = NAMES) -> Any:
    """Read a workflow from JSON, or from a PNG or WebP picture that holds one.

    Args:
        path: The file.
        names: Of the formats that are wanted from a picture, the best first.

    Raises:
        OldWorkflowError: There is none in it.
        OSError: The file cannot be read.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise OldWorkflowError("A workflow was expected, but the file is larger than 256 MB.")
    data = path.read_bytes()
    if data.startswith(PNG):
        return _in_picture(dict(_png_texts(data)), names)
    if data.startswith(RIFF) and data[8:12] == b"WEBP":
        return _in_picture(_webp_texts(data), names)
    if data.startswith(JPEG):
        return _in_picture({}, names)
    return _parsed(data)


def _parsed(text: bytes | str) -> Any:
    try:
        # ComfyUI's own files hold NaN at times, which a browser cannot read.
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise OldWorkflowError(
            f"A workflow was expected, as JSON or inside a PNG or WebP picture: {error}."
        ) from error


def _in_picture(texts: dict[str, bytes], names: Sequence[str]) -> Any:
    for name in names:
        if name in texts:
            return _parsed(texts[name])
    raise OldWorkflowError(
        "This picture holds no workflow. ComfyUI writes it into the PNG files that it saves; "
        "many services and editors remove it."
    )


def _png_texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = len(PNG)
    while place + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        place += size + 12
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, _, text = body.partition(b"\0")
            yield name.decode("latin-1").lower(), _png_text(kind, text)


def _png_text(kind: bytes, text: bytes) -> bytes:
    if kind == b"tEXt":  # latin-1 by the rule, UTF-8 by many programs
        try:
            text.decode()
        except UnicodeDecodeError:
            return text.decode("latin-1").encode()
        return text
    if kind == b"zTXt":
        return _unpacked(text[1:])
    is_packed = text[:1] == b"\1"
    text = text[2:].split(b"\0", 2)[-1]  # behind the language and the translated name
    return _unpacked(text) if is_packed else text


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LARGEST_TEXT_BYTES)
    except zlib.error:
        return b""


def _webp_texts(data: bytes) -> dict[str, bytes]:
    """ComfyUI's texts in a WebP's EXIF part: `workflow:{...}`, each ended by a zero."""
    place, texts = 12, {}
    while place + 8 <= len(data):
        kind, size = struct.unpack("<4sI", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
        if kind == b"EXIF":
            for part in body.split(b"\0"):
                name, mark, text = part.partition(b":{")
                for known in NAMES:
                    if mark and name.lower().endswith(known.encode()):
                        texts[known] = b"{" + text
    return texts


def is_saved(value: Any) -> bool:
    """Whether this is a workflow as ComfyUI saves it."""
    return isinstance(value, dict) and isinstance(value.get("nodes"), list)


def is_prompt(value: Any) -> bool:
    """Whether this is a workflow in API format; scripts leave comments between the nodes."""
    return isinstance(value, dict) and any(map(is_node, value.values()))


def places(holder: Any, key: Any, depth: int = DEEPEST_WRAPPER) -> Iterator[tuple[Any, Any]]:
    """Where workflows lie in what is wrapped around them: a request's body, a service's input."""
    value = holder[key]
    if is_saved(value) or is_prompt(value):
        yield holder, key
    elif depth:
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _unwrapped(value)
            if is_saved(value) or is_prompt(value):
                yield holder, key
        elif isinstance(value, (dict, list)):
            for inner in list(value) if isinstance(value, dict) else range(len(value)):
                yield from places(value, inner, depth - 1)


def _unwrapped(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
