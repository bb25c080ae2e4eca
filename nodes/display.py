"""What a node shows of itself after it ran: a text, drawn by web/node_text.js, and pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ui


def shown(text: str, pictures: ui.PreviewImage | None = None) -> dict[str, Any]:
    """The `ui` of a node's output.

    Args:
        text: May have several lines; empty takes away what an earlier run showed.
        pictures: Shown below it.
    """
    return {**(pictures.as_dict() if pictures else {}), "text": (text,)}
