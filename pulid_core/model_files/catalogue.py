"""Every model file the pack uses: where it belongs, where it comes from, what its licence allows.

The standard library alone, so that `pulid.py models` runs before anything is installed.
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
    """Bytes; about, where `size_is_rounded`."""
    licence: Licence
    auto_patterns: tuple[str, ...] = ()
    """Lower-case file name patterns that `auto` looks for, best first."""
    original: str = ""
    """Where its makers publish it, when that is not the repository above."""
    pack: str = ""
    """InsightFace pack that the file is part of: it lies in models/PACK of its folder."""
    is_gated: bool = False
    """Whether Hugging Face asks for an account that accepted the licence."""
    sha256: str = ""
    """As its makers' repository gives it; empty where that was not seen."""
    size_is_rounded: bool = False

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
    sha256="84c3a17a228c567a155259b2245b0b59072bf7da510260a0a02ec54de6d50b05",
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
    sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
)


def _face_model_file(name: str, description: str, size: int, sha256: str) -> ModelFile:
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
        sha256=sha256,
    )


FACE_DETECTOR = _face_model_file(
    "scrfd_10g_bnkps.onnx",
    "the face detector of antelopev2",
    16_923_827,
    "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
)
FACE_RECOGNISER = _face_model_file(
    "glintr100.onnx",
    "the face recogniser of antelopev2",
    260_665_334,
    "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
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
        sha256="4610115bb0c89560703c892c59ac2742fa821e60ef5871b33493ba544683abd7",
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
        sha256="6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635",
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
        sha256="660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
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
        sha256="afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38",
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
        size_is_rounded=True,
    ),
    ModelFile(
        "FLUX.1-dev-ControlNet-Union-Pro-2.0.safetensors",
        "a ControlNet, for Pose and style of your choice",
        ("controlnet",),
        "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0",
        "diffusion_pytorch_model.safetensors",
        4_281_779_224,
        FLUX_DEV_LICENCE,
        ("flux.1-dev-controlnet-union-pro-2.0.safetensors",),
        sha256="9d03f63f36206bab2f36aed5cfedc8693c2881397534e9d5f9ae9a0a41362517",
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
        size_is_rounded=True,
    ),
)
"""What the shared workflows need besides."""

FLUX_GGUF = "city96/FLUX.1-dev-gguf"
SMALLER_FILES = (
    ModelFile(
        "flux1-dev-fp8.safetensors",
        "FLUX.1-dev in 8 bit, for about 16 GB of graphics memory",
        ("diffusion_models",),
        "Kijai/flux-fp8",
        "flux1-dev-fp8.safetensors",
        11_901_525_888,
        FLUX_DEV_LICENCE,
        ("flux1-dev-fp8.safetensors",),
        sha256="1be961341be8f5307ef26c787199f80bf4e0de3c1c0b4617095aa6ee5550dfce",
    ),
    ModelFile(
        "flux1-dev-Q8_0.gguf",
        "FLUX.1-dev in 8 bit for ComfyUI-GGUF, for about 16 GB of graphics memory",
        ("diffusion_models",),
        FLUX_GGUF,
        "flux1-dev-Q8_0.gguf",
        12_708_281_504,
        FLUX_DEV_LICENCE,
        ("flux1-dev-q8_0.gguf",),
        sha256="129032f32224bf7138f16e18673d8008ba5f84c1ec74063bf4511a8bb4cf553d",
    ),
    ModelFile(
        "flux1-dev-Q6_K.gguf",
        "FLUX.1-dev in 6 bit for ComfyUI-GGUF, for about 12 GB of graphics memory",
        ("diffusion_models",),
        FLUX_GGUF,
        "flux1-dev-Q6_K.gguf",
        9_857_000_736,
        FLUX_DEV_LICENCE,
        ("flux1-dev-q6_k.gguf",),
        sha256="9566d56031d7f8de184bb5a0393073956ec4e28b32db3f860bd2b87edca04d13",
    ),
    ModelFile(
        "flux1-dev-Q4_K_S.gguf",
        "FLUX.1-dev in 4 bit for ComfyUI-GGUF, for about 8 GB of graphics memory",
        ("diffusion_models",),
        FLUX_GGUF,
        "flux1-dev-Q4_K_S.gguf",
        6_810_000_000,
        FLUX_DEV_LICENCE,
        ("flux1-dev-q4_k_s.gguf",),
        size_is_rounded=True,
    ),
    ModelFile(
        "t5xxl_fp8_e4m3fn.safetensors",
        "FLUX's text encoder T5-XXL in 8 bit",
        ("text_encoders",),
        TEXT_ENCODERS,
        "t5xxl_fp8_e4m3fn.safetensors",
        4_893_934_904,
        Licence("Apache-2.0", f"{HUB}/{TEXT_ENCODERS}"),
        ("t5xxl_fp8_e4m3fn.safetensors",),
        sha256="7d330da4816157540d6bb7838bf63a0f02f573fc48ca4d8de34bb0cbfd514f09",
    ),
)
"""In place of flux1-dev and t5xxl_fp16, where graphics memory is small; none needs an account."""

ALL_FILES = (*FACE_FILES, *FLUX_FILES, *SMALLER_FILES)


def size_text(size: float) -> str:
    """Bytes for people: 1.1 GB, 53 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def models_table() -> str:
    """The table of docs/models.md, between its markers."""
    lines = ["| file | folder in `ComfyUI/models` | size | licence |", "| --- | --- | ---: | --- |"]
    for file in ALL_FILES:
        licence = f"[{file.licence.name}]({file.licence.url})"
        if file.licence.restriction:
            licence += f", **{file.licence.restriction}**"
        cells = (f"[{file.name}]({file.source})", f"`{file.folder}`", size_text(file.size), licence)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
