"""Boxes with labels on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images import Pixels

Color = tuple[int, int, int]

CHOSEN_RGB: Color = (40, 200, 80)
OTHER_RGB: Color = (200, 200, 200)
LABEL_RGB: Color = (0, 0, 0)


def draw_boxes(pixels: Pixels, boxes: Sequence[tuple[np.ndarray, str, Color]]) -> Pixels:
    """Draw boxes with a label each at their upper left corner.

    Args:
        pixels: (H, W, 3) uint8, stays as it is.
        boxes: Left, top, right, bottom; the label; the colour of both.
    """
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    unit = max(1, max(picture.size) // 400)
    font = ImageFont.load_default(size=12 * unit)
    for box, label, color in boxes:
        left, top, right, bottom = box.tolist()
        draw.rectangle((left, top, right, bottom), outline=color, width=unit)
        corner = (max(0, left), max(0, top - 15 * unit))
        draw.rectangle(draw.textbbox(corner, label, font=font), fill=color)
        draw.text(corner, label, fill=LABEL_RGB, font=font)
    return np.array(picture)  # a copy that may be written to
