"""The Chinese texts beside the English ones, both as a real ComfyUI serves them."""

import json
import re
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from pulid_pack.devtools.comfyui import PACK_NAME, inputs_of

TRANSLATED = Path(__file__).with_name("translated_texts.json")
"""A digest of the English texts of each node, as they were when they were translated."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)*")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SYNTAX = re.compile(r"[@{}|<>]")  # vue-i18n reads names and descriptions as messages


class Pair(NamedTuple):
    """One text in both languages."""

    node: str
    key: str
    english: str
    chinese: str


@pytest.fixture(scope="module")
def nodes(server):
    """What the server says of each of our nodes."""
    info = server.object_info()
    return {name: node for name, node in info.items() if node["python_module"].endswith(PACK_NAME)}


@pytest.fixture(scope="module")
def served(server):
    """What the server gives to a Chinese frontend."""
    answer = requests.get(f"{server.url}/i18n", timeout=60)
    answer.raise_for_status()
    return answer.json()["zh"]


@pytest.fixture(scope="module")
def english(nodes):
    """The English texts of each node, under the keys of nodeDefs.json."""
    return {name: english_texts(node) for name, node in nodes.items()}


@pytest.fixture(scope="module")
def chinese(served):
    """The Chinese texts of each node, under the same keys."""
    return {name: flat(texts) for name, texts in served["nodeDefs"].items()}


@pytest.fixture(scope="module")
def pairs(english, chinese):
    """All texts that exist in both languages."""
    return [
        Pair(node, key, text, chinese[node][key])
        for node, texts in english.items()
        for key, text in texts.items()
        if key in chinese.get(node, {})
    ]


def english_texts(node: dict) -> dict[str, str]:
    texts = {key: node[key] for key in ("display_name", "description")}
    for name, (_, settings) in inputs_of(node).items():
        texts[f"inputs.{name}.name"] = settings.get("display_name", name)
        texts[f"inputs.{name}.tooltip"] = settings["tooltip"]
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    for i, (name, tooltip) in enumerate(outputs):
        texts[f"outputs.{i}.name"] = name
        texts[f"outputs.{i}.tooltip"] = tooltip
    return texts


def flat(texts: dict, prefix: str = "") -> dict[str, str]:
    """{"a": {"b": text}} -> {"a.b": text}."""
    flattened = {}
    for key, text in texts.items():
        nested = isinstance(text, dict)
        flattened |= flat(text, f"{prefix}{key}.") if nested else {prefix + key: text}
    return flattened


def names_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def test_every_text_is_there_and_none_is_left_over(english, chinese):
    keys = {(node, key) for node, texts in english.items() for key in texts}
    translated = {(node, key) for node, texts in chinese.items() for key in texts}
    assert sorted(keys - translated) == []
    assert sorted(translated - keys) == []


def test_every_text_is_chinese(pairs):
    """Also free of what the frontend would take for a placeholder, a plural or a link."""
    assert [pair for pair in pairs if not CHINESE.search(pair.chinese)] == []
    assert [pair for pair in pairs if SYNTAX.search(pair.chinese)] == []


def test_every_category_is_there(nodes, served):
    parts = {part for node in nodes.values() for part in node["category"].split("/")}
    assert sorted(served["nodeCategories"]) == sorted(parts)


def test_numbers_are_the_same(pairs):
    differing = [
        pair
        for pair in pairs
        if set(NUMBER.findall(pair.english)) != set(NUMBER.findall(pair.chinese))
    ]
    assert differing == []


def test_choices_keep_their_names(nodes, pairs):
    """The frontend shows the values of a combo as they are; so does the text that explains them."""
    lost = [
        (pair, choice)
        for pair in pairs
        if pair.key.startswith("inputs.")
        for choice in inputs_of(nodes[pair.node])[pair.key.split(".")[1]][1].get("options", ())
        if names_word(choice, pair.english) and choice not in pair.chinese
    ]
    assert lost == []


def test_what_a_text_refers_to_has_the_name_on_the_screen(pairs):
    """start_at is shown as 开始位置, so a text that speaks of start_at says 「开始位置」."""
    shown: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.key == "display_name":
            shown.setdefault(pair.node, set()).add(pair.chinese)
            shown.setdefault(pair.english, set()).add(pair.chinese)
        elif pair.key.endswith(".name") and "_" in pair.english:
            shown.setdefault(pair.english, set()).add(pair.chinese)
    lost = [
        (pair, word)
        for pair in pairs
        if pair.key.endswith(("description", "tooltip"))
        for word, names in shown.items()
        if names_word(word, pair.english)
        and not any(f"「{name}」" in pair.chinese for name in names)
    ]
    assert lost == []


def test_no_english_text_changed_since_it_was_translated(english):
    digests = {
        node: blake2b(json.dumps(texts).encode(), digest_size=8).hexdigest()
        for node, texts in english.items()
    }
    translated = json.loads(TRANSLATED.read_text())
    changed = {node: value for node, value in digests.items() if translated.get(node) != value}
    assert not changed, (
        f"The English texts of {', '.join(changed)} are not those that were translated. Bring "
        f"locales/zh/nodeDefs.json up to date, then put these lines into {TRANSLATED.name}:\n"
        f"{json.dumps(changed, indent=2)}"
    )
    assert sorted(translated) == sorted(digests)
