"""The stage's files have the real layouts, by their peers' word, and its weights are sane."""

import warnings

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from facexlib.parsing.bisenet import BiSeNet
from insightface.app import FaceAnalysis
from pulid_pack.devtools import example_photos, tiny_shapes, tiny_stage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # both peers warn about optional packages on import
    from consisid_eva_clip.factory import create_model
    from diffusers import FluxControlNetModel
    from diffusers.models.transformers.consisid_transformer_3d import (
        LocalFacialExtractor,
        PerceiverCrossAttention,
    )


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_idformer_and_cross_attention_have_their_peers_layout():
    """172 encoder keys and 7 keys per attention, as in pulid_flux_v0.9.1."""
    with torch.device("meta"):
        encoder = LocalFacialExtractor(
            id_dim=1280, vit_dim=1024, depth=10, dim_head=64, heads=16, num_id_token=5,
            num_queries=32, output_dim=2048, ff_mult=4,
        )  # fmt: skip
        attention = PerceiverCrossAttention(dim=128, dim_head=128, heads=16, kv_dim=2048)
    expected = {f"pulid_encoder.{name}": shape for name, shape in shapes_of(encoder).items()}
    for i in range(20):
        expected |= {f"pulid_ca.{i}.{name}": shape for name, shape in shapes_of(attention).items()}
    assert dict(tiny_shapes.pulid_shapes()) == expected
    assert len(expected) == 312


def test_idformer_has_the_real_number_of_parameters():
    assert sum(np.prod(shape) for _, shape in tiny_shapes.idformer_shapes()) == 151_398_400


@pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated:FutureWarning")  # diffusers' own
def test_controlnet_has_its_peers_layout():
    """FLUX.1-dev-ControlNet-Union-Pro-2.0's configuration, but for the widths of the tiny FLUX."""
    with torch.device("meta"):
        controlnet = FluxControlNetModel(
            num_layers=6, num_single_layers=0, attention_head_dim=128, num_attention_heads=1,
            joint_attention_dim=64, pooled_projection_dim=768, guidance_embeds=True,
        )  # fmt: skip
    assert dict(tiny_shapes.controlnet_shapes()) == shapes_of(controlnet)


def test_every_lora_pair_fits_a_weight_of_flux():
    flux, lora = dict(tiny_shapes.flux_shapes()), dict(tiny_shapes.lora_shapes())
    assert len(lora) == 19 * 2 * 2 * 2
    for name, (outputs, _) in lora.items():
        base = name.removeprefix("diffusion_model.").rsplit(".lora_", 1)[0]
        if name.endswith("lora_up.weight"):
            inputs = lora[name.replace("lora_up", "lora_down")][1]
            assert flux[f"{base}.weight"] == (outputs, inputs)


@pytest.fixture(scope="module")
def eva_peer() -> dict[str, torch.Tensor]:
    with torch.device("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_model("EVA02-CLIP-L-14-336", "", force_custom_clip=True).state_dict()


@pytest.mark.slow
def test_eva_file_has_the_peers_layout(stage, eva_peer):
    """Same keys and shapes, and the same rotary tables; loadable without executing anything."""
    path = stage / "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt"
    weights = torch.load(path, weights_only=True, map_location="cpu")
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    assert shapes == {name: tuple(value.shape) for name, value in eva_peer.items()}
    rotary = [name for name in eva_peer if ".rope." in name]
    assert len(rotary) == 50
    for name in rotary:
        assert torch.equal(weights[name], eva_peer[name].half()), name


@pytest.fixture(scope="module")
def astronaut_crop() -> torch.Tensor:
    """The demo photo's face, normalised roughly as BiSeNet wants it, (1, 3, 512, 512)."""
    face = cv2.resize(skimage.data.astronaut()[30:220, 130:320], (512, 512))
    return torch.from_numpy(face).permute(2, 0, 1)[None].float() / 64 - 2


def test_bisenet_loads_into_facexlib_and_sees_a_head_in_the_middle(stage, astronaut_crop):
    """One oval, whatever the picture: its middle is skin, its border background, without holes."""
    network = BiSeNet(num_class=19).eval()
    path = stage / "facexlib/parsing_bisenet.pth"
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    with torch.no_grad():
        labels = network(astronaut_crop)[0].argmax(1)[0].numpy()
    assert set(np.unique(labels)) == {0, 1}
    assert labels[100:400, 140:380].all()
    assert not labels[:50].any()
    assert not labels[:, :80].any()
    assert cv2.connectedComponents(labels.astype(np.uint8))[0] == 2
    assert cv2.connectedComponents((1 - labels).astype(np.uint8))[0] == 2


@pytest.fixture(scope="module")
def analysis(stage) -> FaceAnalysis:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = stage / "insightface/models/antelopev2"
        app = FaceAnalysis(name=str(folder), allowed_modules=["detection", "recognition"])
    app.prepare(ctx_id=0)
    return app


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[..., ::-1])


