"""PulidLoader: chooses model files; the weights are read when they are first used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..pulid_core.errors import MissingFilesError
from ..pulid_core.face.devices import AUTO_PROVIDER, provider_choices
from ..pulid_core.model_files.catalogue import EVA_CLIP, FACE_MODEL, FACE_PARSING, PULID
from .display import shown
from .model_files import (
    AUTO,
    NONE,
    face_model_choices,
    fetch_command,
    file_choices,
    find_face_model,
    find_file,
)
from .sockets import PulidSocket
from .values import require_values
from .workers import naming_worker

FILES = {"pulid_file": PULID, "eva_clip_file": EVA_CLIP, "face_parsing_file": FACE_PARSING}
"""Input -> the file it chooses; `face_model` chooses a folder."""


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
                    "pulid_flux_v0.9.1, else the next one found. A known file that is not there is "
                    "replaced by another of its kind, and the node says by which.",
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
                    options=[*face_model_choices(), NONE],
                    default=FACE_MODEL,
                    tooltip="InsightFace pack under models/insightface/models. PuLID was trained "
                    "with antelopev2, whose licence allows non-commercial use only. none: only "
                    "saved identities are used.",
                ),
                io.Combo.Input(
                    "provider",
                    options=provider_choices(),
                    default=AUTO_PROVIDER,
                    tooltip="Where the face detector runs. auto is the CPU: it runs once per "
                    "photo and takes no GPU memory.",
                ),
            ],
            outputs=[PulidSocket.Output(display_name="pulid", tooltip="For Apply PuLID (FLUX).")],
        )

    @classmethod
    def validate_inputs(cls, **choices: str | None) -> bool:
        """Say at queue time which files are missing, where they belong and how to get them.

        A text that is returned ComfyUI repeats for every input; an error that is raised it tells once.

        Raises:
            MissingFilesError: With all files that are missing.
        """
        with naming_worker():
            _find(**choices)
        return True

    @classmethod
    def fingerprint_inputs(cls, **choices: str | None) -> Any:
        """Load again when a chosen file was replaced."""
        stats = []
        for path in filter(None, _find(**choices).values()):
            for file in sorted(path.glob("*.onnx")) if path.is_dir() else [path]:
                stat = file.stat()
                stats.append((str(file), stat.st_mtime_ns, stat.st_size))
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
        choices = {
            "pulid_file": pulid_file,
            "eva_clip_file": eva_clip_file,
            "face_parsing_file": face_parsing_file,
            "face_model": face_model,
        }
        require_values(cls, names={*choices, "provider"}, **choices, provider=provider)
        found = _find(**choices)
        from .pulid_models import Pulid, PulidPaths

        pulid = Pulid(PulidPaths(**found, provider=provider))
        return io.NodeOutput(pulid, ui=shown(_taken_instead(choices, found)))


def _find(**choices: str | None) -> dict[str, Any]:
    """Find what the inputs chose; None for `none`, and for a link, whose value comes later.

    Raises:
        MissingFilesError: With all files that are missing.
    """
    found: dict[str, Any] = {}
    missing: dict[Path, str] = {}
    for name in (*FILES, "face_model"):
        try:
            found[name] = _find_one(name, choices.get(name))
        except MissingFilesError as error:
            missing |= error.files
    if missing:
        raise MissingFilesError(missing, fetch_command())
    return found


def _taken_instead(choices: dict[str, str], found: dict[str, Path | None]) -> str:
    """A line for each file that is not the one named: found by auto, or of the same kind."""
    taken = {name: found[name] for name in FILES if choices[name] != NONE}
    return "\n".join(
        f"{name}: {path.name}" + ("" if choices[name] == AUTO else f" for {choices[name]}")
        for name, path in taken.items()
        if path is not None and path.name != Path(choices[name]).name
    )


def _find_one(name: str, choice: str | None) -> Path | None:
    if choice is None or (choice == NONE and name != "pulid_file"):
        return None
    return find_face_model(choice) if name == "face_model" else find_file(FILES[name], choice)
