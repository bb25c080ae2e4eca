"""PulidFaceSimilarity: how alike the faces of pictures are to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pulid_core.face.analyser import FaceAnalyser
from ..pulid_core.face.portrait import DEFAULT_SETTINGS, choose_portraits
from ..pulid_core.face.similarity import (
    annotate,
    compare,
    mean_direction,
    mean_similarity,
    similarity_text,
)
from ..pulid_core.identity.identity import Identity
from ..pulid_core.images import image_from_photos, photos_from_image
from .display import shown
from .identity import CATEGORY
from .sockets import FaceModelSocket, IdentitySocket, PulidSocket, require_faces


class PulidFaceSimilarity(io.ComfyNode):
    """Says how much the faces of a picture resemble a person."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidFaceSimilarity",
            display_name="PuLID Face Similarity",
            category=CATEGORY,
            description="Compares faces by ArcFace, for tuning weight and start_at only: the same "
            "encoder conditions the picture, so the number proves nothing about likeness. "
            "The licence of antelopev2 allows non-commercial use only.",
            search_aliases=["pulid", "face distance", "likeness", "arcface", "compare faces"],
            inputs=[
                io.MultiType.Input(
                    "pulid",
                    types=[PulidSocket, FaceModelSocket],
                    tooltip="From Load Face Model, or from Load PuLID (FLUX), of which only the face "
                    "model is used.",
                ),
                io.Image.Input(
                    "image",
                    tooltip="Pictures to judge. Of each the face that resembles the person most "
                    "counts.",
                ),
                io.MultiType.Input(
                    "reference",
                    types=[io.Image, IdentitySocket],
                    tooltip="The person: photos, whose largest faces are taken, or an identity.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="similarity",
                    tooltip="Cosine of the ArcFace vectors, best face, mean over the images: 1 is "
                    "the same photo, 0 a stranger or no face. The same encoder conditions the "
                    "image: use it to tune weight and start_at, not for claims. antelopev2 is "
                    "non-commercial.",
                ),
                io.String.Output(display_name="report", tooltip="All faces of each image."),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The images with boxes and cosines; the best face is green.",
                ),
            ],
        )

    @classmethod
    def execute(cls, pulid: Any, image: torch.Tensor, reference: Any) -> io.NodeOutput:
        """Compare; the same picture is searched for faces once."""
        from .pulid_models import step_callback

        faces = require_faces(pulid, cls)
        person = direction_of([reference], faces)
        photos = photos_from_image(image)
        on_step, comparisons = step_callback(len(photos)), []
        for photo in photos:
            comparisons.append(compare(photo, person, faces, lambda: on_step(0)))
            on_step()
        preview = image_from_photos(
            [annotate(photo, found) for photo, found in zip(photos, comparisons, strict=True)]
        )
        report = similarity_text(comparisons)
        return io.NodeOutput(
            mean_similarity(comparisons),
            report,
            preview,
            ui=shown(report, ui.PreviewImage(preview, cls=cls)),
        )


def direction_of(references: Sequence[Any], faces: FaceAnalyser) -> torch.Tensor:
    """One ArcFace direction for a person, (512,), by photos and identities together.

    Args:
        references: IMAGE batches, of whose photos the largest faces are taken, and identities.
        faces: Of the face model that made the identities.

    Raises:
        PulidError: A photo cannot be used, or an identity is of another face model.
    """
    return mean_direction(torch.cat([_arcface_embeddings(one, faces) for one in references]))


def _arcface_embeddings(reference: Any, faces: FaceAnalyser) -> torch.Tensor:
    if isinstance(reference, Identity):
        reference.require_face_model(faces.name)
        return reference.arcface_embeddings
    portraits, _ = choose_portraits(photos_from_image(reference), faces, DEFAULT_SETTINGS)
    return torch.stack([portrait.embedding for portrait in portraits])
