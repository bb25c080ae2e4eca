"""What a node shows of the person it encoded: pictures, and below them text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..pulid_core.face.report import summary_text, warning_text
from ..pulid_core.identity.identity import Identity
from .display import shown

LOGGER = logging.getLogger(__name__)


def show_person(
    identity: Identity,
    pictures: Sequence[Tensor],
    node: type[io.ComfyNode],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Show pictures of a person and what was found on the photos; warnings go to the log, too.

    Args:
        identity: Its photos are told about; those of a file are not known.
        pictures: IMAGE batches, which may differ in size; empty ones show nothing.
        node: Which shows them.
        notes: Told after what was found.

    Returns:
        The `ui` of the node's output.
    """
    warnings = "\n".join(filter(None, (warning_text(identity.photos), *notes)))
    if warnings:
        LOGGER.warning("PuLID looked at the photos:\n%s", warnings)
    text = "\n".join(filter(None, (summary_text(identity.photos), *notes)))
    shown_batches = (ui.PreviewImage(batch, cls=node) for batch in pictures if len(batch))
    saved = [image for batch in shown_batches for image in batch.values]
    images = {"images": saved, "animated": (False,)} if saved else {}
    return {**images, **shown(text)}
