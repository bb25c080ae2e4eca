"""Finding a node, reading its tooltips, opening its help page; the pictures for those pages."""

import itertools

import pytest
from pulid_pack.devtools import pictures as picture_files
from pulid_pack.devtools.comfyui import ROOT, inputs_of

PAGES = ROOT / "web" / "docs"
NODES = sorted(page.stem for page in PAGES.glob("*.md"))
FOUND_BY = {
    "pulid": {"Load PuLID (FLUX)", "Apply PuLID (FLUX)", "WaveSpeed FLUX PuLID (remote)"},
    "face": {"Apply PuLID (FLUX)", "Encode PuLID Identity", "PuLID Face Similarity"},
    "identity": {"Encode PuLID Identity", "Save PuLID Identity", "Load PuLID Identity"},
    "likeness": {"Apply PuLID (FLUX)", "PuLID Face Similarity"},
    "wavespeed": {"WaveSpeed FLUX PuLID (remote)", "WaveSpeed Account"},
}
ASKED_FOR = ("portrait", "ipadapter", "instantid", "reactor", "face swap", "consistent character")


def test_search_finds_our_nodes(frontend):
    """By the words that users have for what they want."""
    frontend.new_workflow()
    ours = {"Apply PuLID (FLUX)", "Encode PuLID Identity"}
    for term, expected in {**FOUND_BY, **dict.fromkeys(ASKED_FOR, ours)}.items():
        offered = frontend.search(term)
        assert expected <= set(offered), (term, offered)


def test_tooltips(frontend, comfyui):
    """Each title tells the node's description, the first input and output their meaning."""
    for node in NODES:
        info = comfyui.object_info(node)[node]
        frontend.new_workflow()
        number = frontend.add_node(node, 300, 200)
        assert frontend.tooltip(frontend.title_place(number)) == info["description"]
        sides = {
            "inputs": {name: spec[1]["tooltip"] for name, spec in inputs_of(info).items()},
            "outputs": dict(zip(info["output_name"], info["output_tooltips"], strict=True)),
        }
        for side, told in sides.items():
            places = frontend.socket_places(number, side)
            assert places.keys() == told.keys(), node
            for name, place in itertools.islice(places.items(), 1):
                assert frontend.tooltip(place) == told[name], (node, name)


def test_a_new_seed_is_the_users_wish(frontend):
    """What is paid for changes only when someone changes it, so that a run can be repeated."""
    frontend.new_workflow()
    number = frontend.add_node("WavespeedFluxPulidRemote")
    assert frontend.widget(number, "control after generate") == "fixed"


def test_help_pages(frontend):
    """Each node opens its own page, with all its pictures."""
    for node in NODES:
        frontend.new_workflow()
        page = frontend.help(frontend.add_node(node, 300, 200))
        text = (PAGES / f"{node}.md").read_text(encoding="utf-8")
        title = page.get_by_role("heading", name=text.splitlines()[0].lstrip("# "), exact=True)
        title.wait_for()
        shown = page.locator("img")
        assert shown.count() == text.count("![")
        frontend.wait_until_loaded(shown)


if picture_files.WANTED:

    @pytest.mark.parametrize("node", NODES)
    def test_picture(node, saved_person, frontend, comfyui):
        """The node itself, as wide as the help panel shows it."""
        info = comfyui.object_info(node)[node]
        frontend.new_workflow()
        frontend.add_node(node, 300, 200)
        frontend.page.wait_for_timeout(500)
        (shown,) = (one["box"] for one in frontend.look())
        path = PAGES / f"{node}.jpg"
        picture_files.save(frontend.picture_of([shown]), path, picture_files.looks(info), 500)
