"""Finding a node, reading its tooltips, opening its help page; the pictures for those pages."""

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
# What stands before and behind a node in its picture, by type of the link or name of the output.
BEFORE = {
    "MODEL": ("UNETLoader", 0),
    "IMAGE": ("LoadImage", 0),
    "IMAGE,PULID_IDENTITY": ("LoadImage", 0),
    "PULID": ("PulidLoader", 0),
    "PULID_IDENTITY": ("PulidLoadIdentity", 0),
}
BEHIND = {
    "MODEL": ("KSampler", "model"),
    "IMAGE": ("SaveImage", "images"),
    "MASK": ("PulidApplyFlux", "attn_mask"),
    "weight": ("PulidApplyFlux", "weight"),
    "similarity": ("PulidContactSheet", "scores"),
    "STRING": ("PreviewAny", "source"),
    "PULID": ("PulidApplyFlux", "pulid"),
    "PULID_IDENTITY": ("PulidApplyFlux", "reference"),
    "PULID_FLUX_OPTIONS": ("PulidApplyFlux", "options"),
}


def test_search_finds_our_nodes(frontend):
    """By the words that users have for what they want."""
    frontend.new_workflow()
    for term, expected in FOUND_BY.items():
        offered = frontend.search(term)
        assert expected <= set(offered), (term, offered)


def test_tooltips(frontend, comfyui):
    """Each title tells the node's description, each input and output its meaning."""
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
            for name, place in places.items():
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
    def test_picture(node, frontend, comfyui):
        """A small graph of the node and its neighbours."""
        info = comfyui.object_info(node)[node]
        frontend.new_workflow()
        build_small_graph(frontend, node, info)
        frontend.show_graph(1000, margin=40)
        path = PAGES / f"{node}.jpg"
        picture_files.save(frontend.page.screenshot(), path, picture_files.looks(info), 900)


def build_small_graph(frontend, node: str, info: dict) -> None:
    """The node, what its inputs come from, and what its first output goes to."""
    number = frontend.add_node(node, 500, 0)
    y = 0
    for name, (kind, *_) in inputs_of(info).items():
        if kind in BEFORE:
            before, slot = BEFORE[kind]
            neighbour = frontend.add_node(before, 0, y)
            if before == "LoadImage":
                frontend.choose(neighbour, "image", "portrait.png")
                frontend.wait_for_pictures(neighbour)  # which make it higher
            frontend.connect(neighbour, slot, number, name)
            y += frontend.height(neighbour) + 60
    if info["output"]:
        behind, name = BEHIND.get(info["output_name"][0]) or BEHIND[info["output"][0]]
        frontend.connect(number, 0, frontend.add_node(behind, 1000, 0), name)
