"""Where new nodes go in a saved workflow: beside the old ones, on none of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .graph import Node

GAP_PX, TITLE_PX = 40, 30
FARTHEST_PX, LARGEST_PX = 1e7, 1e5
"""Beyond these a saved number is an accident, and no place to keep clear of."""


def free_place(
    nodes: Iterable[Node],
    size: tuple[float, float],
    *wanted: tuple[float, float],
    ignored: Node | None = None,
) -> list[float]:
    """The first of the places where a node covers no other, or the next free one below.

    Args:
        nodes: The graph's nodes.
        size: The node's width and height.
        wanted: Where its upper left corner may be, best first.
        ignored: A node that is no obstacle: the one to be placed.
    """
    others = [_box(node) for node in nodes if node is not ignored]
    for x, y in wanted:
        if not any(_covers(box, x, y, size) for box in others):
            return [x, y]
    x, y = wanted[-1]
    for _, _, _, bottom in sorted(others, key=lambda box: box[3]):
        if any(_covers(box, x, y, size) for box in others):
            y = max(y, bottom + TITLE_PX + GAP_PX)
    return [x, y]


def _box(node: Node) -> tuple[float, float, float, float]:
    """Left, top, right and bottom with the title bar."""
    left, top = position(node)
    width, height = size_of(node)
    return left, top - TITLE_PX, left + width, top + height


def _covers(
    box: tuple[float, float, float, float], x: float, y: float, size: tuple[float, float]
) -> bool:
    left, top, right, bottom = box
    return left < x + size[0] and x < right and top < y + size[1] and y - TITLE_PX < bottom


def position(node: Node) -> tuple[float, float]:
    """A node's upper left corner."""
    return _xy(node.get("pos"), FARTHEST_PX)


def size_of(node: Node) -> tuple[float, float]:
    """A node's width and height; (0, 0) where none is saved."""
    return _xy(node.get("size"), LARGEST_PX)


def _xy(value: Any, limit: float) -> tuple[float, float]:
    """Two numbers, which older files hold as {"0": x, "1": y}."""
    pair = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(pair, list):
        return 0.0, 0.0
    x, y = ([number for number in pair if isinstance(number, (int, float))] + [0, 0])[:2]
    return _bounded(x, limit), _bounded(y, limit)


def _bounded(number: float, limit: float) -> float:
    return number if -limit <= number <= limit else 0.0
