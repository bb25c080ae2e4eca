"""The nodes' help pages: whole, and what is generated in them."""

import json
import re

import pytest
from pulid_pack.devtools.comfyui import PACK_NAME, ROOT
from pulid_pack.devtools.pages import (
    GENERATED,
    MODELS,
    PAGES,
    TRANSLATIONS,
    TROUBLESHOOTING,
    Trouble,
    allowed,
    errors_list,
    generate,
)

PICTURE = re.compile(r"!\[(.{10,})\]\((\w+)\.jpg\)")


def node(name: str, **inputs) -> dict:
    """A node as /object_info describes it."""
    return {
        "name": name,
        "display_name": f"The {name}",
        "description": "Does it.",
        "python_module": f"custom_nodes.{PACK_NAME}",
        "input": {"required": inputs},
        "output": ["IMAGE", "FLOAT"],
        "output_name": ["image", "weight"],
        "output_tooltips": ["A picture.", "A | B."],
        "output_is_list": [False, True],
    }


@pytest.mark.parametrize("page", sorted((ROOT / PAGES).glob("*.md")), ids=lambda path: path.stem)
def test_a_page_is_whole(page):
    """A picture with words for who cannot see it, all parts, and something in each."""
    text = page.read_text(encoding="utf-8")
    assert PICTURE.search(text)[2] == page.stem
    for kind in ("inputs", "outputs", "errors"):
        assert text.count(f"<!-- {kind} -->\n") == text.count(f"\n<!-- /{kind} -->") == 1
    titles = re.findall(r"^## (.+)\n\n(?=[^#\s])", text, re.MULTILINE)
    assert titles == ["When to use it", "Inputs", "Outputs", "Tips", "Errors"]


def test_the_markers_of_the_models_are_found():
    """A mistyped one would stay as it is."""
    page = (ROOT / MODELS).read_text(encoding="utf-8")
    assert re.findall("^<!.*", page, re.MULTILINE) == ["<!-- models -->", "<!-- /models -->"]
    assert GENERATED.findall(page) == ["models"]


def test_two_scripts_come_with_the_pages():
    """Everything in the folder of WEB_DIRECTORY is public, and every script there runs."""
    files = [path for path in (ROOT / "web").rglob("*") if path.is_file()]
    others = {path.name for path in files if path.suffix not in (".md", ".jpg")}
    assert others == {"node_text.js", "workers.js"}


@pytest.fixture
def pack(tmp_path):
    """A pack of the models and the errors alone."""
    (tmp_path / TROUBLESHOOTING).parent.mkdir()
    (tmp_path / MODELS).write_text("# Files\n<!-- models -->\nearlier\n<!-- /models -->\n")
    (tmp_path / TROUBLESHOOTING).write_text(
        "| message | what to do | nodes |\n| --- | --- | --- |\n"
        "| `It … broke`<br>`Gone` | Mend it. | Known, Other |\n"
    )
    text = {"name": "名", "tooltip": "多少。"}
    known = {"display_name": "已知", "description": "做事。", "inputs": {"weight": text}}
    known["outputs"] = {"0": {"name": "图", "tooltip": "一张图。"}}
    (tmp_path / TRANSLATIONS).parent.mkdir(parents=True)
    (tmp_path / TRANSLATIONS).write_text(json.dumps({"Known": known}), encoding="utf-8")
    return tmp_path


def test_a_new_node_gets_a_page(pack):
    weight = ["FLOAT", {"tooltip": "How much.", "min": -1.0, "max": 2147483647, "default": 0.5}]
    stranger = node("Stranger") | {"python_module": "nodes"}
    files = generate({"Known": node("Known", weight=weight), "Stranger": stranger}, pack)
    assert set(files) == {MODELS, PAGES / "Known.md", PAGES / "Known" / "zh.md"}
    chinese = files[PAGES / "Known" / "zh.md"]
    assert chinese.startswith("# 已知\n\n做事。\n")
    assert "* **名** (数值，-1 至 2147483647)：多少。\n" in chinese
    assert "* **图**：一张图。\n" in chinese
    page = files[PAGES / "Known.md"]
    assert "# The Known\n\nDoes it.\n" in page
    assert "* **weight** (number, -1 to 2147483647, default 0.5): How much.\n" in page
    assert "* **weight** (number, one per run): A | B.\n" in page
    assert "* `It … broke` or `Gone`: Mend it.\n" in page
    assert "| file |" in files[MODELS]
    assert "earlier" not in files[MODELS]


def test_prose_is_kept(pack):
    nodes = {"Known": node("Known")}
    page = pack / PAGES / "Known.md"
    page.parent.mkdir(parents=True)
    page.write_text(generate(nodes, pack)[PAGES / "Known.md"].replace("Does it.", "By hand."))
    changed = nodes["Known"] | {"output_tooltips": ["Another.", ""]}
    text = generate({"Known": changed}, pack)[PAGES / "Known.md"]
    assert "By hand." in text
    assert "* **image** (`IMAGE`): Another.\n" in text


def test_names_of_files_stay_out_of_the_tables():
    """They differ from machine to machine, as the devices do."""
    assert allowed({"options": ["auto", "a.pt", "none"], "default": "auto"}) == (
        "`auto`, `none` and what is found"
    )
    assert allowed({"options": ["ann.safetensors"]}) == "what is found"
    assert allowed({"options": ["each", "first"], "default": "each"}) == "`each`, `first`"


def test_a_node_without_errors_says_so():
    trouble = Trouble(("Gone",), "Mend it.", frozenset({"Known"}))
    assert errors_list(node("Other"), [trouble]) == "None of its own."
