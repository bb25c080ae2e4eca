"""The forms in which people keep workflows, and files that only look like one."""

import contextlib
import json
import struct
import zlib
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pulid_pack.pulid_core.old_workflows import OldWorkflowError, convert, read_workflow
from pulid_pack.tests.old_workflows.old_graphs import OldGraph, prompt
from pulid_pack.tests.old_workflows.test_old_workflows import in_subgraph


def saved():
    graph = OldGraph()
    graph.apply()
    return graph.saved()


def chunk(kind, body):
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "packed iTXt"])
def test_a_png_with_the_workflow_inside(kind, tmp_path):
    path, info = tmp_path / "picture.png", PngInfo()
    text = json.dumps(saved())
    if kind.endswith("iTXt"):
        info.add_itxt("workflow", text, zip=kind != "iTXt")
    else:
        info.add_text("workflow", text, zip=kind == "zTXt")
    info.add_text("prompt", json.dumps(prompt()))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    assert read_workflow(path) == saved()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_png_with_letters_beyond_ascii(encoding, tmp_path):
    text = '{"nodes": [], "title": "Möwe"}'
    body = b"workflow\0" + text.encode(encoding)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", body))
    assert read_workflow(tmp_path / "a.png") == {"nodes": [], "title": "Möwe"}


def test_a_png_with_only_the_prompt_inside(tmp_path):
    path, info = tmp_path / "picture.png", PngInfo()
    info.add_text("prompt", json.dumps(prompt()))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    assert read_workflow(path) == prompt()


def test_a_webp_with_the_workflow_inside(tmp_path):
    """As ComfyUI's SaveAnimatedWEBP does: texts in two tags of the EXIF part."""
    path = tmp_path / "picture.webp"
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    exif[0x0110] = f"prompt:{json.dumps(prompt())}"
    exif[0x010F] = f"workflow:{json.dumps(saved())}"
    image.save(path, exif=exif)
    assert read_workflow(path) == saved()


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
def test_a_picture_without_one_is_refused(name, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(OldWorkflowError, match="holds no workflow"):
        read_workflow(tmp_path / name)


def test_a_packed_text_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("pulid_pack.pulid_core.old_workflows.files.LARGEST_TEXT_BYTES", 1000)
    body = b"workflow\0\0" + zlib.compress(b" " * 10**6)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"zTXt", body))
    with pytest.raises(OldWorkflowError, match="workflow was expected"):
        read_workflow(tmp_path / "a.png")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_in_any_unicode(encoding, tmp_path):
    """PowerShell's > writes UTF-16."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(saved()), encoding=encoding)
    assert read_workflow(path) == saved()


def test_not_a_number_becomes_null(tmp_path):
    (tmp_path / "a.json").write_text('{"nodes": [], "x": NaN}')
    assert read_workflow(tmp_path / "a.json") == {"nodes": [], "x": None}


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(OldWorkflowError, match="workflow was expected"):
        read_workflow(tmp_path / "a")


WRAPPERS = {
    "request": lambda inner: {"prompt": inner, "client_id": "x"},
    "service": lambda inner: {"input": {"workflow": inner, "images": [{"name": "a.png"}]}},
    "template": lambda inner: {"workflow": inner},
    "list": lambda inner: [{"input": {"prompt": inner}}],
    "text": lambda inner: {"workflow": json.dumps(inner)},
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("form", [saved, prompt])
def test_what_is_wrapped_around_stays(form, wrap):
    wrapped = WRAPPERS[wrap](form())
    conversion = convert(wrapped)
    assert conversion.replaced == 2
    assert conversion.workflow == WRAPPERS[wrap](convert(form()).workflow)
    assert wrapped == WRAPPERS[wrap](form())


def test_a_request_with_both_formats_is_converted_in_both():
    request = {"prompt": prompt(), "extra_data": {"extra_pnginfo": {"workflow": saved()}}}
    assert "ApplyPulidFlux" not in json.dumps(convert(request).workflow)


def test_comments_between_the_nodes_go_and_are_told():
    """ComfyUI itself cannot take them."""
    commented = {"_comment": "my portrait", **prompt(), "_version": {"a": 1}}
    conversion = convert(commented)
    assert conversion.workflow == convert(prompt()).workflow
    assert "The entry _comment was removed" in conversion.remarks[0]
    other = {"_comment": "x", "1": {"class_type": "LoadImage", "inputs": {}}}
    assert convert(other).workflow == other


def test_a_node_of_absurd_size_is_no_obstacle():
    for size in ([1e308, 1e308], [float("inf"), 5], ["a", None], 7, {"0": 1e308, "1": 1}, None):
        workflow = saved()
        for node in workflow["nodes"]:
            node["size"] = size
        assert convert(workflow).replaced == 2
        for node in workflow["nodes"]:
            node["pos"] = size
        assert convert(workflow).replaced == 2


def test_nesting_is_bounded():
    deep = "x"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(OldWorkflowError, match="nested more than"):
        convert({"nodes": deep})


@pytest.mark.parametrize(
    "ring",
    [
        [["Reroute", 2], ["Reroute", 1]],
        [["Reroute", 1]],
    ],
)
def test_rings_end(ring):
    graph = OldGraph()
    for kind, _ in ring:
        graph.add(kind, ["PULIDFLUX"])
    for number, (_, source) in enumerate(ring):
        graph.connect(source, graph.nodes[number], "")
    graph.apply(pulid_flux=1)
    assert convert(graph.saved()).replaced == 1


def test_a_subgraph_within_itself_ends():
    graph = OldGraph()
    graph.apply(pulid_flux=graph.add("a", ["PULIDFLUX"]))
    inner = OldGraph()
    inner.add("a", ["PULIDFLUX"])
    link = {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0}
    borders = [{"name": "PULIDFLUX", "type": "PULIDFLUX", "linkIds": [1]}]
    definition = {
        "id": "a",
        "nodes": inner.nodes,
        "links": [link | {"type": "PULIDFLUX"}],
        "inputs": [],
        "outputs": borders,
    }
    workflow = graph.saved() | {"definitions": {"subgraphs": [definition]}}
    assert convert(workflow).replaced == 1


def test_two_nodes_of_one_id_are_refused():
    workflow = saved()
    workflow["nodes"].append(deepcopy(workflow["nodes"][0]))
    with pytest.raises(OldWorkflowError, match="Two nodes"):
        convert(workflow)


ODD = st.sampled_from([None, True, -1, 1e308, "x", [], [1], {}, {"a": 1}, [[]], [{}]])


def spots(value, path=()):
    """Every place in a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        if isinstance(inner, (dict, list)):
            yield from spots(inner, (*path, key))
        else:
            yield (*path, key)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_another_kind_ends_in_a_sentence(data):
    graph = OldGraph()
    graph.add("Anything Everywhere", [], [], anything=graph.loader("model"))
    graph.add("SetNode", ["*"], ["eva"], EVA_CLIP=graph.loader("eva"))
    graph.apply(eva_clip=graph.add("GetNode", ["EVA_CLIP"], ["eva"]))
    whole = data.draw(st.sampled_from([graph.saved(), prompt(), in_subgraph().saved()]))
    whole = deepcopy(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from([p for p in spots(whole) if p]))
        holder = whole
        for key in path:
            holder = holder[key]
        holder[last] = deepcopy(data.draw(ODD))
    with contextlib.suppress(OldWorkflowError):  # anything else fails
        json.dumps(convert(whole).workflow)
