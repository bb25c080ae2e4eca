"""Where ONNX Runtime can run the face model on this machine."""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata

AUTO_PROVIDER = "auto"
CPU_PROVIDER = "CPUExecutionProvider"
ONNXRUNTIME_PROVIDERS = {
    "onnxruntime-gpu": ["CUDAExecutionProvider", "TensorrtExecutionProvider"],
    "onnxruntime-directml": ["DmlExecutionProvider"],
    "onnxruntime-rocm": ["ROCMExecutionProvider", "MIGraphXExecutionProvider"],
    "onnxruntime-migraphx": ["MIGraphXExecutionProvider"],
    "onnxruntime-openvino": ["OpenVINOExecutionProvider"],
}
"""What each distribution of ONNX Runtime adds to the CPU. Read from the installed packages, since
importing ONNX Runtime would slow down ComfyUI's start."""


@cache  # reading every installed package takes 40 ms, and ComfyUI asks several times per prompt
def provider_choices() -> list[str]:
    """Where ONNX Runtime can run here: auto, the CPU, and what its distribution brings."""
    installed = {str(d.metadata["Name"]).lower() for d in metadata.distributions()}
    providers = [
        p
        for name in ONNXRUNTIME_PROVIDERS
        for p in ONNXRUNTIME_PROVIDERS[name]
        if name in installed
    ]
    if sys.platform == "darwin":
        providers.append("CoreMLExecutionProvider")
    return [AUTO_PROVIDER, CPU_PROVIDER, *dict.fromkeys(providers)]
