"""Random checkpoints under the real files' names: the whole pipeline without a download.

Every file but the autoencoder has the real key layout, and all face models keep their real size. FLUX
and T5 are narrow, because ComfyUI reads FLUX's width from the file and `comfyui_source.py` narrows T5's
configuration; the autoencoder is a TAEF1, which takes a tenth of the time.
Two models are not random: the face detector is a trained one (`face_detector.py`), and the face parser
calls an oval in the middle of every aligned face skin and hair, so that pictures of it show a head.

    python devtools/tiny_stage.py MODELS_DIR
"""

import hashlib
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import skimage.data
import torch
from face_detector import scrfd
from onnx_graph import Graph
from safetensors.torch import save_file
from tiny_shapes import (
    EVA_DEPTH,
    Shapes,
    bisenet_shapes,
    clip_l_shapes,
    controlnet_shapes,
    eva_text_shapes,
    eva_vision_shapes,
    flux_shapes,
    lora_shapes,
    pulid_shapes,
    t5_shapes,
    vae_shapes,
)
from torch import Tensor

# Weights


def random_weights(shapes: Shapes, dtype: torch.dtype, gain: float = 1.0) -> dict[str, Tensor]:
    """Fill shapes with weights that neither vanish nor explode, each seeded by its own name.

    Args:
        shapes: Names and shapes.
        dtype: Of every tensor but the counters.
        gain: Standard deviation of a matrix times the square root of its inputs.
    """
    return {name: random_tensor(name, shape, dtype, gain) for name, shape in shapes}


def random_tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype, gain: float) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return noise.mul(0.1).exp().to(dtype)
    if len(shape) == 1 and name.endswith((".weight", ".scale")):
        return noise.mul(0.1).add(1).to(dtype)
    if len(shape) < 2 or ("embed" in name and "proj" not in name):
        return noise.mul(0.1).to(dtype)
    return noise.mul(gain * noise[0].numel() ** -0.5).to(dtype)


