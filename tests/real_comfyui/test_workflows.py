"""What every shared workflow is for, over the newest ComfyUI; small and quick where a model samples.

`tests/browser` runs them all unchanged, `test_portrait` and `test_remote_matrix` the two that are not here.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import example_photos, portrait_workflow
from pulid_pack.devtools.comfyui import ComfyServer, Run
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.tests.real_comfyui.portrait_graph import Prompt

pytestmark = pytest.mark.comfy

ELSEWHERE = {portrait_workflow.PATH.stem, portrait_workflow.REMOTE_PATH.stem}
QUICK = {
    "EmptySD3LatentImage": {"width": 64, "height": 64},
    "PulidFaceCrop": {"size": 256},
    "KSampler": {"steps": 2},
    "PrimitiveInt": {"value": 2},  # the steps of two samplers in a row
    "WavespeedFluxPulidRemote": {"size": "256*256"},
}
NEAREST = {"upscale_method": "nearest-exact", "crop": "disabled"}
GRAY = {"width": 512, "height": 512, "batch_size": 1, "color": 0x808080}
TROUBLE = ("lora key not loaded", "missing controlnet keys")


class Kitchen:
    """Runs the shared workflows on one server."""

    def __init__(self, server: ComfyServer):
        self.server = server
        self._info = server.object_info()

    def prompt(self, name: str) -> Prompt:
        workflow = portrait_workflow.read(portrait_workflow.FOLDER / f"{name}.json")
        return to_prompt(workflow, self._info)

    def quick(self, name: str) -> Prompt:
        return shrunk(self.prompt(name))

    def run(self, prompt: Prompt) -> Run:
        run = self.server.run(prompt)
        assert run.error is None, run.error
        return run

    def picture(self, prompt: Prompt, **changes: dict[str, Any]) -> np.ndarray:
        """What the prompt paints with some inputs changed, by node id."""
        prompt = copy.deepcopy(prompt)
        for node, inputs in changes.items():
            prompt[node]["inputs"] |= inputs
        return pixels(shown(self.run(prompt), prompt, "SaveImage")[0])


@pytest.fixture(scope="module")
def kitchen(server, tmp_path_factory) -> Kitchen:
    for photo in example_photos.write_photos(tmp_path_factory.mktemp("photos")):
        server.upload_image(photo)
    return Kitchen(server)


def shrunk(prompt: Prompt) -> Prompt:
    """The prompt with a small latent and two steps."""
    for node in prompt.values():
        node["inputs"] |= QUICK.get(node["class_type"], {})
        if node["class_type"] == "FluxKontextImageScale":  # to a megapixel
            node["class_type"] = "ImageScale"
            node["inputs"] |= {"width": 128, "height": 128} | NEAREST
    return prompt


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def ids(prompt: Prompt, kind: str) -> list[str]:
    return [node for node, content in prompt.items() if content["class_type"] == kind]


def shown(run: Run, prompt: Prompt, kind: str) -> list[Path]:
    """The pictures of all nodes of a type."""
    return [path for node in ids(prompt, kind) for path in run.images.get(node, [])]


def texts(run: Run) -> str:
    return "\n".join(text for output in run.outputs.values() for text in output.get("text", ()))


def saved_picture(kitchen: Kitchen, name: str) -> tuple[Run, Prompt, np.ndarray]:
    """Run a workflow, small; its one saved picture is no flat colour."""
    prompt = kitchen.quick(name)
    run = kitchen.run(prompt)
    (path,) = shown(run, prompt, "SaveImage")
    picture = pixels(path)
    assert picture.std() > 1
    return run, prompt, picture


def test_every_workflow_has_a_test_that_runs_it():
    tested = {name.removeprefix("test_") for name in globals()}
    names = {path.stem for path in portrait_workflow.FOLDER.glob("*.json")} - ELSEWHERE
    assert {name[3:].lower().replace(" ", "_") for name in names} <= tested


def test_pose_and_style_of_your_choice(kitchen):
    """Every key of LoRA and ControlNet finds its place, and pose, style and person all act."""
    _, quick, usual = saved_picture(kitchen, "09 Pose and style of your choice")
    assert [text for text in TROUBLE if text in kitchen.server.log_text()] == []
    for kind, name in (
        ("ControlNetApplyAdvanced", "strength"),
        ("LoraLoaderModelOnly", "strength_model"),
        ("PulidApplyFlux", "weight"),
    ):
        (node,) = ids(quick, kind)
        assert not np.array_equal(kitchen.picture(quick, **{node: {name: 0.0}}), usual), kind


def test_two_people_in_one_picture(kitchen):
    """Both are found, both act, and exchanged they paint another picture."""
    run, quick, usual = saved_picture(kitchen, "05 Two people in one picture")
    left, right = (pixels(path) for path in shown(run, quick, "PulidApplyFlux"))
    assert not np.array_equal(left, right)
    first, second = ids(quick, "PulidApplyFlux")
    exchanged = {
        node: {"reference": quick[other]["inputs"]["reference"]}
        for node, other in ((first, second), (second, first))
    }
    for changes in ({first: {"weight": 0.0}}, {second: {"weight": 0.0}}, exchanged):
        assert not np.array_equal(kitchen.picture(quick, **changes), usual)


def test_painting_of_a_person(kitchen):
    """The negative prompt counts, and so does the person."""
    _, quick, usual = saved_picture(kitchen, "07 Painting of a person")
    _, sampler = ids(quick, "KSamplerAdvanced")  # the first step knows no negative prompt
    negative, _ = quick[sampler]["inputs"]["negative"]
    assert not np.array_equal(kitchen.picture(quick, **{negative: {"text": "a painting"}}), usual)
    (apply,) = ids(quick, "PulidApplyFlux")
    assert not np.array_equal(kitchen.picture(quick, **{apply: {"weight": 0.0}}), usual)


def test_new_scene_with_the_same_face(kitchen):
    """Kontext sees the photo, and PuLID holds the face besides."""
    _, quick, usual = saved_picture(kitchen, "08 New scene with the same face")
    (guidance,), (reference,) = ids(quick, "FluxGuidance"), ids(quick, "ReferenceLatent")
    blind = {guidance: {"conditioning": quick[reference]["inputs"]["conditioning"]}}
    assert not np.array_equal(kitchen.picture(quick, **blind), usual)
    (apply,) = ids(quick, "PulidApplyFlux")
    assert not np.array_equal(kitchen.picture(quick, **{apply: {"weight": 0.0}}), usual)


def identity_save(kitchen: Kitchen) -> Run:
    prompt = kitchen.prompt("03 Save a person to a file")
    (save,) = ids(prompt, "PulidSaveIdentity")
    prompt[save]["inputs"]["if_exists"] = "overwrite"  # two tests save on one server
    run = kitchen.run(prompt)
    (crops,) = shown(run, prompt, "PreviewImage")
    assert pixels(crops).shape == (336, 672, 3)
    return run


def test_save_a_person_to_a_file(kitchen):
    run = identity_save(kitchen)
    assert "1 face, took 0 in the order largest" in texts(run)
    assert "person" in texts(run)
    assert (kitchen.server.base_dir / "input/pulid_identities/person.png").is_file()


def test_portrait_of_a_saved_person(kitchen):
    """The card that the template before wrote paints what the photo paints."""
    identity_save(kitchen)
    run, quick, usual = saved_picture(kitchen, "04 Portrait of a saved person")
    assert "PuLID file pulid_flux_v0.9.1.safetensors" in texts(run)
    assert "Consent: not stated" in texts(run)
    (apply,), (loader,) = ids(quick, "PulidApplyFlux"), ids(quick, "PulidLoader")
    photo = {"photo": {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}}}
    files = {"eva_clip_file": "auto", "face_parsing_file": "auto", "face_model": "antelopev2"}
    direct = kitchen.picture(quick | photo, **{apply: {"reference": ["photo", 0]}, loader: files})
    assert np.array_equal(usual, direct)


def test_one_face_from_a_group_photo(kitchen):
    """Three faces are listed, and index 1 is another one than index 0."""
    run, quick, _ = saved_picture(kitchen, "06 One face from a group photo")
    assert "3 faces, took 1 in the order left-to-right" in texts(run)
    (crop,) = shown(run, quick, "PreviewImage")
    (encode,) = ids(quick, "PulidEncodeIdentity")
    quick[encode]["inputs"]["face_index"] = 0
    (first,) = shown(kitchen.run(quick), quick, "PreviewImage")
    assert not np.array_equal(pixels(crop), pixels(first))


def cells(sheet: np.ndarray, columns: int, rows: int, size: tuple[int, int]) -> list[np.ndarray]:
    """The pictures of a sheet, row by row; all are of one size, (height, width)."""
    height, width = size
    gap, rest = divmod(sheet.shape[1] - columns * width, columns + 1)
    assert rest == 0
    down, rest = divmod(sheet.shape[0] - gap, rows)
    assert rest == 0
    return [
        sheet[gap + row * down :, gap + column * (width + gap) :][:height, :width]
        for row in range(rows)
        for column in range(columns)
    ]


def test_which_weight_and_start_look_best(kitchen):
    """Nine different pictures stand on the sheet, in the order of the grid, each judged."""
    prompt = kitchen.quick("10 Which weight and start look best")
    (sampler,), (decode,) = ids(prompt, "KSampler"), ids(prompt, "VAEDecode")
    prompt[sampler]["inputs"]["steps"] = 6  # fewer cannot tell the starts
    prompt["small"] = copy.deepcopy(prompt[decode])
    inputs = {"image": ["small", 0], "width": 384, "height": 384}  # under less the captions wrap
    prompt[decode] = {"class_type": "ImageScale", "inputs": inputs | NEAREST}
    run = kitchen.run(prompt)
    (sheet,) = map(pixels, shown(run, prompt, "SaveImage"))
    judged = [pixels(path) for path in shown(run, prompt, "PulidFaceSimilarity")]
    assert len({picture.tobytes() for picture in judged}) == len(judged) == 9
    for cell, picture in zip(cells(sheet, 3, 3, (384, 384)), judged, strict=True):
        assert np.array_equal(cell, picture)  # no face on it, so nothing is drawn
    assert len(shown(run, prompt, "PulidApplyFlux")) == 9


def test_six_portraits_on_one_sheet_without_a_gpu(kitchen, wavespeed):
    """Six different pictures within the limit, alone and on the sheet."""
    prompt = kitchen.prompt("11 Six portraits on one sheet without a GPU")
    (remote,) = ids(prompt, "WavespeedFluxPulidRemote")
    paid = wavespeed.paid
    run = kitchen.run(prompt)
    assert wavespeed.paid == paid + 6
    assert 6 * 0.02 < prompt[remote]["inputs"]["max_cost_usd"] < 8 * 0.02
    single, sheet = sorted(run.images.values(), key=len, reverse=True)
    pictures = [pixels(path) for path in single]
    assert [picture.shape for picture in pictures] == [(960, 768, 3)] * 6
    assert len({picture.tobytes() for picture in pictures}) == 6
    for cell, picture in zip(cells(pixels(sheet[0]), 3, 2, (512, 410)), pictures, strict=True):
        assert np.abs(cell.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 1


def test_hosted_draft_refined_on_your_gpu(kitchen):
    """The draft is shown, the refined picture differs from it, and depends on it."""
    run, quick, picture = saved_picture(kitchen, "12 Hosted draft refined on your GPU")
    (draft,) = shown(run, quick, "PreviewImage")
    assert pixels(draft).shape == picture.shape == (256, 256, 3)
    assert np.abs(pixels(draft).astype(int) - picture).mean() > 5
    (remote,) = ids(quick, "WavespeedFluxPulidRemote")
    other = kitchen.picture(quick, **{remote: {"seed": 8}})
    assert not np.array_equal(picture, other)


def test_make_until_it_looks_like_the_person(kitchen):
    """Nothing is saved of pictures without a face; with the person among them, the person alone."""
    prompt = kitchen.quick("13 Make until it looks like the person")
    (gate,), (save,) = ids(prompt, "PulidLikenessGate"), ids(prompt, "SaveImage")
    run = kitchen.run(prompt)
    assert run.outputs[gate]["text"][0].startswith("None of 4 picture(s) reached 0.5")
    assert save not in run.images
    pair = {"image1": prompt[gate]["inputs"]["images"], "image2": ["photo", 0]}
    prompt |= {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}},
        "five": {"class_type": "ImageBatch", "inputs": pair},
    }
    prompt[gate]["inputs"]["images"] = ["five", 0]
    run = kitchen.run(prompt)
    (sheet,), (saved,) = shown(run, prompt, "PreviewImage"), run.images[save]
    assert pixels(saved).shape == (64, 64, 3)
    assert pixels(sheet).std() > 1


def test_find_the_lowest_strength(kitchen):
    """Not reached on pictures without a face; then by a photo that fades in, and painted so."""
    prompt = kitchen.quick("14 Find the lowest strength")
    (start,), (end,) = ids(prompt, "PulidAutoTune"), ids(prompt, "PulidAutoTuneResult")
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [end, 4]}}
    run = kitchen.run(prompt)
    (told,) = run.outputs["report"]["text"]
    assert told.startswith("Not reached: 0.6 was wanted")
    assert "8 of 8 picture(s) used" in told
    assert not shown(run, prompt, "SaveImage")
    prompt["gray"] = {"class_type": "EmptyImage", "inputs": GRAY}
    blend = {"image1": ["gray", 0], "image2": ["photo", 0], "blend_factor": [start, 0]}
    prompt["photo"] = {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}}
    prompt["fade"] = {"class_type": "ImageBlend", "inputs": blend | {"blend_mode": "normal"}}
    prompt[end]["inputs"]["image"] = ["fade", 0]
    prompt[start]["inputs"]["weights"] = "0.1, 1"
    usual = kitchen.picture(prompt)
    (apply,) = (
        node for node in ids(prompt, "PulidApplyFlux") if prompt[node]["inputs"]["weight"][0] == end
    )
    assert not np.array_equal(kitchen.picture(prompt, **{apply: {"weight": 0.0}}), usual)


def test_second_pass_on_the_face(kitchen):
    """Two of three faces are painted anew, each by its person; all else stays pixel for pixel."""
    _, quick, picture = saved_picture(kitchen, "15 Second pass on the face")
    before = example_photos.group()
    assert picture.shape == before.shape
    thirds = [slice(352 * i, 352 * (i + 1)) for i in range(3)]  # an astronaut each
    moved = (picture != before).any(-1)
    assert [0.01 < moved[:, third].mean() < 0.3 for third in thirds] == [True, True, False]
    assert not moved[:, thirds[2]].any()
    assert not moved[300:].any()  # suits and flags
    first, second = ids(quick, "PulidApplyFlux")
    exchanged = {
        node: {"reference": quick[other]["inputs"]["reference"]}
        for node, other in ((first, second), (second, first))
    }
    for changes, places in (
        ({first: {"weight": 0.0}}, [True, False, False]),
        ({second: {"weight": 0.0}}, [False, True, False]),
        (exchanged, [True, True, False]),
    ):
        other = (kitchen.picture(quick, **changes) != picture).any(-1)
        assert [bool(other[:, third].any()) for third in thirds] == places


def test_second_pass_on_a_batch(kitchen):
    """Every picture is cropped, painted in the template's own size, and pasted by itself."""
    name = "15 Second pass on the face"
    quick, whole = kitchen.quick(name), kitchen.prompt(name)  # each its own
    (finished,) = [n for n in ids(quick, "LoadImage") if quick[n]["inputs"]["image"] == "group.png"]
    inputs = {"image1": [finished, 0], "image2": [finished, 0]}
    quick["batch"] = {"class_type": "ImageBatch", "inputs": inputs}
    for node in ids(quick, "PulidFaceCrop"):
        quick[node]["inputs"] |= {"image": ["batch", 0], "size": whole[node]["inputs"]["size"]}
    run = kitchen.run(quick)
    one, two = map(pixels, shown(run, quick, "SaveImage"))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, example_photos.group())


def test_a_face_that_is_not_there_is_refused(kitchen):
    quick = kitchen.quick("15 Second pass on the face")
    crop = ids(quick, "PulidFaceCrop")[1]
    quick[crop]["inputs"]["face_index"] = 7
    error = kitchen.server.run(quick).error
    assert "Face 7 was wanted in image 1 of 1, but only 3 face(s) were found" in str(error)


def test_on_your_gpu_or_hosted_by_one_switch(kitchen, wavespeed):
    """Either way one picture, from the same photo and prompt; the other branch does not run."""
    paid = wavespeed.paid
    run, quick, local = saved_picture(kitchen, "16 On your GPU or hosted by one switch")
    assert wavespeed.paid == paid
    assert "KSampler" in {quick[node]["class_type"] for node in run.executed_nodes}
    (switch,) = ids(quick, "PulidLocalOrHosted")
    hosted = kitchen.picture(quick, **{switch: {"run_on": "hosted"}})
    assert wavespeed.paid == paid + 1
    assert hosted.shape == (256, 256, 3)
    (text,) = ids(quick, "PrimitiveStringMultiline")
    other = kitchen.picture(quick, **{text: {"value": "another place"}})
    assert not np.array_equal(local, other)
