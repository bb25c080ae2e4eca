"""A graph that ComfyUI-Distributed runs on several machines: the remote node pays on none of them."""

import pytest
from pulid_pack.tests.real_comfyui.remote_graph import graph

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize(
    "marks", [{"is_worker": True}, {"is_worker": False, "enabled_worker_ids": '["one", "two"]'}]
)
def test_before_a_collector_nothing_is_ordered(marks, server, wavespeed):
    """On a worker, and on the master, where the user looks."""
    prompt = graph(seed=1601)
    prompt["save"]["inputs"] |= marks  # stands for the collector, as that pack marks it
    paid = wavespeed.paid
    error = server.run(prompt).error
    assert error is not None
    assert error.node_id == "remote"
    assert "so every machine would order and pay for itself" in error.message
    assert wavespeed.paid == paid


def test_beside_a_collector_it_runs_once(server, wavespeed):
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["photo", 0], "is_worker": True}}
    paid = wavespeed.paid
    assert server.run(graph({"collector": shown}, seed=1602)).error is None
    assert wavespeed.paid == paid + 1
