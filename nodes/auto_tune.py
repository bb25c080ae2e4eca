"""PulidAutoTune and PulidAutoTuneResult: the lowest strength that looks enough like the person.

What lies between the two is run again for each strength, as new nodes of ComfyUI's own execution: whatever
samples there, with all its caches, previews and Cancel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder, is_link

from ..pulid_core.errors import PulidError
from ..pulid_core.face.analyser import FaceAnalyser
from ..pulid_core.face.similarity import compare, mean_similarity
from ..pulid_core.images import image_from_photos, photos_from_image
from .display import shown
from .face_similarity import direction_of
from .sockets import FaceModelSocket, IdentitySocket, PulidSocket, TuningSocket, require_faces
from .values import require_values

if TYPE_CHECKING:
    from ..pulid_core.sheet.strength import Search

CATEGORY = "PuLID FLUX/tuning"
WEIGHT, START_AT, TUNING = range(3)  # outputs of PulidAutoTune
BLOCKED = ExecutionBlocker(None)  # without a text, as PulidLikenessGate's


@dataclass(frozen=True)
class Tuning:
    """What a PULID_TUNING socket carries."""

    search: Search
    start: str
    """Id of PulidAutoTune."""
    end: str = ""
    """Id of the PulidAutoTuneResult that the user placed; known from the second round on."""
    strength: float = 0.0
    """What the picture at hand is made with."""


class PulidAutoTune(io.ComfyNode):
    """Begins a search for the lowest strength."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidAutoTune",
            display_name="PuLID Auto-Tune",
            category=CATEGORY,
            description="Begins a search for the lowest strength that looks enough like the person. "
            "Connect weight and start_at to Apply PuLID (FLUX), and the picture to PuLID Tuning "
            "Result, which runs what lies between again and again.",
            search_aliases=["pulid", "likeness", "find weight", "tune", "optimise", "sweep"],
            inputs=[
                io.String.Input(
                    "weights",
                    default="0.3, 1.2",
                    tooltip="Range of weight: the weak end, then the strong end, -1 to 5. One number "
                    "keeps it.",
                ),
                io.String.Input(
                    "starts",
                    default="0",
                    tooltip="Range of start_at: the weak end is the later one, for example 0.5, 0; 0 to "
                    "1. One number keeps it. With two ranges both go together.",
                ),
                io.Float.Input(
                    "target",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Similarity to reach, the cosine of ArcFace vectors: 1 is the same photo, 0 a "
                    "stranger or no face.",
                ),
                io.Int.Input(
                    "budget",
                    default=10,
                    min=2,
                    max=64,
                    tooltip="At most so many pictures are made. 7 find a weight between 0.3 and 1.2 where "
                    "likeness rises; more also find where it rises and falls.",
                ),
            ],
            outputs=[
                io.Float.Output(display_name="weight", tooltip="For Apply PuLID (FLUX)."),
                io.Float.Output(display_name="start_at", tooltip="For Apply PuLID (FLUX)."),
                TuningSocket.Output(display_name="tuning", tooltip="For PuLID Tuning Result."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, weights: str, starts: str, target: float, budget: int) -> io.NodeOutput:
        """Give the weak end, where the search begins."""
        from ..pulid_core.sheet.strength import start_search

        require_values(cls, weights=weights, starts=starts, target=target, budget=budget)
        search = start_search(weights, starts, target, budget)
        first = search.settings(0.0)
        return io.NodeOutput(first.weight, first.start_at, Tuning(search, cls.hidden.unique_id))


class PulidAutoTuneResult(io.ComfyNode):
    """Measures a picture, and goes on or ends the search."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidAutoTuneResult",
            display_name="PuLID Tuning Result",
            category=CATEGORY,
            description="Measures how much the picture looks like the person, and has it made again with "
            "another strength until the lowest is found that reaches the target, or the budget is used. "
            "If none does, what follows is not run.",
            search_aliases=["pulid", "likeness", "find weight", "tune", "optimise"],
            enable_expand=True,
            inputs=[
                TuningSocket.Input("tuning", tooltip="From PuLID Auto-Tune, directly."),
                io.Image.Input(
                    "image",
                    tooltip="What comes of its weight and start_at: small and with few steps. Of several "
                    "pictures the mean counts, and each is one of the budget.",
                ),
                io.MultiType.Input(
                    "reference",
                    types=[io.Image, IdentitySocket],
                    tooltip="The person: photos, whose largest faces are taken, or an identity.",
                ),
                io.MultiType.Input(
                    "face_model",
                    types=[FaceModelSocket, PulidSocket],
                    tooltip="From Load Face Model, or from Load PuLID (FLUX).",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="weight",
                    tooltip="The lowest that reaches the target, for the final picture. If none does, what "
                    "follows is not run.",
                ),
                io.Float.Output(display_name="start_at", tooltip="The latest, likewise."),
                io.Float.Output(display_name="similarity", tooltip="What they gave, likewise."),
                io.Image.Output(
                    display_name="curve", tooltip="Similarity over strength, every trial numbered."
                ),
                io.String.Output(
                    display_name="report", tooltip="What was found, and what each trial gave."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls, tuning: Any, image: torch.Tensor, reference: Any, face_model: Any
    ) -> io.NodeOutput:
        """Count the picture, and make the next or tell the result."""
        tuning = _require_tuning(tuning, cls.hidden.unique_id)
        similarity, count = _measure(image, reference, require_faces(face_model, cls))
        search = tuning.search.tried(tuning.strength, similarity, count)
        strength = search.next()
        if strength is None:
            return _result(search, cls)
        tuning = replace(tuning, search=search, strength=strength)
        graph = GraphBuilder()
        copies = _copy_between(graph, tuning, cls.hidden.dynprompt)
        last = copies[tuning.end]
        return io.NodeOutput(*map(last.out, range(5)), expand=graph.finalize())


def _require_tuning(value: Any, end: str) -> Tuning:
    if not isinstance(value, Tuning):
        raise PulidError(
            f"PulidAutoTuneResult needs the output of PulidAutoTune as tuning, but got "
            f"{type(value).__name__}. Connect tuning of PulidAutoTune."
        )
    return value if value.end else replace(value, end=end)


def _measure(image: torch.Tensor, reference: Any, faces: FaceAnalyser) -> tuple[float, int]:
    """Mean similarity, and over how many pictures."""
    from .pulid_models import step_callback

    photos, person = photos_from_image(image), direction_of([reference], faces)
    on_step = step_callback(len(photos))
    comparisons = [compare(photo, person, faces, lambda: on_step(0)) for photo in photos]
    return mean_similarity(comparisons), len(comparisons)


def _result(search: Search, node: type[io.ComfyNode]) -> io.NodeOutput:
    """What was found; what it cannot give is blocked, and the report says so."""
    from ..pulid_core.sheet.curve import draw_curve
    from ..pulid_core.sheet.strength import search_text

    report, curve = search_text(search), image_from_photos([draw_curve(search)])
    told = shown(report, ui.PreviewImage(curve, cls=node))
    if (found := search.found) is None:
        return io.NodeOutput(BLOCKED, BLOCKED, BLOCKED, curve, report, ui=told)
    settings = search.settings(found.strength)
    return io.NodeOutput(
        settings.weight, settings.start_at, found.similarity, curve, report, ui=told
    )


def _copy_between(graph: GraphBuilder, tuning: Tuning, prompt: Any) -> dict[str, Any]:
    """Copy all that lies between the two nodes, with the next strength in place of the first.

    The copies are made of the nodes that the user placed, not of those of the round before, and show their
    progress there. What does not depend on the strength is shared by all rounds.

    Raises:
        PulidError: The picture does not depend on it.
    """
    depends = {tuning.start: True}
    _find_dependent(tuning.end, prompt, depends)
    between = [number for number in depends if depends[number] and number != tuning.start]
    if between == [tuning.end]:
        raise PulidError(
            "PulidAutoTuneResult compares pictures that weight and start_at change, but image does not "
            "come of them. Connect weight or start_at of PulidAutoTune to PulidApplyFlux."
        )
    settings = tuning.search.settings(tuning.strength)
    given = {WEIGHT: settings.weight, START_AT: settings.start_at, TUNING: tuning}
    copies = {
        number: graph.node(prompt.get_node(number)["class_type"], number) for number in between
    }
    for number, copy in copies.items():
        copy.set_override_display_id(number)
        for name, value in prompt.get_node(number)["inputs"].items():
            copy.set_input(name, _relinked(value, tuning.start, given, copies))
    return copies


def _relinked(value: Any, start: str, given: dict[int, Any], copies: dict[str, Any]) -> Any:
    """What a copy gets where the original has this value or link."""
    if is_link(value) and value[0] == start:
        return given[value[1]]
    return copies[value[0]].out(value[1]) if is_link(value) and value[0] in copies else value


def _find_dependent(number: str, prompt: Any, known: dict[str, bool]) -> bool:
    """Tell whether a node depends on a known one that does; all nodes before it become known."""
    if number not in known:
        values = prompt.get_node(number)["inputs"].values()
        sources = [value[0] for value in values if is_link(value)]
        depends = [_find_dependent(source, prompt, known) for source in sources]
        known[number] = any(depends)
    return known[number]
