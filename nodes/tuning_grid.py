"""PulidTuningGrid: runs what follows once for every weight and start."""

from __future__ import annotations

from comfy_api.latest import io

from ..pulid_core.sheet.tuning import MAX_COMBINATIONS, tuning_grid
from .values import require_values


class PulidTuningGrid(io.ComfyNode):
    """Gives every combination of some weights and starts, one per downstream run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidTuningGrid",
            display_name="PuLID Tuning Grid",
            category="PuLID FLUX/tuning",
            description="Combines weights and starts. Connect weight and start_at to "
            "PulidApplyFlux: one picture is made for each combination. PuLID Contact Sheet shows "
            "them side by side.",
            search_aliases=["pulid", "likeness", "xy plot", "compare settings", "grid", "sweep"],
            inputs=[
                io.String.Input(
                    "weights",
                    default="0.7, 0.85, 1.0",
                    tooltip="Weights to try, separated by commas, -1 to 5; a row of the grid for "
                    "each. 0 is off, 1 is what PuLID was trained with.",
                ),
                io.String.Input(
                    "starts",
                    default="0, 0.1, 0.2",
                    tooltip="Values of start_at to try, 0 to 1; a column of the grid for each. 0 "
                    "is from the first step, 1 is never. At most "
                    f"{MAX_COMBINATIONS} combinations.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="weight",
                    is_output_list=True,
                    tooltip="For Apply PuLID (FLUX): one weight per run, 0 is off, 1 is full.",
                ),
                io.Float.Output(
                    display_name="start_at",
                    is_output_list=True,
                    tooltip="For Apply PuLID (FLUX): one start per run, 0 is from the first step, 1 "
                    "is never.",
                ),
                io.String.Output(
                    display_name="caption",
                    is_output_list=True,
                    tooltip="For PuLID Contact Sheet: weight 0.7, start 0.1.",
                ),
                io.Int.Output(
                    display_name="columns",
                    tooltip="For PuLID Contact Sheet: the number of starts.",
                ),
            ],
        )

    @classmethod
    def execute(cls, weights: str, starts: str) -> io.NodeOutput:
        """Combine, row by row."""
        require_values(cls, weights=weights, starts=starts)
        grid, columns = tuning_grid(weights, starts)
        return io.NodeOutput(
            [combination.weight for combination in grid],
            [combination.start_at for combination in grid],
            [combination.caption for combination in grid],
            columns,
        )