FACE_POINTS = ((203, 100), (249, 103), (224, 124), (203, 142), (243, 144))
"""Eyes, nose and corners of the mouth on the demo photo."""


@pytest.mark.parametrize("zoom", [0.5, 1, 2])
def test_insightface_finds_the_face_of_the_photo(analysis, photo, zoom):
    """One face, whose key points lie on the eyes, the nose and the mouth."""
    (face,) = analysis.get(cv2.resize(photo, None, fx=zoom, fy=zoom))
    assert face.det_score > 0.8
    np.testing.assert_allclose(face.kps / zoom, FACE_POINTS, atol=8)
    assert face.embedding.shape == (512,)
    assert 5 < np.linalg.norm(face.embedding) < 100


def test_insightface_finds_two_people(analysis, photo):
    faces = analysis.get(np.concatenate((photo, photo), axis=1))
    assert len(faces) == 2


@pytest.mark.parametrize(("name", "count"), [("second-person.png", 1), ("group.png", 3)])
def test_insightface_finds_everybody_on_the_example_photos(analysis, name, count):
    picture = example_photos.PICTURES[name]()
    assert len(analysis.get(np.ascontiguousarray(picture[..., ::-1]))) == count


@pytest.mark.parametrize("side", [320, 640, 960])
def test_the_detector_takes_inputs_of_any_size(analysis, photo, side):
    boxes, points = analysis.models["detection"].detect(photo, input_size=(side, side))
    assert len(boxes) == 1
    np.testing.assert_allclose(points[0], FACE_POINTS, atol=10)


@pytest.mark.parametrize("picture", ["gray", "noise", "coffee"])
def test_insightface_finds_no_face_elsewhere(analysis, picture):
    images = {
        "gray": np.full((512, 512, 3), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8),
        "coffee": skimage.data.coffee(),
    }
    assert analysis.get(images[picture]) == []


def test_embeddings_tell_pictures_apart(analysis):
    """Same input, same vector; another input, another vector."""
    recogniser = analysis.models["recognition"]
    pictures = np.random.default_rng(0).integers(0, 255, (2, 112, 112, 3), np.uint8)
    first, second = (recogniser.get_feat(picture) for picture in pictures)
    assert np.array_equal(first, recogniser.get_feat(pictures[0]))
    assert not np.allclose(first, second, atol=0.1)


def test_weights_are_a_function_of_the_name_alone():
    def tensor(name: str) -> torch.Tensor:
        return tiny_stage.random_tensor(name, (64, 64), torch.float32, 1.0)

    assert torch.equal(tensor("a.weight"), tensor("a.weight"))
    assert not torch.equal(tensor("a.weight"), tensor("b.weight"))


def test_a_finished_file_is_kept_and_an_unfinished_one_is_not_taken_for_it(tmp_path, monkeypatch):
    def fail(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    writers = {"a.bin": lambda path: path.write_bytes(b"whole"), "b.bin": fail}
    monkeypatch.setattr(tiny_stage, "FILES", writers)
    with pytest.raises(KeyboardInterrupt):
        tiny_stage.make_stage(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
    assert not (tmp_path / "b.bin").exists()

    written = []
    writers |= {"b.bin": lambda path: path.write_bytes(b"whole")}
    tiny_stage.make_stage(tmp_path, written.append)
    assert written == ["b.bin"]


def test_what_an_older_version_wrote_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_stage, "FILES", {"a.bin": lambda path: path.write_bytes(b"new")})
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "tiny-stage-version").write_text("an older one")
    tiny_stage.make_stage(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"new"
