"""The contact sheet: nothing stretched, nothing covered, every caption and score in its cell."""

import time

import numpy as np
import pytest
from PIL import ImageFont
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.sheet.contact_sheet import (
    BEST_RGB,
    PAPER_RGB,
    TEXT_RGB,
    WIDE_FONTS,
    caption_lines,
    contact_sheet,
)
from pulid_pack.pulid_core.sheet.tuning import tuning_grid

RED, GREEN, BLUE = (200, 20, 20), (20, 120, 20), (20, 20, 200)


def plain(color: tuple[int, int, int], height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def box_of(sheet: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour on the sheet, which fills that box."""
    rows, columns = np.nonzero((sheet == color).all(axis=2))
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert len(rows) == (box[2] - box[0]) * (box[3] - box[1]), "something covers it"
    return tuple(map(int, box))


def size_of(box: tuple[int, int, int, int]) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def has_color(sheet: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((sheet == color).all(axis=2).any())


def test_pictures_of_any_size_keep_their_proportions():
    """Wide, tall, tiny: the longest side becomes cell_px, and none is covered."""
    pictures = [plain(RED, 100, 300), plain(GREEN, 400, 100), plain(BLUE, 20, 20)]
    captions = ["wide", "a caption that is far too long for a narrow cell " * 3, "tiny"]
    sheet = contact_sheet(pictures, captions, (0.1, 0.5, 0.3), columns=2, cell_px=120)
    red, green, blue = (box_of(sheet, color) for color in (RED, GREEN, BLUE))
    assert [size_of(box) for box in (red, green, blue)] == [(120, 40), (30, 120), (120, 120)]
    assert red[2] <= green[0]
    assert blue[1] >= max(red[3], green[3])
    assert red[3] == green[3]  # neighbours stand on one line


@pytest.mark.parametrize(
    ("count", "columns", "across"), [(1, 0, 1), (4, 0, 2), (7, 0, 3), (6, 3, 3), (2, 9, 2)]
)
def test_columns(count, columns, across):
    """0 is nearly square, and there are never more columns than pictures."""
    cell = contact_sheet([plain(RED)], cell_px=64)
    gap = (cell.shape[1] - 64) // 2
    sheet = contact_sheet([plain(RED)] * count, columns=columns, cell_px=64)
    assert sheet.shape[1] == across * (64 + gap) + gap
    down = -(-count // across)
    assert sheet.shape[0] == down * (cell.shape[0] - gap) + gap


def test_long_captions_stay_below_their_picture_and_inside_their_cell():
    """Wrapped to three lines or cut: no text right of the cell, none on the next row."""
    endless = "Donaudampfschifffahrtsgesellschaft" * 4
    many = "many words " * 40
    pictures = [plain(RED), plain(GREEN), plain(BLUE), plain((9, 9, 9))]
    sheet = contact_sheet(pictures, [endless, many, "", ""], columns=2, cell_px=96)
    red, green, blue = (box_of(sheet, color) for color in (RED, GREEN, BLUE))
    paper = (sheet == PAPER_RGB).all(axis=2)
    assert paper[:, red[2] : green[0]].all()
    assert paper[:, green[2] :].all()
    written = ~paper[red[3] : blue[1]]
    assert written[:, red[0] : red[2]].any()
    assert written[:, green[0] : green[2]].any()
    assert paper[blue[1] - 4 : blue[1]].all()


def test_every_line_of_a_caption_has_room_and_there_are_three_at_most():
    captions = [" ".join(["MMMMM"] * words) for words in range(6)]
    heights = [contact_sheet([plain(RED)], [text], cell_px=64).shape[0] for text in captions]
    one_line = heights[1] - heights[0]
    assert one_line > 12  # pixels of the font
    assert heights == [heights[0] + one_line * lines for lines in (0, 1, 2, 3, 3, 3)]


def test_a_caption_without_spaces_takes_all_lines():
    """Chinese, or a file name: broken between characters, and cut after the third line."""
    heights = [
        contact_sheet([plain(RED)], [text], cell_px=96).shape[0]
        for text in ("", "x", "x" * 25, "x" * 1000, "two " + "x" * 1000)
    ]
    one_line = heights[1] - heights[0]
    assert heights == [heights[0] + one_line * lines for lines in (0, 1, 2, 3, 3)]


@pytest.mark.parametrize("caption", ["x" * 100_000, "word " * 20_000, "私" * 100_000], ids=len)
def test_an_endless_caption_takes_no_time(caption):
    begin = time.monotonic()
    contact_sheet([plain(RED)], [caption])
    assert time.monotonic() - begin < 5


def test_scores_stay_inside_a_narrow_cell():
    """Wrapped, so that the number can still be read."""
    narrow = [plain(RED, 64, 32), plain(GREEN, 64, 32)]
    sheet = contact_sheet(narrow, scores=[0.1, 0.9], columns=2, cell_px=64)
    red, green = (box_of(sheet, color) for color in (RED, GREEN))
    paper = (sheet == PAPER_RGB).all(axis=2)
    assert paper[:, red[2] : green[0]].all()
    assert paper[:, green[2] :].all()
    wide = contact_sheet([plain(RED)] * 2, scores=[0.1, 0.9], columns=2, cell_px=64)
    in_one_line = contact_sheet([plain(RED)] * 2, ["x"] * 2, columns=2, cell_px=64)
    assert wide.shape[0] > in_one_line.shape[0]


def cells(sheet: np.ndarray, count: int) -> list[np.ndarray]:
    return np.array_split(sheet, count, axis=1)


def test_only_the_best_score_is_marked():
    sheet = contact_sheet([plain(RED)] * 3, scores=[0.1, 0.71, -0.3], columns=3, cell_px=160)
    assert [has_color(cell, BEST_RGB) for cell in cells(sheet, 3)] == [False, True, False]
    assert [has_color(cell, TEXT_RGB) for cell in cells(sheet, 3)] == [True, False, True]


@pytest.mark.parametrize("scores", [[], [0.4], [0.0, 0.0]])
def test_without_a_difference_nothing_is_best(scores):
    pictures = [plain(RED)] * max(1, len(scores))
    assert not has_color(contact_sheet(pictures, scores=scores), BEST_RGB)


def test_captions_and_scores_stand_below_equally_many_pictures():
    """Two captions and two scores for four pictures: the second pair is the better one."""
    pictures = [plain(RED)] * 4
    grouped = contact_sheet(pictures, ["one", "two"], [0.1, 0.9], columns=4)
    single = contact_sheet(pictures, ["one", "one", "two", "two"], [0.1, 0.1, 0.9, 0.9], columns=4)
    assert np.array_equal(grouped, single)
    assert [has_color(cell, BEST_RGB) for cell in cells(grouped, 4)] == [False, False, True, True]


def test_a_row_of_a_grid_holds_all_pictures_of_its_runs():
    """Two weights and two starts, three pictures each; a plain number counts pictures."""
    grid, columns = tuning_grid("0.7, 1", "0, 0.2")
    pictures, captions = [plain(RED)] * 12, [combination.caption for combination in grid]
    for given, across in ((columns, 6), (2, 2)):
        sheet = contact_sheet(pictures, captions, columns=given, cell_px=64)
        assert sheet.shape == contact_sheet(pictures, captions, columns=across, cell_px=64).shape
    alone = contact_sheet(pictures[:4], captions, columns=columns, cell_px=64)
    assert alone.shape == contact_sheet(pictures[:4], captions, columns=2, cell_px=64).shape


@pytest.mark.parametrize("name", ["captions", "scores"])
@pytest.mark.parametrize("values", [2, 4])
def test_lists_that_do_not_fit_are_refused_with_both_numbers(name, values):
    lists = {"captions": ["a"] * values, "scores": [0.5] * values}
    with pytest.raises(PulidError, match=f"{values} {name} and 3 pictures"):
        contact_sheet([plain(RED)] * 3, **{name: lists[name]})


def test_no_pictures_and_too_large_a_sheet_are_refused():
    with pytest.raises(PulidError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(PulidError, match=r"at most 16384 px.*smaller cell_px"):
        contact_sheet([plain(RED)] * 20, columns=20, cell_px=1024)


def test_one_text_is_a_caption_per_line_and_a_list_stays_a_list():
    assert caption_lines(["an elf\n\n  a knight \r\n"]) == ["an elf", "a knight"]
    assert caption_lines(["an\nelf", "", "a  knight"]) == ["an elf", "", "a knight"]
    assert caption_lines([]) == []


@pytest.mark.parametrize(("caption", "tried"), [("an elf", ()), ("ein Ägypter", WIDE_FONTS)])
def test_other_scripts_ask_for_a_font_of_the_system(monkeypatch, caption, tried):
    """Pillow's own font draws the rest, and everything where the system has none of them."""
    asked, truetype = [], ImageFont.truetype

    def lacking(font, *args, **kwargs):
        if isinstance(font, str):
            asked.append(font)
            raise OSError
        return truetype(font, *args, **kwargs)

    monkeypatch.setattr(ImageFont, "truetype", lacking)
    sheet = contact_sheet([plain(RED)], [caption], cell_px=128)
    assert has_color(sheet, TEXT_RGB)
    assert tuple(asked) == tried
