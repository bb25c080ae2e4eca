"""Every model file the pack uses: where it belongs, where it comes from, what its licence allows.

The standard library alone, so that `dev.py models` runs before anything is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB = "https://huggingface.co"
FACE_MODEL = "antelopev2"
"""The InsightFace pack that PuLID was trained with."""


@dataclass(frozen=True)
class Licence:
    """What a file may be used for."""

    name: str
    url: str
    restriction: str = ""
    """What narrows the use; told wherever the licence is."""

    def __str__(self) -> str:
        return f"{self.name} ({self.restriction})" if self.restriction else self.name


@dataclass(frozen=True)
class ModelFile:
    """One kind of weights: where it may lie, how it is called, where it comes from."""

    name: str
    description: str
    folders: tuple[str, ...]
    """ComfyUI folder names; the first is where a new download belongs."""
    repo: str
    """Repository on Hugging Face that the file is downloaded from."""
    repo_path: str
    """Place of the file in it."""
    size: int
    """Bytes."""
    licence: Licence
    auto_patterns: tuple[str, ...] = ()
    """Lower-case file name patterns that `auto` looks for, best first."""
    original: str = ""
    """Where its makers publish it, when that is not the repository above."""
    pack: str = ""
    """InsightFace pack that the file is part of: it lies in models/PACK of its folder."""
    is_gated: bool = False
    """Whether Hugging Face asks for an account that accepted the licence."""

    @property
    def source(self) -> str:
        """Where its makers publish it."""
        return self.original or self.url(HUB)

    @property
    def page(self) -> str:
        """Page of the repository, where a licence is accepted."""
        return f"{HUB}/{self.repo}"

    @property
    def folder(self) -> str:
        """Folder in ComfyUI's models folder where a new download belongs."""
        return f"{self.folders[0]}/models/{self.pack}" if self.pack else self.folders[0]

    @property
    def summary(self) -> str:
        """What it is, how large, under which licence and where from, in one line."""
        return (
            f"{self.description}, {size_text(self.size)}, licence {self.licence}, "
            f"from {self.source}"
        )

    def url(self, endpoint: str) -> str:
        """Address of the file on the hub or on a mirror of it."""
        return f"{endpoint}/{self.repo}/resolve/main/{self.repo_path}"


PULID = ModelFile(
    "pulid_flux_v0.9.1.safetensors",
    "the PuLID-FLUX checkpoint",
    ("pulid",),
    "guozinan/PuLID",
    "pulid_flux_v0.9.1.safetensors",
    1_142_099_520,
    Licence("Apache-2.0", f"{HUB}/guozinan/PuLID"),
    ("pulid_flux_v0.9.1.*", "pulid_flux_v0.9.0.*", "pulid_flux_v*"),
)
EVA_CLIP = ModelFile(
    "EVA02_CLIP_L_336_psz14_s6B.pt",
    "the EVA02-CLIP-L-14-336 vision model",
    ("clip_vision", "text_encoders"),
    "QuanSun/EVA-CLIP",
    "EVA02_CLIP_L_336_psz14_s6B.pt",
    856_461_210,
    Licence("MIT", f"{HUB}/QuanSun/EVA-CLIP"),
    ("eva02_clip_l_336_psz14_s6b.*", "*eva02*clip*336*"),
)
FACE_PARSING = ModelFile(
    "parsing_bisenet.pth",
    "the BiSeNet face parsing model",
    ("facexlib",),
    "BestWishYsh/ConsisID-preview",
    "face_encoder/parsing_bisenet.pth",
    53_289_463,
    Licence(
        "MIT",
        "https://github.com/xinntao/facexlib/blob/master/LICENSE",
        "its training data, CelebAMask-HQ, is for non-commercial research only",
    ),
    ("parsing_bisenet.*",),
    original="https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth",
)


def _face_model_file(name: str, description: str, size: int) -> ModelFile:
    return ModelFile(
        name,
        description,
        ("insightface",),
        "BestWishYsh/ConsisID-preview",
        f"face_encoder/models/{FACE_MODEL}/{name}",
        size,
        Licence(
            "InsightFace's own",
            "https://github.com/deepinsight/insightface#license",
            "non-commercial research only",
        ),
        original="https://github.com/deepinsight/insightface/releases/download/v0.7/antelopev2.zip",
        pack=FACE_MODEL,
    )


