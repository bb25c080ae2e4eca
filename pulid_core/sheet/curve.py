"""How the likeness goes with the strength, as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ..images import Pixels
from .contact_sheet import BEST_RGB, PAPER_RGB, TEXT_RGB, font_for
from .strength import Search, Trial

WIDTH_PX, HEIGHT_PX, MARGIN_PX, TEXT_PX = 720, 440, 70, 15
GRID_RGB, LINE_RGB, TARGET_RGB = (70, 70, 70), (120, 170, 220), (230, 170, 70)


def draw_curve(search: Search) -> Pixels:
    """Draw every trial over its strength, the target as a line, and what was found in green.

    Args:
        search: With at least one trial.

    Returns:
        (440, 720, 3) uint8.
    """
    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), PAPER_RGB)
    pen, font = ImageDraw.Draw(picture), font_for("", TEXT_PX)
    low = min(0.0, *(trial.similarity for trial in search.trials), search.target)

    def place(strength: float, similarity: float) -> tuple[float, float]:
        x = MARGIN_PX + strength * (WIDTH_PX - 2 * MARGIN_PX)
        return x, HEIGHT_PX - MARGIN_PX - (similarity - low) / (1 - low) * (
            HEIGHT_PX - 2 * MARGIN_PX
        )

    for share in range(5):
        level = low + (1 - low) * share / 4
        pen.line((place(0, level), place(1, level)), GRID_RGB)
        pen.text((MARGIN_PX - 10, place(0, level)[1]), f"{level:.2f}", TEXT_RGB, font, "rm")
    for strength, anchor in ((0.0, "la"), (1.0, "ra")):
        x, y = place(strength, low)
        pen.text((x, y + 14), search.settings(strength).caption, TEXT_RGB, font, anchor)
    pen.line((place(0, search.target), place(1, search.target)), TARGET_RGB, 2)
    pen.text(place(1, search.target), f"target {search.target:g}", TARGET_RGB, font, "rd")
    by_strength = sorted(search.trials, key=lambda trial: trial.strength)
    pen.line([place(trial.strength, trial.similarity) for trial in by_strength], LINE_RGB, 2)
    for number, trial in enumerate(search.trials, 1):
        _mark(pen, place(trial.strength, trial.similarity), number, trial is search.found)
    pen.text((MARGIN_PX, 24), _title(search, search.found), TEXT_RGB, font)
    return np.array(picture)


def _mark(
    pen: ImageDraw.ImageDraw, centre: tuple[float, float], number: int, is_found: bool
) -> None:
    """A dot with the number of its trial."""
    x, y = centre
    radius = 8 if is_found else 5
    color = BEST_RGB if is_found else LINE_RGB
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)
    pen.text((x, y - 12), str(number), color, font_for("", TEXT_PX), "md")


def _title(search: Search, found: Trial | None) -> str:
    told = "not reached" if found is None else search.settings(found.strength).caption
    return f"Similarity by strength: {told}; {search.used} of {search.budget} picture(s)"
