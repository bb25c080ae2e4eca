"""Workflows become prompts, whatever the frontend did with them."""

import pytest
from pulid_pack.devtools.workflow_conversion import WorkflowError, to_prompt

OBJECT_INFO = {
    "Load": {
        "input": {
            "required": {"image": [["a.png", "b.png"], {"image_upload": True}]},
            "optional": {"scale": ["FLOAT", {"default": 1.0}]},
        }
    },
    "Change": {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "method": ["COMBO", {"options": ["x", "y"]}],
                "text": ["STRING", {"forceInput": True}],
            },
            "optional": {"mask": ["MASK"], "strength": ["FLOAT", {}]},
        }
    },
    "Save": {"input": {"required": {"image": ["IMAGE"], "prefix": ["STRING", {}]}}},
}


def node(number, kind, inputs=(), outputs=("IMAGE",), values=(), mode=0):
    sockets = [{"name": name, "type": type_, "link": link} for name, type_, link in inputs]
    slots = [{"name": type_, "type": type_} for type_ in outputs]
    return {
        "id": number,
        "type": kind,
        "mode": mode,
        "widgets_values": values,
        "inputs": sockets,
        "outputs": slots,
    }


def chain(*middle, mode=0):
    """Load -> Change -> Save, with the given nodes as well."""
    return {
        "nodes": [
            node(1, "Load", values=["b.png", "image", 2.0]),
            node(
                2,
                "Change",
                inputs=[("image", "IMAGE", 10), ("mask", "MASK", None), ("strength", "FLOAT", 12)],
                values=[7, "randomize", "y", 0.5],
                mode=mode,
            ),
            node(3, "Save", inputs=[("image", "IMAGE", 11)], outputs=(), values=["out"]),
            *middle,
        ],
        "links": [[10, 1, 0, 2, 0, "IMAGE"], [11, 2, 0, 3, 0, "IMAGE"]],
    }


def test_widget_values_get_their_names():
    """Companion values are skipped, sockets take none, and open sockets are left out."""
    prompt = to_prompt(chain(), OBJECT_INFO)
    assert prompt["1"]["inputs"] == {"image": "b.png", "scale": 2.0}
    assert prompt["2"]["inputs"] == {"seed": 7, "method": "y", "strength": 0.5, "image": ["1", 0]}
    assert prompt["3"]["inputs"] == {"prefix": "out", "image": ["2", 0]}
    assert prompt["3"]["class_type"] == "Save"


def test_missing_trailing_values_are_left_to_the_server():
    workflow = chain()
    workflow["nodes"][0]["widgets_values"] = ["b.png"]
    assert to_prompt(workflow, OBJECT_INFO)["1"]["inputs"] == {"image": "b.png"}


def test_values_by_name_are_taken_as_they_are():
    workflow = chain()
    workflow["nodes"][0]["widgets_values"] = {"image": "a.png", "preview": {"x": 1}}
    assert to_prompt(workflow, OBJECT_INFO)["1"]["inputs"] == {"image": "a.png"}


def test_notes_are_not_run():
    prompt = to_prompt(chain(node(8, "MarkdownNote"), node(9, "Note")), OBJECT_INFO)
    assert set(prompt) == {"1", "2", "3"}


def test_reroutes_vanish():
    workflow = chain(node(5, "Reroute", inputs=[("", "*", 20)]))
    workflow["links"] = [
        [10, 1, 0, 2, 0, "IMAGE"],
        [20, 2, 0, 5, 0, "IMAGE"],
        [11, 5, 0, 3, 0, "IMAGE"],
    ]
    assert to_prompt(workflow, OBJECT_INFO)["3"]["inputs"]["image"] == ["2", 0]


def test_primitive_nodes_become_values():
    """A widget turned into a socket takes the primitive's value, not its own saved one."""
    workflow = chain(node(6, "PrimitiveNode", outputs=("FLOAT",), values=[0.9, "fixed"]))
    workflow["links"].append([12, 6, 0, 2, 2, "FLOAT"])
    assert to_prompt(workflow, OBJECT_INFO)["2"]["inputs"]["strength"] == 0.9


def test_a_bypassed_node_hands_its_input_on():
    prompt = to_prompt(chain(mode=4), OBJECT_INFO)
    assert "2" not in prompt
    assert prompt["3"]["inputs"]["image"] == ["1", 0]


def test_a_muted_node_and_its_links_vanish():
    prompt = to_prompt(chain(mode=2), OBJECT_INFO)
    assert "2" not in prompt
    assert "image" not in prompt["3"]["inputs"]


def test_an_unknown_node_is_named():
    with pytest.raises(WorkflowError, match="Node 4 is a Mystery"):
        to_prompt(chain(node(4, "Mystery")), OBJECT_INFO)
