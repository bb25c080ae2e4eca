"""Branches of a prompt: what goes when an input goes, and what other nodes still need."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulid_pack.pulid_core.prompt_branches import runs_on_workers, without_input

PROMPT = {
    "shared": {"class_type": "Text", "inputs": {"value": "a portrait"}},
    "load": {"class_type": "Load", "inputs": {"name": "not there"}},
    "local": {"class_type": "Paint", "inputs": {"model": ["load", 0], "text": ["shared", 0]}},
    "hosted": {"class_type": "Order", "inputs": {"text": ["shared", 0]}},
    "switch": {"class_type": "Switch", "inputs": {"a": ["local", 0], "b": ["hosted", 0]}},
    "save": {"class_type": "Save", "inputs": {"images": ["switch", 0]}},
}


def test_a_branch_goes_with_all_that_fed_it_alone():
    before = copy.deepcopy(PROMPT)
    cut = without_input(PROMPT, "switch", "a")
    assert set(cut) == {"shared", "hosted", "switch", "save"}
    assert cut["switch"]["inputs"] == {"b": ["hosted", 0]}
    assert before == PROMPT


def test_what_another_node_shows_stays():
    shown = PROMPT | {"preview": {"class_type": "Show", "inputs": {"images": ["local", 0]}}}
    cut = without_input(shown, "switch", "a")
    assert {"load", "local", "preview"} <= set(cut)


@pytest.mark.parametrize(("key", "name"), [("switch", "c"), ("nobody", "a"), ("load", "model")])
def test_nothing_goes_where_there_is_no_such_input(key, name):
    assert without_input(PROMPT, key, name) == PROMPT


KEYS = [str(number) for number in range(6)]
LINKS = st.one_of(st.integers(), st.tuples(st.sampled_from([*KEYS, "9"]), st.just(0)).map(list))


@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.dictionaries(st.sampled_from("ab"), LINKS).map(lambda inputs: {"inputs": inputs}),
    ),
    st.sampled_from(KEYS),
)
def test_no_kept_node_loses_what_feeds_it(prompt, key):
    """Whatever the graph, loops too: only the one input is gone."""
    cut = without_input(prompt, key, "a")
    for other, node in cut.items():
        sources = {value[0] for value in node["inputs"].values() if isinstance(value, list)}
        assert sources & set(prompt) <= set(cut)
        expected = dict(prompt[other]["inputs"])
        if other == key:
            expected.pop("a", None)
        assert node["inputs"] == expected


def collected(**inputs) -> dict:
    collector = {"class_type": "DistributedCollector", "inputs": {"images": ["local", 0], **inputs}}
    after = {"class_type": "Order", "inputs": {"image": ["collect", 0]}}
    return PROMPT | {"collect": collector, "after": after}


@pytest.mark.parametrize(
    "inputs", [{"is_worker": True}, {"is_worker": False, "enabled_worker_ids": '["w1", "w2"]'}]
)
def test_what_lies_before_a_collector_runs_on_every_machine(inputs):
    prompt = collected(**inputs)
    assert {key for key in prompt if runs_on_workers(prompt, key)} == {
        *("shared", "load", "local", "collect")
    }


@pytest.mark.parametrize("inputs", [{}, {"is_worker": False, "enabled_worker_ids": "[]"}])
def test_without_workers_all_run_once(inputs):
    prompt = collected(**inputs)
    assert not any(runs_on_workers(prompt, key) for key in prompt)