def rotary_table(
    width: int = 64, pretrained_side: int = 16, side: int = 24
) -> tuple[Tensor, Tensor]:
    """EVA's rotary cosines and sines, (576, 64): half of each row for y, half for x."""
    frequency = 10000 ** -(torch.arange(0, width // 2, 2) / (width // 2))
    position = torch.arange(side) / side * pretrained_side
    angle = torch.outer(position, frequency).repeat_interleave(2, dim=1)  # (side, width / 2)
    rows, columns = angle[:, None].expand(-1, side, -1), angle[None].expand(side, -1, -1)
    table = torch.cat((rows, columns), dim=-1).reshape(side * side, width)
    return table.cos().half(), table.sin().half()


def eva_weights() -> dict[str, Tensor]:
    """The whole EVA02-CLIP-L-14-336 state dict, float16.

    The text tower is views of a single zero, so it costs no bytes.
    """
    weights = random_weights(eva_vision_shapes(), torch.float16)
    cosines, sines = rotary_table()
    owners = ("visual", *(f"visual.blocks.{i}.attn" for i in range(EVA_DEPTH)))
    for owner in owners:
        weights[f"{owner}.rope.freqs_cos"] = cosines
        weights[f"{owner}.rope.freqs_sin"] = sines
    zero = torch.zeros(1, dtype=torch.float16)
    text = {name: zero.expand(shape) if shape else zero[0] for name, shape in eva_text_shapes()}
    return weights | text


def vae_weights() -> dict[str, Tensor]:
    """TAEF1, with the scale and shift of FLUX's latents."""
    weights = random_weights(vae_shapes(), torch.float16)
    return weights | {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}


BLUR = torch.outer(torch.tensor((0.2, 0.6, 0.2)), torch.tensor((0.4, 0.2, 0.4)))
BACKGROUND, SKIN = 0, 1  # of CelebAMask-HQ
SKIN_HEIGHT = 0.95


def bisenet_weights() -> dict[str, Tensor]:
    """BiSeNet that calls the middle of every picture skin and the rest background.

    One channel carries ones. Where a convolution blurs it, the zeros beyond the border eat into it, which
    leaves a hill with an oval foot; another channel, kept at a constant, decides at which height
    skin begins.
    """
    weights = {
        name: torch.ones(shape) if name.endswith("running_var") else torch.zeros(shape)
        for name, shape in bisenet_shapes()
    }
    for name in weights:
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1)
        elif name.removesuffix(".weight") + ".running_mean" in weights:
            weights[name] = torch.ones_like(weights[name])
    weights["cp.resnet.bn1.bias"][0] = 1
    for level in (2, 3):
        weights[f"cp.resnet.layer{level}.0.downsample.0.weight"][0, 0] = 1
    hill = [f"cp.resnet.layer4.{block}.conv{number}" for block in (0, 1) for number in (1, 2)]
    for name in (*hill, "cp.arm32.conv.conv", "cp.conv_head32.conv", "cp.conv_head16.conv"):
        weights[f"{name}.weight"][0, 0] = BLUR
    weights["ffm.convblk.conv.weight"][0, 128] = 1  # the hill, behind the features of stride 8
    weights["ffm.convblk.conv.weight"][1, 0] = 1  # the constant
    for channel in (0, 1):
        weights["conv_out.conv.conv.weight"][channel, channel, 1, 1] = 1
    weights["conv_out.conv_out.weight"][SKIN, 0] = 1
    weights["conv_out.conv_out.weight"][BACKGROUND, 1] = SKIN_HEIGHT
    return weights


# The recogniser of InsightFace, as an ONNX graph


def recogniser() -> onnx.ModelProto:
    """ArcFace by signature, (N, 3, 112, 112) -> (N, 512); inside, a random linear map."""
    graph = Graph()
    small = graph.node("AveragePool", "input.1", kernel_shape=[8, 8], strides=[8, 8])
    pixels = graph.node("Flatten", small)  # (N, 3 * 14 * 14)
    weight = np.random.default_rng(0).standard_normal((588, 512)) * 0.1
    graph.node("MatMul", pixels, graph.constant(weight), output="1333")
    return graph.model({"input.1": ["N", 3, 112, 112]}, {"1333": ["N", 512]})


# Files


def write_tensors(shapes: Callable[[], Shapes], dtype: torch.dtype, gain: float = 1.0):
    return lambda path: save_file(random_weights(shapes(), dtype, gain), path)


FILES: dict[str, Callable[[Path], object]] = {
    "diffusion_models/flux1-dev.safetensors": write_tensors(flux_shapes, torch.float32, 0.5),
    "diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors": write_tensors(
        flux_shapes, torch.float32, 0.5
    ),
    "controlnet/FLUX.1-dev-ControlNet-Union-Pro-2.0.safetensors": write_tensors(
        controlnet_shapes, torch.bfloat16, 0.5
    ),
    "loras/flux_realism_lora.safetensors": write_tensors(lora_shapes, torch.bfloat16, 0.5),
    "text_encoders/t5xxl_fp16.safetensors": write_tensors(t5_shapes, torch.float16),
    "text_encoders/clip_l.safetensors": write_tensors(clip_l_shapes, torch.float16),
    "vae/ae.safetensors": lambda path: save_file(vae_weights(), path),
    "pulid/pulid_flux_v0.9.1.safetensors": write_tensors(pulid_shapes, torch.bfloat16),
    "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt": lambda path: torch.save(eva_weights(), path),
    "facexlib/parsing_bisenet.pth": lambda path: torch.save(bisenet_weights(), path),
    "insightface/models/antelopev2/scrfd_10g_bnkps.onnx": lambda path: onnx.save(scrfd(), path),
    "insightface/models/antelopev2/glintr100.onnx": lambda path: onnx.save(recogniser(), path),
}

STAMP, WHOLE = "tiny-stage-version", "tiny-stage-whole"
"""Which version of this module a stage is of, written first; and that all of it is there, last."""


def make_stage(models_dir: Path, progress: Callable[[str], object] | None = None) -> Path:
    """Write every checkpoint that is not there yet into a ComfyUI models folder.

    What an older version of this module wrote is written again.

    Args:
        models_dir: Made when missing.
        progress: Called with the name of each file before it is written.
    """
    remove_outdated(models_dir)
    for name, write in FILES.items():
        path = models_dir / name
        if path.exists():
            continue
        if progress:
            progress(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{path.name}")
        write(unfinished)
        unfinished.replace(path)
    (models_dir / WHOLE).write_text(version())
    return models_dir


def version() -> str:
    """Hash of what decides what the files hold."""
    names = ("tiny_stage.py", "tiny_shapes.py", "face_detector.py", "onnx_graph.py")
    content = b"\0".join(Path(__file__).with_name(name).read_bytes() for name in names)
    return hashlib.sha256(content).hexdigest()


def remove_outdated(models_dir: Path) -> None:
    stamp = models_dir / STAMP
    if stamp.exists() and stamp.read_text() == version():
        return
    for name in FILES:
        (models_dir / name).unlink(missing_ok=True)
    models_dir.mkdir(parents=True, exist_ok=True)
    stamp.write_text(version())


def demo_photo(path: Path) -> Path:
    """Write scikit-image's astronaut (NASA, public domain; 512 x 512) as an image file."""
    cv2.imwrite(str(path), cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR))
    return path


if __name__ == "__main__":
    make_stage(Path(sys.argv[1]), lambda name: sys.stdout.write(f"Making {name}\n"))
