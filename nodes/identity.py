"""Nodes that encode and blend identities."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..pulid_core.encoder.fusion import FUSIONS
from ..pulid_core.errors import PulidError
from ..pulid_core.face.choice import FACE_ORDERS
from ..pulid_core.face.portrait import DEFAULT_SETTINGS, EncodeSettings
from ..pulid_core.face.report import picture_of_choice, report_text
from ..pulid_core.identity.identity import Identity, blend_identities
from ..pulid_core.images import image_from_photos
from ..pulid_core.numbers import parse_numbers
from .portrait_display import show_person
from .sockets import IdentitySocket, PulidSocket, require_identity, require_pulid
from .values import require_values

CATEGORY = "PuLID FLUX/identity"

SKIP, ERROR = "skip", "error"


class PulidEncodeIdentity(io.ComfyNode):
    """Turns photos of one person into an identity."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidEncodeIdentity",
            display_name="Encode PuLID Identity",
            category=CATEGORY,
            description="Turns one or several photos of one person into an identity, and shows "
            "which face was taken and what the encoder saw of it.",
            search_aliases=[
                *("pulid", "face", "face id", "face embedding", "identity", "person", "likeness"),
                *("portrait", "ipadapter", "instantid", "reactor", "face swap"),
                *("consistent character", "人脸", "身份"),
            ],
            inputs=[
                PulidSocket.Input("pulid", tooltip="From Load PuLID (FLUX)."),
                io.Image.Input("image", tooltip="One photo, or a batch of photos of one person."),
                io.Combo.Input(
                    "face_order",
                    options=list(FACE_ORDERS),
                    default=DEFAULT_SETTINGS.face_order,
                    tooltip="In which order face_index counts the faces of each photo. center: "
                    "nearest to the middle of the photo first. same-person: first whoever is on all "
                    "photos of a batch, by ArcFace.",
                ),
                io.Int.Input(
                    "face_index",
                    default=DEFAULT_SETTINGS.face_index,
                    min=0,
                    max=99,
                    tooltip="Which face of each photo, in that order. 0 is the first, 1 the second: "
                    "the number at the face on the picture that this node shows.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=list(FUSIONS),
                    default=DEFAULT_SETTINGS.fusion,
                    tooltip="How several photos become one person. concat: the picture looks at "
                    "each photo where it helps. mean: the average of the photos. native: PuLID's "
                    "encoder looks at all photos at once. One photo: all the same.",
                ),
                io.String.Input(
                    "photo_weights",
                    default="",
                    tooltip="How often each photo counts, separated by commas, for example "
                    "1, 1, 0.5. 0 leaves a photo out; 2 is as if it were given twice (concat "
                    "rounds to quarters of the largest). With mean, a negative weight goes away "
                    "from a photo. Empty: once each.",
                ),
                io.Combo.Input(
                    "on_missing_face",
                    options=[ERROR, SKIP],
                    default=ERROR,
                    tooltip="What happens with a photo that lacks the face. error: the node stops "
                    "and names the photo. skip: the photo is left out, and the report says so.",
                ),
            ],
            outputs=[
                IdentitySocket.Output(display_name="identity", tooltip="For Apply PuLID (FLUX)."),
                io.Image.Output(
                    display_name="face_crops",
                    tooltip="One picture per photo: the aligned face, and beside it exactly what "
                    "the vision encoder sees, 336 px, gray, background white.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Faces found on each photo, which was taken, and warnings.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        pulid: Any,
        image: torch.Tensor,
        face_order: str,
        face_index: int,
        fusion: str,
        photo_weights: str,
        on_missing_face: str,
    ) -> io.NodeOutput:
        """Encode, or recall what was encoded before."""
        require_values(
            cls,
            face_order=face_order,
            face_index=face_index,
            fusion=fusion,
            photo_weights=photo_weights,
            on_missing_face=on_missing_face,
        )
        settings = EncodeSettings(
            face_order, face_index, fusion, _parse_weights(photo_weights), on_missing_face == SKIP
        )
        pulid = require_pulid(pulid, cls)
        identity = pulid.encode(image, settings)
        return io.NodeOutput(
            identity,
            identity.crops,
            report_text(identity.photos),
            ui=show_person(identity, _pictures_of_choice(identity), cls, pulid.notes),
        )


class PulidBlendIdentities(io.ComfyNode):
    """Mixes two people into one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidBlendIdentities",
            display_name="Blend PuLID Identities",
            category=CATEGORY,
            description="Mixes two people into one person who resembles both.",
            search_aliases=["pulid", "mix faces", "morph", "face blend"],
            inputs=[
                IdentitySocket.Input("identity_a", tooltip="What ratio 0 gives."),
                IdentitySocket.Input("identity_b", tooltip="What ratio 1 gives."),
                io.Float.Input(
                    "ratio",
                    default=0.5,
                    min=-1.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Share of identity_b. 0 is only identity_a, 1 only identity_b; below 0 "
                    "goes away from identity_b, above 1 away from identity_a.",
                ),
            ],
            outputs=[IdentitySocket.Output(display_name="identity", tooltip="The mixed person.")],
        )

    @classmethod
    def execute(cls, identity_a: Any, identity_b: Any, ratio: float) -> io.NodeOutput:
        """Blend the tokens."""
        require_values(cls, ratio=ratio)
        first, second = require_identity(identity_a, cls), require_identity(identity_b, cls)
        return io.NodeOutput(blend_identities(first, second, ratio).rounded())


def _pictures_of_choice(identity: Identity) -> list[torch.Tensor]:
    """One picture for each photo: all faces with their numbers, and what was taken."""
    crops = iter((identity.crops * 255).round().to(torch.uint8).numpy())
    return [
        image_from_photos([picture_of_choice(photo, next(crops) if photo.chosen else None)])
        for photo in identity.photos
    ]


def _parse_weights(text: str) -> tuple[float, ...]:
    try:
        return parse_numbers(text)
    except ValueError as error:
        raise PulidError(
            f"photo_weights should be numbers separated by commas, but are {text!r}. "
            "Write for example 1, 1, 0.5, or leave it empty."
        ) from error
