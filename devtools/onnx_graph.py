"""ONNX graphs, built node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = list[int | str]


class Graph:
    """An ONNX graph under construction: `node` returns the name of its output."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | float) -> str:
        name = f"constant_{len(self.constants)}"
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        name = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def affine(self, value: str, scale: float, shift: float) -> str:
        scaled = self.node("Mul", value, self.constant(float(scale)))
        return self.node("Add", scaled, self.constant(float(shift)))

    def slice(self, value: str, start: int, stop: int, output: str | None = None) -> str:
        """Channels start to stop of axis 1."""
        bounds = (self.constant(np.array([number])) for number in (start, stop, 1))
        return self.node("Slice", value, *bounds, output=output)

    def model(
        self, inputs: dict[str, Shape], outputs: dict[str, Shape], opset: int = 17
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "devtools", _floats(inputs), _floats(outputs), self.constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        onnx.checker.check_model(model)
        return model


def _floats(shapes: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
