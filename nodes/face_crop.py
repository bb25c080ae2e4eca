"""PulidFaceCrop: one face of a picture, enlarged, for a second pass of any sampler."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pulid_core.face.choice import PLACE_ORDERS, choose_face
from ..pulid_core.face.second_pass import SMALLEST_CONTEXT, FaceCrop, crop_face
from ..pulid_core.images import photos_from_image
from .sockets import FaceModelSocket, PulidSocket, require_faces
from .values import require_values


class PulidFaceCrop(io.ComfyNode):
    """Cuts out a face and says where it was, so that core's nodes can paste what becomes of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidFaceCrop",
            display_name="PuLID Face Crop",
            category="PuLID FLUX",
            description="Cuts one face out of a finished picture and enlarges it, for a second pass "
            "with low denoise: small faces get FLUX's full resolution. The template Second pass on "
            "the face shows the nodes around it.",
            search_aliases=[
                *("pulid", "face detailer", "adetailer", "face fix", "second pass"),
                *("crop face", "inpaint face", "small face", "upscale face"),
            ],
            inputs=[
                io.MultiType.Input(
                    "face_model",
                    types=[FaceModelSocket, PulidSocket],
                    tooltip="From Load Face Model, or from Load PuLID (FLUX).",
                ),
                io.Image.Input("image", tooltip="Finished pictures. Each is cropped by itself."),
                io.Combo.Input(
                    "face_order",
                    options=list(PLACE_ORDERS),
                    default="left-to-right",
                    tooltip="In which order face_index counts the faces of a picture.",
                ),
                io.Int.Input(
                    "face_index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which face, in that order: 0 is the first, 1 the second. Use one of "
                    "these nodes for each person.",
                ),
                io.Int.Input(
                    "size",
                    default=1024,
                    min=256,
                    max=2048,
                    step=16,
                    tooltip="Side of the enlarged crop in pixels. 1024 is what FLUX is best at.",
                ),
                io.Float.Input(
                    "context",
                    default=2.0,
                    min=SMALLEST_CONTEXT,
                    max=6.0,
                    step=0.1,
                    tooltip="Side of the square as a multiple of the face. More shows the sampler "
                    "more of the surroundings, less enlarges the face more.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="picture",
                    is_output_list=True,
                    tooltip="The pictures one by one, to paste into (destination).",
                ),
                io.Image.Output(
                    display_name="crop", is_output_list=True, tooltip="The enlarged faces."
                ),
                io.Mask.Output(
                    display_name="mask",
                    is_output_list=True,
                    tooltip="1 on the face, 0 elsewhere and on every other face. For attn_mask of "
                    "Apply PuLID (FLUX), and for pasting.",
                ),
                io.Int.Output(
                    display_name="x", is_output_list=True, tooltip="Left of the crop, pixels."
                ),
                io.Int.Output(
                    display_name="y", is_output_list=True, tooltip="Top of the crop, pixels."
                ),
                io.Int.Output(
                    display_name="side",
                    is_output_list=True,
                    tooltip="Width and height to scale the new face back to, pixels.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        face_model: Any,
        image: torch.Tensor,
        face_order: str,
        face_index: int,
        size: int,
        context: float,
    ) -> io.NodeOutput:
        """Find and cut out the same face of every picture."""
        from .pulid_models import step_callback

        require_values(
            cls, face_order=face_order, face_index=face_index, size=size, context=context
        )
        analyser = require_faces(face_model, cls)
        photos = photos_from_image(image)
        rgb = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(-1, -1, -1, 3)
        on_step, crops = step_callback(len(photos)), []
        for photo, picture in zip(photos, rgb, strict=True):
            faces, face = choose_face(
                photo, analyser, face_order, face_index, pause=lambda: on_step(0)
            )
            others = [other for other in faces if other is not face]
            crops.append(crop_face(picture, face, others, size, context))
            on_step()
        return io.NodeOutput(*_lists(rgb, crops), ui=_preview(crops, cls))


def _lists(pictures: torch.Tensor, crops: list[FaceCrop]) -> tuple[list[Any], ...]:
    return (
        list(pictures.split(1)),
        [crop.picture for crop in crops],
        [crop.mask for crop in crops],
        [crop.left for crop in crops],
        [crop.top for crop in crops],
        [crop.side for crop in crops],
    )


def _preview(crops: list[FaceCrop], node: type[io.ComfyNode]) -> ui.PreviewImage:
    """What the second pass may paint: all else is dark."""
    shown = [crop.picture * (0.25 + 0.75 * crop.mask.unsqueeze(-1)) for crop in crops]
    return ui.PreviewImage(torch.cat(shown), cls=node)
