"""Identity cards over real servers: saved, chosen, uploaded, stripped; and graphs that know none."""

import os
import shutil
import time
from pathlib import Path

import pytest
import requests
from PIL import Image
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.pulid_core.identity.file import load_identity, save_identity
from pulid_pack.tests.people import make_identity
from pulid_pack.tests.real_comfyui.portrait_graph import Prompt

pytestmark = pytest.mark.comfy

ANN = "pulid_identities/cards/ann.png"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def load_node(**inputs) -> Prompt:
    """Load an identity, and show where it comes from."""
    return {
        "load": node("PulidLoadIdentity", **inputs),
        "report": node("PreviewAny", source=["load", 1]),
    }


def choices(server) -> list[str]:
    kind = "PulidLoadIdentity"
    return server.object_info(kind)[kind]["input"]["required"]["image"][1]["options"]


@pytest.fixture
def ann(matrix_server):
    """Her card where Save puts it, in each ComfyUI of the matrix."""
    path = matrix_server.base_dir / "input" / ANN
    save_identity(make_identity(), path, overwrite=True)
    yield matrix_server
    path.unlink(missing_ok=True)


def test_a_card_is_saved_shown_chosen_and_loaded(ann):
    """Saved again from a card, with consent: the same person, in another file."""
    save = {"name": "cards/bea", "if_exists": "overwrite", "thumbnail": True, "save_as": "card"}
    said = {"consent": "Bea,\nfor our album", "date": "2026-01-31"}
    kept = {"keep": node("PulidSaveIdentity", identity=["load", 0], **save, **said)}
    run = ann.run(load_node(image=ANN) | kept)
    assert run.error is None, run.error
    (card,) = run.images["keep"]
    assert card == ann.base_dir / "input/pulid_identities/cards/bea.png"
    assert card.read_bytes().startswith(b"\x89PNG")
    assert load_identity(card).provenance.consent == "Bea, for our album"
    assert "pulid_identities/cards/bea.png" in choices(ann)
    run = ann.run(load_node(image="pulid_identities/cards/bea.png"))
    assert "Consent: Bea, for our album (2026-01-31)" in run.outputs["report"]["text"][0]
    again = {"keep": node("PulidSaveIdentity", identity=["load", 0], **save, consent="", date="")}
    again["keep"]["inputs"]["thumbnail"] = False
    assert ann.run(load_node(image="pulid_identities/cards/bea.png") | again).error is None
    assert load_identity(card).provenance.date == "2026-01-31"  # kept, as the consent is


def test_the_chooser_lists_cards_only_the_newest_first(server, tmp_path):
    """From where Save puts them and from input; what is uploaded stands there as any picture."""
    folder = server.base_dir / "input"
    for place, (name, age_s) in enumerate((("old.png", 200), (ANN, 100), ("new.png", 0))):
        path = save_identity(make_identity(seed=place), tmp_path / f"{place}" / Path(name).name)
        if "/" not in name:
            server.upload_image(path)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
        moment = time.time() - age_s
        os.utime(folder / name, (moment, moment))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    listed = choices(server)
    assert [name for name in listed if name in ("old.png", ANN, "new.png")] == [
        "new.png",
        ANN,
        "old.png",
    ]
    assert {"portrait.png", "broken.png"}.isdisjoint(listed)
    shutil.copy(folder / "portrait.png", folder / "old.png")  # a card that became a photo
    assert "old.png" not in choices(server)
    seen = requests.get(
        f"{server.url}/view", {"filename": "ann.png", "subfolder": ANN[:-8], "type": "input"}, timeout=60
    )  # fmt: skip
    assert seen.content == (folder / ANN).read_bytes()  # as the node's preview asks for it
    assert server.run(load_node(image="new.png")).error is None
    for name in ("old.png", "new.png", "broken.png"):
        (folder / name).unlink()


def test_prompts_of_earlier_versions_go_on(ann):
    """identity_file as text or link, no image, and no word on how to save: a .safetensors file."""
    folder = ann.base_dir / "output/pulid_identities"
    save = node(
        "PulidSaveIdentity", identity=["load", 0], name="cards/earlier", if_exists="overwrite", thumbnail=True
    )  # fmt: skip
    assert ann.run(load_node(image=ANN) | {"keep": save}).error is None
    assert load_identity(folder / "cards/earlier.safetensors").provenance.consent == ""
    name = "cards/earlier.safetensors"
    run = ann.run(load_node(identity_file=name))
    assert run.error is None, run.error
    assert len(run.images["load"]) == 1
    linked = {"name": node("PrimitiveString", value=name)} | load_node(identity_file=["name", 0])
    assert ann.run(linked).error is None
    # The first widget of an opened graph takes the value of what was the only one.
    assert ann.run(load_node(image=name)).error is None
    (folder / name).unlink()


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("portrait.png", "ask for the original PNG, sent as a file"),
        ("stripped.png", "this file is a JPEG"),
        ("nobody.png", "This identity is not there"),
        ("../output/pulid_identities/x.png", "This identity is not there"),
        ("/etc/hostname", "This identity is not there"),
        ("../../etc/hostname [output]", "This identity is not there"),
        ("", "none is chosen. Upload one"),
    ],
)
def test_what_is_no_card_is_refused_by_name(server, image, text):
    """The photo it was made of, what a chat program left, and nothing outside ComfyUI's folders."""
    stripped = server.base_dir / "input/stripped.png"
    Image.new("RGB", (64, 64)).save(stripped, "JPEG")
    run = server.run(load_node(image=image))
    assert text in run.error.message + str(run.node_errors)
    assert_page_helps(run)
    stripped.unlink()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"date": "yesterday"}, "date should be a day as 2026-01-31, but is 'yesterday'"),
        ({"consent": "a" * 501}, "consent should be at most 500 characters, but is 501 long"),
    ],
)
def test_fields_are_checked(server, said, text):
    path = server.base_dir / "input" / ANN
    save_identity(make_identity(), path, overwrite=True)
    save = {"name": "cards/no", "if_exists": "error", "thumbnail": True, "save_as": "card"}
    run = server.run(
        load_node(image=ANN)
        | {"keep": node("PulidSaveIdentity", identity=["load", 0], **save | said)}
    )
    assert text in run.error.message
    assert_page_helps(run)
    assert not path.with_name("no.png").exists()
