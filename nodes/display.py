"""Text on a node, in every frontend: ComfyUI keeps a line of progress below the node's widgets."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context
from server import PromptServer


def show_text(text: str, node_id: str | None = None) -> None:
    """Show a text on a node until its next run; only Preview as Text draws what `ui` carries.

    Args:
        text: May have several lines.
        node_id: By default the node that is being executed.
    """
    context = get_executing_context()
    node_id = node_id or (context.node_id if context else None)
    server = getattr(PromptServer, "instance", None)
    if server and node_id:
        server.send_progress_text(text, node_id)
