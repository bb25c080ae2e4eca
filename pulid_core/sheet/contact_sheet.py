"""Pictures side by side on one sheet, each with its caption and its score."""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import PulidError
from ..images import Pixels
from .tuning import GridColumns

MAX_SHEET_PX = 16384  # larger pictures are not shown by browsers
MAX_CAPTION_LINES = 3
MAX_TEXT_LENGTH = 1000  # characters; even of the letter i fewer fit
ELLIPSIS = "…"
# Pillow's own font has ASCII only; of these, systems bring at least one.
WIDE_FONTS = (
    *("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf"),
    *("DejaVuSans.ttf", "segoeui.ttf", "arial.ttf"),
)
PAPER_RGB = (28, 28, 28)
TEXT_RGB = (225, 225, 225)
BEST_RGB = (90, 220, 120)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Value = TypeVar("Value")


@dataclass(frozen=True)
class Entry:
    """One cell of the sheet."""

    picture: Image.Image
    caption: tuple[str, ...]
    """Lines that fit the cell's width, as the score's do."""
    score: tuple[str, ...]
    is_best: bool


@dataclass(frozen=True)
class Layout:
    """Sizes that all cells share, in pixels."""

    width: int
    height: int
    text_height: int
    line: int
    gap: int

    def corner(self, column: int, row: int) -> tuple[int, int]:
        """Where the picture of a cell begins."""
        down = self.height + self.text_height + 2 * self.gap
        return self.gap + column * (self.width + self.gap), self.gap + row * down


def contact_sheet(
    pictures: Sequence[Pixels],
    captions: Sequence[str] = (),
    scores: Sequence[float] = (),
    columns: int = 0,
    cell_px: int = 384,
) -> Pixels:
    """Put pictures on one sheet, row by row.

    Args:
        pictures: (H, W, 3) uint8, of any sizes; each keeps its proportions.
        captions: None; or one for each picture, or for each group of equally many pictures.
        scores: Likewise. The best one is marked, unless all are equal.
        columns: How many pictures stand in a row; 0 makes the sheet nearly square. A tuning
            grid's own number counts captions instead.
        cell_px: Longest side of a picture on the sheet.

    Returns:
        The sheet, (H, W, 3) uint8.

    Raises:
        PulidError: No pictures, captions or scores that do not divide them, or too large a sheet.
    """
    if not (count := len(pictures)):
        raise PulidError(
            "The contact sheet needs at least one picture, but got none. Connect images."
        )
    font = font_for("".join(captions), max(12, cell_px // 24))
    fitted = [_fit(picture, cell_px) for picture in pictures]
    width = max(picture.width for picture in fitted)
    wrapped = [wrap(caption, font, width) for caption in _spread(captions, count, "captions", "")]
    judged = _spread(scores, count, "scores", None)
    best = max(scores) if len(set(scores)) > 1 else math.nan
    entries = [
        Entry(picture, lines, wrap(_score_text(score, best), font, width), score == best)
        for picture, lines, score in zip(fitted, wrapped, judged, strict=True)
    ]
    if isinstance(columns, GridColumns) and captions:
        columns *= count // len(captions)
    return _draw(entries, min(columns or math.ceil(math.sqrt(count)), count), font)


def caption_lines(captions: Sequence[str]) -> list[str]:
    """Take a list of captions as it is, and one text as a caption per line."""
    if len(captions) != 1:
        return [" ".join(caption.split()) for caption in captions]
    return [line.strip() for line in captions[0].splitlines() if line.strip()]


def font_for(text: str, size: int) -> Font:
    """A font that can write a text, as far as the system has one."""
    for name in () if text.isascii() else WIDE_FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _fit(picture: Pixels, cell_px: int) -> Image.Image:
    height, width = picture.shape[:2]
    scale = cell_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _spread(values: Sequence[Value], count: int, name: str, missing: Value) -> list[Value]:
    """Give every picture its value."""
    if not values:
        return [missing] * count
    each, rest = divmod(count, len(values))
    if rest or not each:
        raise PulidError(
            f"{name} should be one for each picture, or for each group of equally many pictures, "
            f"but there are {len(values)} {name} and {count} pictures. Connect lists that belong "
            "together."
        )
    return [value for value in values for _ in range(each)]


def _score_text(score: float | None, best: float) -> str:
    if score is None:
        return ""
    return f"similarity {score:.2f}{', best' if score == best else ''}"


def wrap(text: str, font: Font, width: int) -> tuple[str, ...]:
    """Break a text between words, or within a longer one; what does not fit ends in an ellipsis."""
    rest = " ".join(text.split())[:MAX_TEXT_LENGTH]
    lines: list[str] = []
    while rest and len(lines) < MAX_CAPTION_LINES - 1:
        fitting = max(1, _fitting(rest, font, width))
        space = f"{rest} ".rfind(" ", 1, fitting + 1)
        end = space if space > 0 else fitting
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return (*lines, _cut(rest, font, width)) if rest else tuple(lines)


def _cut(line: str, font: Font, width: float) -> str:
    if font.getlength(line) <= width:
        return line
    return line[: _fitting(line, font, width - font.getlength(ELLIPSIS))] + ELLIPSIS


def _fitting(text: str, font: Font, width: float) -> int:
    """How many characters from the beginning of a text fit; found by halving."""
    counts = range(1, len(text) + 1)
    return bisect.bisect(counts, width, key=lambda count: font.getlength(text[:count]))


def _draw(entries: list[Entry], columns: int, font: Font) -> Pixels:
    layout = _layout(entries, font)
    right, bottom = layout.corner(columns, math.ceil(len(entries) / columns))
    if max(right, bottom) > MAX_SHEET_PX:
        raise PulidError(
            f"A contact sheet is at most {MAX_SHEET_PX} px wide and high, but this one would be "
            f"{right} x {bottom} px. Choose a smaller cell_px, or other columns."
        )
    sheet = Image.new("RGB", (right, bottom), PAPER_RGB)
    draw = ImageDraw.Draw(sheet)
    for i, entry in enumerate(entries):
        x, y = layout.corner(i % columns, i // columns)
        # Centred, and standing on one line with its neighbours.
        left, top = x + (layout.width - entry.picture.width) // 2, y + layout.height
        sheet.paste(entry.picture, (left, top - entry.picture.height))
        if entry.is_best:
            bar = (left, top + 1, left + entry.picture.width - 1, top + layout.gap // 3)
            draw.rectangle(bar, fill=BEST_RGB)
        _write(draw, entry, (x, top + layout.gap // 2), layout.line, font)
    return np.array(sheet)


def _layout(entries: list[Entry], font: Font) -> Layout:
    line = int(font.getbbox("Ég")[3]) + 4
    lines = max(len(entry.caption) + len(entry.score) for entry in entries)
    return Layout(
        width=max(entry.picture.width for entry in entries),
        height=max(entry.picture.height for entry in entries),
        text_height=lines * line,
        line=line,
        gap=line // 2 + 4,
    )


def _write(
    draw: ImageDraw.ImageDraw, entry: Entry, corner: tuple[int, int], line: int, font: Font
) -> None:
    """Write caption and score; the best in green."""
    x, y = corner
    color = BEST_RGB if entry.is_best else TEXT_RGB
    lines = [
        *((text, TEXT_RGB) for text in entry.caption),
        *((text, color) for text in entry.score),
    ]
    for text, fill in lines:
        draw.text((x, y), text, font=font, fill=fill)
        y += line
