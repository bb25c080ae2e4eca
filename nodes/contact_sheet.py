"""PulidContactSheet: all pictures of a run on one sheet."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..pulid_core.images import image_from_photos, rgb_pixels
from .values import require_values


class PulidContactSheet(io.ComfyNode):
    """Puts pictures side by side, with captions and scores."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidContactSheet",
            display_name="PuLID Contact Sheet",
            category="PuLID FLUX/tuning",
            description="Puts pictures of any sizes on one sheet, with captions and scores below "
            "them. Takes the pictures of all runs of a tuning grid, or one batch.",
            search_aliases=["pulid", "likeness", "image grid", "compare images", "captions"],
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images", tooltip="Pictures of any sizes. None is stretched; alpha is on white."
                ),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="From PuLID Tuning Grid, or one text with a caption per line. With "
                    "more pictures than captions, each caption stands below equally many.",
                ),
                io.Float.Input(
                    "scores",
                    optional=True,
                    force_input=True,
                    tooltip="From PuLID Face Similarity: 1 is the same photo, 0 a stranger. The "
                    "highest is marked.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Pictures in a row. 0 makes the sheet nearly square, 1 puts all "
                    "below each other. PuLID Tuning Grid knows the number.",
                ),
                io.Int.Input(
                    "cell_px",
                    default=384,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Longest side of each picture on the sheet, in pixels.",
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="All pictures on one.")],
        )

    @classmethod
    def execute(
        cls,
        images: list[torch.Tensor],
        columns: list[int],
        cell_px: list[int],
        captions: list[str | None] | None = None,
        scores: list[float | None] | None = None,
    ) -> io.NodeOutput:
        """Take all batches apart and draw."""
        from ..pulid_core.sheet.contact_sheet import caption_lines, contact_sheet

        require_values(cls, columns=columns, cell_px=cell_px, captions=captions, scores=scores)
        sheet = contact_sheet(
            [rgb_pixels(picture) for batch in images for picture in batch],
            caption_lines([caption for caption in captions or [] if caption is not None]),
            [score for score in scores or [] if score is not None],
            columns[0],
            cell_px[0],
        )
        return io.NodeOutput(image_from_photos([sheet]))
