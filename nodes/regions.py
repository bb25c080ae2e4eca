"""PulidRegions: masks for several people, without painting."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..pulid_core.injection.regions import LAYOUTS, MASK_SIZE, MAX_PEOPLE, Layout, region_masks
from .values import require_values


class PulidRegions(io.ComfyNode):
    """Divides the picture among people, one mask for each PulidApplyFlux."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidRegions",
            display_name="PuLID Regions",
            category="PuLID FLUX",
            description="Masks that give each person a part of the picture. Connect each to the "
            "attn_mask of one PulidApplyFlux.",
            search_aliases=["pulid", "several people", "regional", "mask", "couple", "group"],
            inputs=[
                io.Int.Input(
                    "people",
                    default=2,
                    min=1,
                    max=MAX_PEOPLE,
                    tooltip="How many people share the picture. 1 is the whole picture; the masks "
                    "of people above this number are empty.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="left to right",
                    tooltip="Bands from left to right or from top to bottom, a grid read like a "
                    "page, or batch: person 1 in the first picture of the batch, person 2 in the "
                    "second, and so on.",
                ),
                io.Float.Input(
                    "softness",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Width of the transition between neighbours as a part of a band. 0 is a "
                    "hard border, 1 fades over a whole band. The masks always add up to 1.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    f"person_{i}",
                    display_name=f"person {i}",
                    tooltip=f"Where person {i} is: 1 inside, 0 outside. Any picture size.",
                )
                for i in range(1, MAX_PEOPLE + 1)
            ],
        )

    @classmethod
    def execute(cls, people: int, layout: Layout, softness: float) -> io.NodeOutput:
        """Make the masks, and empty ones for the other outputs."""
        require_values(cls, people=people, layout=layout, softness=softness)
        masks = region_masks(people, layout, softness)
        empty = [torch.zeros(1, MASK_SIZE, MASK_SIZE)] * (MAX_PEOPLE - len(masks))
        return io.NodeOutput(*masks, *empty)
