"""PulidInjectionOptions: schedule, weights per block, negative pass, the face alone."""

from __future__ import annotations

from comfy_api.latest import io

from ..pulid_core.injection.options import (
    NEGATIVE_CHOICES,
    InjectionOptions,
    NegativeSees,
    parse_factors,
)
from ..pulid_core.injection.schedule import SCHEDULES, parse_points
from ..pulid_core.injection.spatial_mask import ACTS_ON_CHOICES, ActsOn
from .sockets import OptionsSocket
from .values import require_values

POINTS = "points"


class PulidInjectionOptions(io.ComfyNode):
    """Refines how PulidApplyFlux acts; its defaults change nothing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidInjectionOptions",
            display_name="PuLID Injection Options",
            category="PuLID FLUX",
            description="Frees pose and skin: lets the identity come in or fade out over the steps, "
            "weakens it in single blocks, keeps it to the face, and chooses what the negative prompt sees.",
            search_aliases=[
                *("pulid", "weight schedule", "block weights", "ease in", "true cfg"),
                *("spatialid", "face only", "background", "regional"),
            ],
            inputs=[
                io.Combo.Input(
                    "schedule",
                    options=[*SCHEDULES, POINTS],
                    default="constant",
                    tooltip="How the weight changes between start_at and end_at. ease-in rises "
                    "from 0 (pose and light follow the prompt), ease-out falls to 0 (skin keeps "
                    "FLUX's own texture), points follows the list below.",
                ),
                io.String.Input(
                    "schedule_points",
                    default="0:0.4, 0.3:1, 1:0.8",
                    tooltip="For the schedule points: progress:factor pairs. Progress 0 is "
                    "start_at, 1 is end_at; factor 0 is off, 1 the node's weight. Straight lines "
                    "between them.",
                ),
                io.String.Input(
                    "double_blocks",
                    default="1",
                    tooltip="Factors on the weight in FLUX's double blocks: one for all, or ten, "
                    "from the first block to the last. 0 is off, 1 the node's weight. FLUX "
                    "runs these blocks first.",
                ),
                io.String.Input(
                    "single_blocks",
                    default="1",
                    tooltip="Factors on the weight in FLUX's single blocks: one for all, or ten. "
                    "0 is off, 1 the node's weight. FLUX runs these blocks last.",
                ),
                io.Combo.Input(
                    "negative_sees",
                    options=list(NEGATIVE_CHOICES),
                    default="nobody",
                    tooltip="What the negative prompt sees when cfg is above 1. nobody: the empty "
                    "identity, as in the original PuLID. same person: as in other packs, a weaker "
                    "likeness. nothing: the negative prompt runs without PuLID.",
                ),
                io.Combo.Input(
                    "acts_on",
                    options=list(ACTS_ON_CHOICES),
                    default="whole picture",
                    optional=True,
                    tooltip="Experimental. face: only where FLUX itself answers to the person "
                    "(SpatialID), so background and clothes follow the prompt. own face: for several "
                    "people without masks, each where its answer is the strongest. Both take the "
                    "strongest place of each picture for the face.",
                ),
                io.Float.Input(
                    "floor",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="With acts_on face or own face: how strongly the identity acts at least "
                    "beside the face. 0 is as SpatialID does, 1 is everywhere.",
                ),
            ],
            outputs=[
                OptionsSocket.Output(display_name="options", tooltip="For Apply PuLID (FLUX).")
            ],
        )

    @classmethod
    def execute(
        cls,
        schedule: str,
        schedule_points: str,
        double_blocks: str,
        single_blocks: str,
        negative_sees: NegativeSees,
        acts_on: ActsOn = "whole picture",
        floor: float = 0.0,
    ) -> io.NodeOutput:
        """Read the lists."""
        require_values(
            cls,
            schedule=schedule,
            schedule_points=schedule_points,
            double_blocks=double_blocks,
            single_blocks=single_blocks,
            negative_sees=negative_sees,
            acts_on=acts_on,
            floor=floor,
        )
        points = parse_points(schedule_points) if schedule == POINTS else SCHEDULES[schedule]
        return io.NodeOutput(
            InjectionOptions(
                points,
                parse_factors(double_blocks, "double_blocks"),
                parse_factors(single_blocks, "single_blocks"),
                negative_sees,
                acts_on or "whole picture",  # None where the node of an optional input is muted
                floor or 0.0,
            )
        )
