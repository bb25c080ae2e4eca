"""One large sheet of many picture files, as large as a JPEG may be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..whole_file import write_whole
from .contact_sheet import contact_sheet

CELL_PX, SHEET_PX = 384, 12000
MOST_IN_A_LINE = 24


def save_sheet(
    path: Path,
    files: Sequence[Path],
    captions: Sequence[str],
    columns: int,
    scores: Sequence[float] = (),
) -> None:
    """Put pictures on one sheet.

    Args:
        columns: How many stand in a row, unless a line became longer than 24 pictures.
    """
    rows = -(-len(files) // columns)
    if max(rows, columns) > MOST_IN_A_LINE:
        columns = rows = round(len(files) ** 0.5) + 1
    cell_px = min(CELL_PX, SHEET_PX // max(rows, columns))
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            picture.thumbnail((cell_px, cell_px))
            pictures.append(np.asarray(picture.convert("RGB")))
    sheet = io.BytesIO()
    Image.fromarray(contact_sheet(pictures, captions, scores, columns, cell_px)).save(sheet, "JPEG")
    write_whole(path, sheet.getvalue(), overwrite=True)
