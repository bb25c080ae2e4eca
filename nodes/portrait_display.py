"""What a node shows of the person it encoded: pictures, and below them text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from ..pulid_core.face.report import summary_text, warning_text
from ..pulid_core.identity.identity import Identity

LOGGER = logging.getLogger(__name__)


def show_person(
    identity: Identity,
    pictures: Sequence[Tensor],
    node: type[io.ComfyNode],
    notes: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Show pictures of a person and what was found on the photos; warnings go to the log, too.

    Args:
        identity: Its photos are told about; those of a file are not known.
        pictures: IMAGE batches, which may differ in size.
        node: Which shows them.
        notes: Told after what was found.

    Returns:
        The `ui` of the node's output; None when there is nothing to show.
    """
    warnings = "\n".join(filter(None, (warning_text(identity.photos), *notes)))
    if warnings:
        LOGGER.warning("PuLID looked at the photos:\n%s", warnings)
    text = "\n".join(filter(None, (summary_text(identity.photos), *notes)))
    _say(text)
    saved = [image for batch in pictures for image in ui.PreviewImage(batch, cls=node).values]
    shown: dict[str, Any] = {"images": saved, "animated": (False,)} if saved else {}
    return shown | ({"text": (text,)} if text else {}) or None


def _say(text: str) -> None:
    """Write below the node that is being executed; the frontend keeps it there until the next run."""
    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if text and context and server:
        server.send_progress_text(text, context.node_id)
