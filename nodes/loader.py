"""PulidLoader: chooses model files; the weights are read when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pulid_core.errors import MissingFilesError, PulidError
from ..pulid_core.faces import AUTO_PROVIDER, CPU_PROVIDER
from ..pulid_core.model_catalogue import EVA_CLIP, FACE_MODEL, FACE_PARSING, PULID
from .model_files import (
    NONE,
    face_model_choices,
    fetch_command,
    file_choices,
    find_face_model,
    find_file,
)
from .pulid_models import Pulid, PulidPaths

PulidSocket = io.Custom("PULID")

ONNXRUNTIME_PROVIDERS = {
    "onnxruntime-gpu": ["CUDAExecutionProvider", "TensorrtExecutionProvider"],
    "onnxruntime-directml": ["DmlExecutionProvider"],
    "onnxruntime-rocm": ["ROCMExecutionProvider", "MIGraphXExecutionProvider"],
    "onnxruntime-migraphx": ["MIGraphXExecutionProvider"],
    "onnxruntime-openvino": ["OpenVINOExecutionProvider"],
}
"""What each distribution of ONNX Runtime adds to the CPU. Read from the installed packages, since
importing ONNX Runtime would slow down ComfyUI's start."""


def _provider_choices() -> list[str]:
    installed = {str(d.metadata["Name"]).lower() for d in metadata.distributions()}
    providers = [
        p
        for name in ONNXRUNTIME_PROVIDERS
        for p in ONNXRUNTIME_PROVIDERS[name]
        if name in installed
    ]
    if sys.platform == "darwin":
        providers.append("CoreMLExecutionProvider")
    return [AUTO_PROVIDER, CPU_PROVIDER, *dict.fromkeys(providers)]


class PulidLoader(io.ComfyNode):
    """Finds the model files of PuLID-FLUX."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidLoader",
            display_name="Load PuLID (FLUX)",
            category="PuLID FLUX",
            description="Chooses the files PuLID needs: the identity weights, the vision model, "
            "the face parser and the face detector. Nothing is downloaded; weights are read when "
            "they are first used. Licences: PuLID Apache-2.0; EVA-CLIP MIT; BiSeNet MIT, trained on "
            "CelebAMask-HQ, which is for non-commercial research; antelopev2 non-commercial "
            "research only; FLUX.1-dev, which PuLID works on, non-commercial.",
            search_aliases=["pulid", "face", "identity", "likeness", "insightface", "eva clip"],
            inputs=[
                io.Combo.Input(
                    "pulid_file",
                    options=file_choices(PULID),
                    default="auto",
                    tooltip="PuLID-FLUX checkpoint in models/pulid. auto takes "
                    "pulid_flux_v0.9.1, else the next one found.",
                ),
                io.Combo.Input(
                    "eva_clip_file",
                    options=[*file_choices(EVA_CLIP), NONE],
                    default="auto",
                    tooltip="EVA02-CLIP-L-14-336 in models/clip_vision, models/text_encoders or "
                    "models/clip. auto finds EVA02_CLIP_L_336_psz14_s6B. none: only saved "
                    "identities are used.",
                ),
                io.Combo.Input(
                    "face_parsing_file",
                    options=[*file_choices(FACE_PARSING), NONE],
                    default="auto",
                    tooltip="BiSeNet face parser in models/facexlib. auto finds "
                    "parsing_bisenet. none: only saved identities are used.",
                ),
                io.Combo.Input(
                    "face_model",
                    options=face_model_choices(),
                    default=FACE_MODEL,
                    tooltip="InsightFace pack under models/insightface/models. PuLID was trained "
                    "with antelopev2, whose licence allows non-commercial use only. none: only "
                    "saved identities are used.",
                ),
                io.Combo.Input(
                    "provider",
                    options=_provider_choices(),
                    default=AUTO_PROVIDER,
                    tooltip="Where the face detector runs. auto is the CPU: it runs once per "
                    "photo and takes no GPU memory.",
                ),
            ],
            outputs=[PulidSocket.Output(display_name="pulid", tooltip="For PulidApplyFlux.")],
        )

    @classmethod
    def validate_inputs(cls, **choices: str | None) -> bool | str:
        """Say at queue time which files are missing, where they belong and how to get them."""
        try:
            _paths(**{name: choice for name, choice in choices.items() if choice is not None})
        except PulidError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **choices: str | None) -> Any:
        """Load again when a chosen file was replaced."""
        stats = []
        paths = _paths(**{name: choice for name, choice in choices.items() if choice is not None})
        for path in (paths.pulid, paths.eva_clip, paths.face_parsing, paths.face_model):
            if path is None:
                continue
            stat = path.stat()
            stats.append((str(path), stat.st_mtime_ns, stat.st_size))
        return stats

    @classmethod
    def execute(
        cls,
        pulid_file: str,
        eva_clip_file: str,
        face_parsing_file: str,
        face_model: str,
        provider: str,
    ) -> io.NodeOutput:
        """Check the PuLID file and hand out the set-up."""
        paths = _paths(pulid_file, eva_clip_file, face_parsing_file, face_model, provider)
        return io.NodeOutput(Pulid(paths))


def _paths(
    pulid_file: str = "auto",
    eva_clip_file: str = "auto",
    face_parsing_file: str = "auto",
    face_model: str = FACE_MODEL,
    provider: str = AUTO_PROVIDER,
) -> PulidPaths:
    look_ups: dict[str, Callable[[], Path | None]] = {
        "pulid": lambda: find_file(PULID, pulid_file),
        "eva_clip": lambda: None if eva_clip_file == NONE else find_file(EVA_CLIP, eva_clip_file),
        "face_parsing": lambda: (
            None if face_parsing_file == NONE else find_file(FACE_PARSING, face_parsing_file)
        ),
        "face_model": lambda: None if face_model == NONE else find_face_model(face_model),
    }
    found: dict[str, Any] = {}
    missing: dict[Path, str] = {}
    for name, look_up in look_ups.items():
        try:
            found[name] = look_up()
        except MissingFilesError as error:
            missing |= error.files
    if missing:
        raise MissingFilesError(missing, fetch_command())
    return PulidPaths(**found, provider=provider)
