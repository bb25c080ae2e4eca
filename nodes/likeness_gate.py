"""PulidLikenessGate: only pictures that look like the person go on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..pulid_core.errors import ReferenceImageError
from ..pulid_core.face.similarity import Comparison, annotate, compare
from ..pulid_core.images import check_batch, image_from_photos, photo_from_hwc, rgb_pixels
from .display import shown
from .face_similarity import direction_of
from .sockets import FaceModelSocket, IdentitySocket, PulidSocket, require_faces
from .values import require_values

if TYPE_CHECKING:
    from ..pulid_core.face.analyser import FaceAnalyser
    from ..pulid_core.face.detection import Pause
    from ..pulid_core.face.gate import Verdict

LOGGER = logging.getLogger(__name__)

BLOCKED = ExecutionBlocker(None)
"""Without a text: with one ComfyUI reports an error at every node that follows, the wrong ones, and ends
the repeated runs that are to bring a better picture. This node says itself what happened."""


class PulidLikenessGate(io.ComfyNode):
    """Lets pictures pass whose face resembles a person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidLikenessGate",
            display_name="PuLID Likeness Gate",
            category="PuLID FLUX/tuning",
            description="Lets only those pictures pass that look like the person, the best first, "
            "whichever model made them. If none does, what follows is not run. ArcFace judges; the "
            "licence of antelopev2 allows non-commercial use only.",
            search_aliases=["pulid", "likeness", "best of n", "filter images", "face similarity"],
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Pictures to choose from: a batch, or the pictures of several runs. Of each "
                    "the face that resembles the person most counts.",
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
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Least similarity that passes, the cosine of ArcFace vectors: 1 is the same "
                    "photo, 0 a stranger. Two photos of one person have 0.4 or more, of two people up "
                    "to 0.36.",
                ),
                io.Int.Input(
                    "keep_best",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="At most so many pictures pass, the best ones. 0 is all that reach the "
                    "threshold.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="accepted",
                    is_output_list=True,
                    tooltip="The pictures that pass, the best first: one batch, or single pictures if "
                    "their sizes differ. Without any, what follows is not run.",
                ),
                io.Image.Output(
                    display_name="rejected",
                    is_output_list=True,
                    tooltip="All others, the best first. Without any, what follows is not run.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="Similarity of each accepted picture. For PuLID Contact Sheet.",
                ),
                io.Int.Output(
                    display_name="order",
                    is_output_list=True,
                    tooltip="Which of the images each accepted picture is, counted from 0: to take its "
                    "latent or its seed.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Of each picture what was found, and why."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: list[torch.Tensor],
        reference: list[Any],
        face_model: list[Any],
        threshold: list[float],
        keep_best: list[int],
    ) -> io.NodeOutput:
        """Compare every picture; one that was searched for faces before is not searched again."""
        from ..pulid_core.face.gate import gate_text, judge
        from .pulid_models import step_callback

        require_values(cls, threshold=threshold, keep_best=keep_best)
        faces = require_faces(face_model[0], cls)
        person = direction_of(reference, faces)
        for batch in images:
            check_batch(batch)
        pictures = [picture for batch in images for picture in batch]
        on_step, looks, previews = step_callback(len(pictures)), [], []
        for index, picture in enumerate(pictures):
            look, preview = _look(picture, index, len(pictures), person, faces, lambda: on_step(0))
            looks.append(look)
            previews.append(preview)
            on_step()
        verdicts = judge(looks, threshold[0], keep_best[0])
        accepted = [verdict for verdict in verdicts if verdict.is_accepted]
        report = gate_text(verdicts, threshold[0])
        LOGGER.info("%s", report)
        return io.NodeOutput(
            _pictures(accepted, pictures),
            _pictures([verdict for verdict in verdicts if not verdict.is_accepted], pictures),
            [verdict.score for verdict in accepted] or BLOCKED,
            [verdict.index for verdict in accepted] or BLOCKED,
            report,
            ui=_shown(report, [previews[verdict.index] for verdict in verdicts], cls),
        )


def _look(
    picture: torch.Tensor,
    index: int,
    count: int,
    person: torch.Tensor,
    faces: FaceAnalyser,
    pause: Pause,
) -> tuple[Comparison | str, torch.Tensor]:
    """Compare one picture, (H, W, C), or say why not; and what is shown of it, an IMAGE of one."""
    from ..pulid_core.face.gate import why_no_face

    try:
        photo = photo_from_hwc(picture, index, count)
    except ReferenceImageError as error:
        return str(error), image_from_photos([rgb_pixels(picture)])
    found = compare(photo, person, faces, pause)
    preview = image_from_photos([annotate(photo, found)])
    return (found if found.faces else why_no_face(photo)), preview


def _pictures(verdicts: list[Verdict], pictures: list[torch.Tensor]) -> Any:
    """The pictures as a list of one batch, or of a batch each if they differ in size."""
    chosen = [pictures[verdict.index] for verdict in verdicts]
    if not chosen:
        return BLOCKED
    if len({picture.shape for picture in chosen}) == 1:
        return [torch.stack(chosen)]
    return [picture.unsqueeze(0) for picture in chosen]


def _shown(report: str, previews: list[torch.Tensor], node: type[io.ComfyNode]) -> dict[str, Any]:
    saved = [image for one in previews for image in ui.PreviewImage(one, cls=node).values]
    return {"images": saved, "animated": (False,), **shown(report)}
