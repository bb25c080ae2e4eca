"""The templates' cards, drawn to be read at 220 px: the photo, an arrow, and what becomes of it.

`python devtools/cards.py` draws them all. No result is shown, since the tests' models paint none.
"""

from dataclasses import dataclass
from pathlib import Path

import registration
from PIL import Image, ImageDraw, ImageFont

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.devtools import example_photos  # noqa: E402
from pulid_pack.devtools.pictures import save  # noqa: E402
from pulid_pack.devtools.portrait_workflow import FOLDER  # noqa: E402

SIDE = 440  # twice as large as it is shown
INK, PAPER, SOFT = "#1f2833", "#f4f1ea", "#c9c2b3"
FACE = (130, 0, 330, 200)  # in the portrait, pixels
MARGIN = 24


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        words: What comes out, a line each; about ten letters fit.
        photos: What goes in, by the names of the example photos.
        color: Of the panel with the words.
    """

    words: tuple[str, ...]
    photos: tuple[str, ...] = ("portrait.png",)
    color: str = "#3f789e"


LOCAL, SAVED, HOSTED = "#3f789e", "#4f7a4f", "#2f8376"
CARDS = {
    "01": Card(("any", "scene")),
    "02": Card(("any scene,", "no GPU"), color=HOSTED),
    "03": Card(("a small", "file"), color=SAVED),
    "04": Card(("saved once,", "any scene"), color=SAVED),
    "05": Card(("two in one", "picture"), ("portrait.png", "second-person.png")),
    "06": Card(("this one", "of three"), ("group.png",)),
    "07": Card(("a", "painting"), color="#8a4f8a"),
    "08": Card(("same face,", "new coat"), color="#b06634"),
    "09": Card(("your pose,", "your style"), ("portrait.png", "pose.png"), "#b06634"),
    "10": Card(("9 weights", "compared"), color="#6b6b6b"),
    "11": Card(("6 scenes,", "no GPU"), color=HOSTED),
    "12": Card(("hosted, then", "your FLUX"), color=HOSTED),
    "13": Card(("only who", "looks alike"), color=SAVED),
    "14": Card(("as little", "as it needs"), color="#6b6b6b"),
    "15": Card(("faces", "repainted"), ("group.png",), "#a1309b"),
    "16": Card(("here or", "hosted"), color=HOSTED),
}
"""By the number that a workflow's name begins with."""


def draw(card: Card) -> Image.Image:
    """The card as a square picture."""
    picture = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(picture)
    _paste_photos(picture, card.photos)
    _draw_arrow(pen, 212)
    top = 252
    panel = (MARGIN, top, SIDE - MARGIN, SIDE - MARGIN)
    pen.rounded_rectangle(panel, 18, card.color)
    font = ImageFont.load_default(min(64, 640 // max(map(len, card.words))))
    centre = (SIDE / 2, (top + SIDE - MARGIN) / 2)
    pen.multiline_text(centre, "\n".join(card.words), "white", font, "mm", 6, "center")
    return picture


def _paste_photos(picture: Image.Image, names: tuple[str, ...]) -> None:
    """Side by side at the top, faces large."""
    width = (SIDE - MARGIN * 2 - 16 * (len(names) - 1)) // len(names)
    for number, name in enumerate(names):
        photo = Image.fromarray(example_photos.PICTURES[name]())
        if name in ("portrait.png", "second-person.png"):
            photo = photo.crop(FACE)
        photo.thumbnail((width, 170), Image.Resampling.LANCZOS)
        if photo.height < 170 and name != "group.png":
            photo = photo.resize((photo.width * 170 // photo.height, 170), Image.Resampling.LANCZOS)
        left = MARGIN + number * (width + 16) + (width - photo.width) // 2
        picture.paste(photo, (left, MARGIN + (170 - photo.height) // 2))


def _draw_arrow(pen: ImageDraw.ImageDraw, top: int) -> None:
    """Downwards, in the middle."""
    middle = SIDE // 2
    pen.rectangle((middle - 7, top - 10, middle + 7, top + 10), INK)
    pen.polygon(((middle - 24, top + 8), (middle + 24, top + 8), (middle, top + 34)), INK)


def source(card: Card) -> bytes:
    """What a card's picture was drawn of."""
    return repr(card).encode()


def draw_all(folder: Path = FOLDER) -> None:
    """Write the card of every workflow beside it."""
    for path in sorted(folder.glob("*.json")):
        card = CARDS[path.name[:2]]
        save(draw(card), path.with_suffix(".jpg"), source(card), SIDE)


if __name__ == "__main__":
    draw_all()
