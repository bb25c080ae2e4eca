"""The card: a picture that says what it is, carries the identity, and is refused by name without it."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pulid_pack.pulid_core.errors import CheckpointError, IdentityExistsError, PulidError
from pulid_pack.pulid_core.identity import card
from pulid_pack.pulid_core.identity.file import load_identity, save_identity
from pulid_pack.pulid_core.identity.identity import provenance_text
from pulid_pack.tests.people import make_identity

STRIPPED = "a chat program, a web page or an editor on the way removed the identity"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    return save_identity(make_identity(), tmp_path_factory.mktemp("card") / "ann.png").read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    path = tmp_path / "ann.png"
    path.write_bytes(whole)
    return path


def picture(path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and data of each chunk of a PNG, in order."""
    found, place = [], 8
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        found.append((kind, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    return card.SIGNATURE + b"".join(
        struct.pack(">I4s", len(data), kind) + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in parts
    )


def test_round_trip_is_exact_and_equal_to_the_other_file(path, tmp_path):
    identity = make_identity()
    other = load_identity(save_identity(identity, tmp_path / "ann.safetensors"))
    for loaded in (load_identity(path), other):
        for name in ("tokens", "uncond_tokens", "arcface_embeddings"):
            assert torch.equal(getattr(loaded, name), getattr(identity, name))
    assert torch.equal(load_identity(path).crops, other.crops)


def test_the_chunk_is_ancillary_private_and_not_to_be_copied(path):
    """By the case of its letters, after the header, and a whole .safetensors file."""
    found = chunks(path.read_bytes())
    (content,) = [data for kind, data in found if kind == card.CHUNK]
    assert [kind for kind, _ in found][:2] == [b"IHDR", card.CHUNK]
    assert [letter.islower() for letter in card.CHUNK.decode()] == [True, True, False, False]
    copy = path.with_suffix(".safetensors")
    copy.write_bytes(content)
    assert torch.equal(load_identity(copy).tokens, load_identity(path).tokens)


def test_it_shows_the_face_and_says_what_it_is(tmp_path):
    """In colour where the crop is; without a picture where none is wanted; small enough to send."""
    red = make_identity()
    red = replace(red, crops=torch.zeros_like(red.crops))
    red.crops[:, :, :336, 0] = 1
    shown = save_identity(red, tmp_path / "red.png")
    hidden = save_identity(red, tmp_path / "hidden.png", with_thumbnails=False)
    pictures = [np.asarray(picture(path)) for path in (shown, hidden)]
    middle = [one[card.BAND_PX + 190, card.WIDTH_PX // 2].tolist() for one in pictures]
    assert middle[0] == [255, 0, 0]
    assert middle[1] != [255, 0, 0]
    for one in pictures:
        assert (one[[2, -2]] == card.BAND_RGB).all()  # a band above and below
    assert len(load_identity(hidden).crops) == 0
    assert shown.stat().st_size < 330_000


def test_consent_and_date_are_kept_and_told(tmp_path):
    """By both files; and they stand on the card."""
    plain = make_identity()
    provenance = replace(plain.provenance, consent="Ann, for our album", date="2026-01-31")
    stated = replace(plain, provenance=provenance)
    for name in ("ann.png", "ann.safetensors"):
        loaded = load_identity(save_identity(stated, tmp_path / name))
        assert (loaded.provenance.consent, loaded.provenance.date) == (
            "Ann, for our album",
            "2026-01-31",
        )
        assert "Consent: Ann, for our album (2026-01-31)" in provenance_text(loaded)
    nothing = load_identity(save_identity(plain, tmp_path / "plain.png"))
    assert nothing.provenance.consent == ""
    assert "Consent: not stated" in provenance_text(nothing)
    assert picture(tmp_path / "ann.png").tobytes() != picture(tmp_path / "plain.png").tobytes()


def test_any_words_of_consent_can_be_read_again(tmp_path):
    """On one line, without what no reader takes: it would refuse the whole file."""
    said = replace(make_identity().provenance, consent=" Ann\n\U0001f468\u200d\U0001f469 ok\x1b ")
    for name in ("ann.png", "ann.safetensors"):
        loaded = load_identity(save_identity(make_identity(provenance=said), tmp_path / name))
        assert loaded.provenance.consent == "Ann \U0001f468\U0001f469 ok"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_that_was_written_anew_is_refused_by_name(path, kind):
    """As chat programs, web pages and editors do, whatever they call the file."""
    picture(path).save(path, kind)
    with pytest.raises(CheckpointError, match=STRIPPED) as refused:
        load_identity(path)
    told = "this picture carries none" if kind == "PNG" else f"this file is a {kind[:1]}"
    assert told in str(refused.value)
    assert not card.is_card(path)


def test_a_card_is_found_wherever_its_chunk_stands(path):
    """Optimisers reorder; the list of cards looks before the picture only."""
    parts = chunks(path.read_bytes())
    own = [part for part in parts if part[0] == card.CHUNK]
    others = [part for part in parts if part[0] != card.CHUNK]
    path.write_bytes(png(*others[:-1], *own, others[-1]))
    assert torch.equal(load_identity(path).tokens, make_identity().tokens)
    assert not card.is_card(path)
    path.write_bytes(png(others[0], (b"tEXt", b"Comment\0a"), *own, *others[1:]))
    assert card.is_card(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda whole: whole[:5000], "damaged"),
        (lambda whole: whole[:40], "damaged"),
        (lambda whole: whole[:20], "damaged"),
        (lambda whole: whole[:9000] + b"?" + whole[9001:], "damaged"),
        (lambda _: b"", "this file is no PNG"),
        (lambda _: b"PK\3\4", "this file is no PNG"),
        (lambda _: png((b"IHDR", bytes(13)), (card.CHUNK, b"{}"), (b"IEND", b"")), "damaged"),
        (lambda _: card.SIGNATURE + struct.pack(">I4s", 2**32 - 1, card.CHUNK), "damaged"),
        (lambda _: png(*[(b"IDAT", b"")] * 5000), STRIPPED),
        (lambda _: card.SIGNATURE + struct.pack(">I4s", 2**32 - 1, b"IDAT"), "damaged"),
    ],
    ids=str,
)  # fmt: skip
def test_a_strangers_file_is_refused(path, change, told):
    """In one sentence, and without decoding a picture or believing a length."""
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CheckpointError, match=told) as refused:
        load_identity(path)
    assert len(str(refused.value).removeprefix(str(path))) < 400


def test_a_file_too_large_is_not_read(path):
    with path.open("r+b") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(CheckpointError, match="it has 268,435,457 bytes"):
        load_identity(path)


def test_what_a_chunk_holds_is_checked_as_a_file_is(path):
    """A model in a card is no identity."""
    whole = io.BytesIO()
    whole.write(png((b"IHDR", bytes(13)), (card.CHUNK, (2).to_bytes(8, "little") + b"{}"), (b"IEND", b"")))  # fmt: skip
    path.write_bytes(whole.getvalue())
    with pytest.raises(CheckpointError, match="its header does not say so"):
        load_identity(path)


def test_saving_is_whole_and_never_over_another_unasked(path):
    before = path.read_bytes()
    with pytest.raises(IdentityExistsError):
        save_identity(make_identity(seed=2), path)
    assert path.read_bytes() == before
    with pytest.raises(PulidError, match="Let it end in one of these"):
        save_identity(make_identity(), path.with_suffix(".jpg"))


def test_a_file_without_reading_rights_is_no_card(tmp_path):
    assert not card.is_card(tmp_path / "gone.png")
    assert not card.is_card(tmp_path)
