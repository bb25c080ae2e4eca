"""Finding a node, reading its tooltips, opening its help page; the pictures for those pages."""

import itertools

import pytest
from pulid_pack.devtools import pictures as picture_files
from pulid_pack.devtools.comfyui import ROOT, inputs_of
from pulid_pack.pulid_core.identity.file import save_identity
from pulid_pack.tests.browser.frontend import FRONTENDS_OWN
from pulid_pack.tests.people import make_identity

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
            assert places.keys() - FRONTENDS_OWN == told.keys(), node
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


EARLIER = {
    "last_node_id": 3,
    "last_link_id": 2,
    "nodes": [
        {
            "id": number,
            "type": "PulidLoadIdentity",
            "pos": [300 * number, 100],
            "size": [280, 200],
            "inputs": [
                {
                    "name": "identity_file",
                    "type": "COMBO",
                    "widget": {"name": "identity_file"},
                    "link": link,
                }
            ],
            "outputs": [
                {"name": "identity", "type": "PULID_IDENTITY", "links": []},
                {"name": "report", "type": "STRING", "links": []},
            ],
            "properties": {},
            "widgets_values": ["earlier.safetensors"],
        }
        for number, link in ((1, None), (2, 1))
    ]
    + [
        {
            "id": 3,
            "type": "PrimitiveString",
            "pos": [0, 400],
            "size": [280, 100],
            "inputs": [],
            "outputs": [{"name": "STRING", "type": "STRING", "links": [1]}],
            "properties": {},
            "widgets_values": ["earlier.safetensors"],
        }
    ],
    "links": [[1, 3, 0, 2, 0, "STRING"]],
    "groups": [],
    "version": 0.4,
}
"""Two identities as graphs of the first version name them: chosen, and by a link."""


def test_a_graph_that_names_an_identity_file_still_loads_it(frontend, comfyui):
    """The file stands in the card's place; a link goes where it went."""
    path = comfyui.base_dir / "output" / "pulid_identities" / "earlier.safetensors"
    save_identity(make_identity(), path, overwrite=True)
    frontend.page.evaluate("(graph) => app.loadGraphData(graph)", EARLIER)
    for number in ("1", "2"):
        frontend.connect(
            number, 1, frontend.add_node("PreviewAny", 900, 300 * int(number)), "source"
        )
    prompt = frontend.prompt()
    assert prompt["1"]["inputs"]["image"] == "earlier.safetensors"
    assert prompt["2"]["inputs"]["identity_file"] == ["3", 0]
    run = frontend.wait_for_end(frontend.press_run())
    assert run["status"]["status_str"] == "success", run["status"]["messages"][-1]


def test_why_a_worker_gave_no_picture_stays_until_it_is_closed(frontend):
    """As nodes/workers.py sends it under ComfyUI-Distributed."""
    told = {"worker": "cellar", "text": "PulidLoader: The file is damaged."}
    frontend.page.evaluate(
        "(detail) => app.api.dispatchEvent(new CustomEvent('pulid.worker_failed', { detail }))",
        told,
    )
    message = frontend.page.get_by_text(told["text"], exact=True)
    message.wait_for()
    frontend.page.get_by_test_id("toast").get_by_role("button").click()
    message.wait_for(state="detached")
