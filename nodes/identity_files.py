"""Nodes that save and load identities: cards, which are pictures, and .safetensors files."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..pulid_core.errors import IdentityExistsError, PulidError
from ..pulid_core.identity.identity import Identity, provenance_text
from ..pulid_core.identity.name import CARD_SUFFIX, SUFFIX, path_below
from .display import shown
from .identity import CATEGORY
from .model_files import (
    IDENTITIES,
    card_choices,
    card_folder,
    find_identity,
    identity_folder,
)
from .sockets import IdentitySocket, require_identity
from .values import require_values
from .workers import naming_worker

ERROR, NUMBER, OVERWRITE = "error", "number", "overwrite"
CARD, NUMBERS = "card", "safetensors"
MAX_CONSENT_CHARACTERS = 500


class PulidSaveIdentity(io.ComfyNode):
    """Writes an identity to a card or a small file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidSaveIdentity",
            display_name="Save PuLID Identity",
            category=CATEGORY,
            description="Saves an identity as a card in input/pulid_identities, a PNG that shows the "
            "face and carries the person, or as a .safetensors file in output/pulid_identities. It is a "
            "likeness of a person: share it like a photo of them.",
            search_aliases=["pulid", "save face", "save face embedding", "identity card"],
            is_output_node=True,
            inputs=[
                IdentitySocket.Input("identity", tooltip="The person to save."),
                io.String.Input(
                    "name",
                    default="person",
                    tooltip="Name of the file, without its ending; may name a folder: family/ann.",
                ),
                io.Combo.Input(
                    "if_exists",
                    options=[NUMBER, ERROR, OVERWRITE],
                    default=NUMBER,
                    tooltip="What happens when a file has this name. number: the new one is "
                    "called name_2, name_3 and so on. error: the node stops. overwrite: the old "
                    "file is replaced.",
                ),
                io.Boolean.Input(
                    "thumbnail",
                    default=True,
                    tooltip="Show the face on the card, and keep a gray picture of each face, 112 px, in "
                    "the file, so that it can be recognised. Off: only numbers.",
                ),
                io.Combo.Input(
                    "save_as",
                    options=[CARD, NUMBERS],
                    default=CARD,
                    optional=True,
                    tooltip="card: a PNG, which can be seen, uploaded, and taken to other machines as any "
                    "picture. safetensors: the same without a picture around it.",
                ),
                io.String.Input(
                    "consent",
                    default="",
                    optional=True,
                    tooltip="Who agreed to what, for example: Ann, for our album. It stands on the card, "
                    "and is told when the identity is loaded. Empty keeps what a loaded one says.",
                ),
                io.String.Input(
                    "date",
                    default="",
                    optional=True,
                    tooltip="Day of the consent, as 2026-01-31. Empty is today, or with no new consent "
                    "the day that a loaded identity says.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="identity_file", tooltip="Path of the file that was written."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        identity: Any,
        name: str,
        if_exists: str,
        thumbnail: bool,
        save_as: str | None = None,
        consent: str | None = None,
        date: str | None = None,
    ) -> io.NodeOutput:
        """Write the file, under a free name unless asked otherwise.

        A prompt of an earlier version lacks save_as, and goes on saving what it saved.
        """
        require_values(
            cls,
            name=name,
            if_exists=if_exists,
            thumbnail=thumbnail,
            save_as=save_as,
            consent=consent,
            date=date,
        )
        identity = _stated(require_identity(identity, cls), consent or "", date or "")
        is_card = save_as == CARD
        folder, suffix = (card_folder(), CARD_SUFFIX) if is_card else (identity_folder(), SUFFIX)
        saved = _save(identity, path_below(folder, name, suffix), if_exists, thumbnail)
        pictures = {"images": [_as_picture(saved)], "animated": (False,)} if is_card else {}
        return io.NodeOutput(str(saved), ui={**pictures, **shown(str(saved))})


class PulidLoadIdentity(io.ComfyNode):
    """Reads an identity from a card or a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidLoadIdentity",
            display_name="Load PuLID Identity",
            category=CATEGORY,
            description="Loads a saved identity: its card, or a .safetensors file. Needs neither "
            "InsightFace nor EVA-CLIP.",
            search_aliases=["pulid", "load face", "load face embedding", "identity card"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=card_choices(),
                    upload=io.UploadType.image,
                    tooltip="The card of the person, a PNG that Save PuLID Identity wrote: from "
                    "input/pulid_identities or uploaded into input; the newest first.",
                ),
                io.String.Input(
                    "identity_file",
                    optional=True,
                    force_input=True,
                    tooltip="Takes the place of the card: the name of a .safetensors file in "
                    "output/pulid_identities or models/pulid_identities, as text.",
                ),
            ],
            outputs=[
                IdentitySocket.Output(
                    display_name="identity",
                    tooltip="For Apply PuLID (FLUX) with the PuLID file that made it.",
                ),
                io.String.Output(display_name="report", tooltip="Where the identity comes from."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, image: str | None = None, identity_file: str | None = None
    ) -> bool | str:
        """Say at queue time that a file is missing, and where it belongs."""
        name = identity_file or image
        if not name:  # a link, whose value comes later
            return True
        try:
            with naming_worker():
                find_identity(name)
        except PulidError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, image: str | None = None, identity_file: str | None = None) -> Any:
        """Load again when the file was replaced; a linked name is known only at execution."""
        name = identity_file or image
        if not name:
            return None
        stat = find_identity(name).stat()
        return stat.st_mtime_ns, stat.st_size

    @classmethod
    def execute(cls, image: str, identity_file: str | None = None) -> io.NodeOutput:
        """Read and check the file."""
        from ..pulid_core.identity.file import load_identity

        require_values(cls, names={"image"}, image=image, identity_file=identity_file)
        name = identity_file or image
        if not name:
            raise PulidError(
                "PulidLoadIdentity needs the card of a person as image, but none is chosen. Upload one, "
                "or save one with PulidSaveIdentity and press R in ComfyUI."
            )
        path = find_identity(name)
        identity = load_identity(path)
        is_seen = path.suffix == CARD_SUFFIX or not len(identity.crops)
        preview = None if is_seen else ui.PreviewImage(identity.crops, cls=cls)
        report = provenance_text(identity)
        return io.NodeOutput(identity, report, ui=shown(report, preview))


def _stated(identity: Identity, consent: str, date: str) -> Identity:
    """The identity with what was said of consent, and of its day."""
    if identity.provenance is None:
        return identity
    text = " ".join(consent.split())
    if len(text) > MAX_CONSENT_CHARACTERS:
        raise PulidError(
            f"consent should be at most {MAX_CONSENT_CHARACTERS} characters, but is {len(text)} long. "
            "Write who agreed to what, and keep the rest elsewhere."
        )
    before = identity.provenance
    day = _day(date) or ("" if text else before.date) or datetime.date.today().isoformat()
    return replace(identity, provenance=replace(before, consent=text or before.consent, date=day))


def _day(date: str) -> str:
    try:
        return datetime.date.fromisoformat(date.strip()).isoformat() if date.strip() else ""
    except ValueError as error:
        raise PulidError(
            f"date should be a day as 2026-01-31, but is {date!r}. Write it so, or leave it empty."
        ) from error


def _save(identity: Identity, path: Path, if_exists: str, thumbnail: bool) -> Path:
    from ..pulid_core.identity.file import save_identity

    number = 1
    while True:
        numbered = path if number == 1 else path.with_stem(f"{path.stem}_{number}")
        try:
            return save_identity(
                identity, numbered, with_thumbnails=thumbnail, overwrite=if_exists == OVERWRITE
            )
        except IdentityExistsError:
            if if_exists == ERROR:
                raise
            number += 1


def _as_picture(card: Path) -> dict[str, str]:
    """How ComfyUI shows a picture that lies below input."""
    folder = Path(IDENTITIES) / card.parent.relative_to(card_folder().resolve())
    return {"filename": card.name, "subfolder": folder.as_posix(), "type": "input"}