FACE_DETECTOR = _face_model_file(
    "scrfd_10g_bnkps.onnx", "the face detector of antelopev2", 16_923_827
)
FACE_RECOGNISER = _face_model_file(
    "glintr100.onnx", "the face recogniser of antelopev2", 260_665_334
)

FACE_FILES = (PULID, EVA_CLIP, FACE_PARSING, FACE_DETECTOR, FACE_RECOGNISER)
"""What PuLID needs."""

TEXT_ENCODERS = "comfyanonymous/flux_text_encoders"
FLUX_DEV_LICENCE = Licence(
    "FLUX.1 [dev]",
    f"{HUB}/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    "non-commercial",
)
FLUX_FILES = (
    ModelFile(
        "flux1-dev.safetensors",
        "FLUX.1-dev",
        ("diffusion_models",),
        "black-forest-labs/FLUX.1-dev",
        "flux1-dev.safetensors",
        23_802_932_552,
        FLUX_DEV_LICENCE,
        ("flux1-dev.safetensors",),
        is_gated=True,
    ),
    ModelFile(
        "t5xxl_fp16.safetensors",
        "FLUX's text encoder T5-XXL",
        ("text_encoders",),
        TEXT_ENCODERS,
        "t5xxl_fp16.safetensors",
        9_787_841_024,
        Licence("Apache-2.0", f"{HUB}/{TEXT_ENCODERS}"),
        ("t5xxl_fp16.safetensors",),
    ),
    ModelFile(
        "clip_l.safetensors",
        "FLUX's text encoder CLIP-L",
        ("text_encoders",),
        TEXT_ENCODERS,
        "clip_l.safetensors",
        246_144_152,
        Licence("Apache-2.0", f"{HUB}/{TEXT_ENCODERS}"),
        ("clip_l.safetensors",),
    ),
    ModelFile(
        "ae.safetensors",
        "FLUX's VAE",
        ("vae",),
        # Black Forest Labs' own repository of this file became gated; this is the same file.
        "Comfy-Org/Lumina_Image_2.0_Repackaged",
        "split_files/vae/ae.safetensors",
        335_304_388,
        Licence("Apache-2.0", f"{HUB}/black-forest-labs/FLUX.1-schnell"),
        ("ae.safetensors",),
    ),
    ModelFile(
        "flux1-dev-kontext_fp8_scaled.safetensors",
        "FLUX.1 Kontext, for New scene with the same face",
        ("diffusion_models",),
        "Comfy-Org/flux1-kontext-dev_ComfyUI",
        "split_files/diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors",
        11_900_000_000,
        FLUX_DEV_LICENCE,
        ("flux1-dev-kontext_fp8_scaled.safetensors",),
    ),
    ModelFile(
        "FLUX.1-dev-ControlNet-Union-Pro-2.0.safetensors",
        "a ControlNet, for Pose and style of your choice",
        ("controlnet",),
        "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0",
        "diffusion_pytorch_model.safetensors",
        4_280_000_000,
        FLUX_DEV_LICENCE,
        ("flux.1-dev-controlnet-union-pro-2.0.safetensors",),
    ),
    ModelFile(
        "flux_realism_lora.safetensors",
        "a LoRA, for Pose and style of your choice",
        ("loras",),
        "comfyanonymous/flux_RealismLora_converted_comfyui",
        "flux_realism_lora.safetensors",
        22_400_000,
        FLUX_DEV_LICENCE,
        ("flux_realism_lora.safetensors",),
    ),
)
"""What the shared workflows need besides."""

ALL_FILES = (*FACE_FILES, *FLUX_FILES)


def size_text(size: float) -> str:
    """Bytes for people: 1.1 GB, 53 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def models_table() -> str:
    """The table of the README's section Models, between its markers."""
    lines = ["| file | folder in `ComfyUI/models` | size | licence |", "| --- | --- | ---: | --- |"]
    for file in ALL_FILES:
        licence = f"[{file.licence.name}]({file.licence.url})"
        if file.licence.restriction:
            licence += f", **{file.licence.restriction}**"
        cells = (f"[{file.name}]({file.source})", f"`{file.folder}`", size_text(file.size), licence)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
