"""The remote nodes in the newest ComfyUI, against the stand-in: paid once, cancelled at once.

One server, at the most talkative log level, with a canary as the key.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from pulid_pack.devtools.comfyui import ROOT, ComfyServer, Run
from pulid_pack.devtools.pages import assert_page_helps
from pulid_pack.devtools.wavespeed_standin import COMFY_PACK, SIGNATURE, Standin
from pulid_pack.tests.real_comfyui.portrait_graph import portrait
from pulid_pack.tests.real_comfyui.remote_graph import (
    ACCOUNT,
    LOCAL,
    PROMPT,
    graph,
    own_photo,
    remote,
    sources,
)

pytestmark = pytest.mark.comfy

KEY = "standin-canary-9f3b6c71d2"
STATE = Path("user") / "__wavespeed_flux_pulid"


@pytest.fixture(scope="module")
def service() -> Iterator[Standin]:
    with Standin(key=KEY) as standin:
        standin.hang_s = 3.0
        yield standin


@pytest.fixture(autouse=True)
def calm(service):
    """Every test begins with a quick service without faults."""
    service.generation_s = 0.0
    service._faults.clear()


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def said() -> list[str | bytes]:
    """All that ComfyUI said in these tests, to be searched at the end."""
    return []


class Talker(ComfyServer):
    """Keeps all that the server says."""

    said: list[str | bytes]

    def run(self, *arguments: Any, **options: Any) -> Run:
        run = super().run(*arguments, **options)
        self.said += [*run.heard, repr(run)]
        return run


def talker(service: Standin, folder: Path, base_dir: Path, stage: Path, said: list, key: str):
    server = Talker(
        folder,
        base_dir,
        stage,
        packs=(ROOT, COMFY_PACK),
        cpu=True,
        options=("--verbose", "DEBUG"),
        environment=service.environment() | {"WAVESPEED_API_KEY": key},
    )
    server.said = said
    return server


@pytest.fixture(scope="module")
def remote_server(service, comfyui_dir, base_dir, stage, said, demo_photo):
    """The newest ComfyUI, with the key in its environment."""
    with talker(service, comfyui_dir, base_dir, stage, said, KEY) as server:
        server.upload_image(demo_photo)
        yield server
    said.append(server.log_text())


def test_batch(remote_server, service):
    """Two photos and two prompts: four pictures in order, four paid, two uploads."""
    extra = {
        "other": {"class_type": "ImageInvert", "inputs": {"image": ["photo", 0]}},
        "both": {
            "class_type": "ImageBatch",
            "inputs": {"image1": ["photo", 0], "image2": ["other", 0]},
        },
    }
    lines = f"{PROMPT}\n\n{PROMPT} at night\n"
    run = remote_server.run(
        graph(extra, image=["both", 0], prompt=lines, prompt_per_line=True, seed=1)
    )
    assert sources(run) == ["new"] * 4
    images = json.loads(run.outputs["show"]["text"][0])["images"]
    places = [(image["image_index"], image["prompt_index"]) for image in images]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    faces = []  # and their negatives
    for path in run.images["save"]:
        with Image.open(path) as picture:
            assert picture.size == (256, 320)
            faces.append(picture.getpixel((128, 100))[0])
    assert faces[0] > faces[2]
    assert faces[1] > faces[3]
    assert (service.paid, service.requests["upload"]) == (4, 2)


def interrupt_when(server: ComfyServer, holds: Callable[[], bool], asked: list[float]) -> None:
    """Press Cancel as soon as a condition holds."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.02)
        asked.append(time.monotonic())
        server.interrupt()

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize(
    ("seed", "endpoint", "fault"),
    [
        (10, "upload", "hang_before"),
        (11, "submit", "hang_after"),
        (12, "result", None),
        (13, "file", "hang_before"),
    ],
)
def test_cancel(seed, endpoint, fault, remote_server, service):
    """Ends within a second, the next prompt runs, and a later run collects what was paid."""
    paid, before = service.paid, service.requests[endpoint]
    service.generation_s = 0.0 if fault else 5.0
    if fault:
        service.fail(endpoint, fault)
    asked: list[float] = []
    interrupt_when(remote_server, lambda: service.requests[endpoint] > before, asked)
    prompt = graph({"own": own_photo(seed)}, seed=seed, image=["own", 0])
    run = remote_server.run(prompt)
    ended = time.monotonic()
    assert run.error.message == "interrupted"
    assert ended - asked[0] < 1.0 + 0.5  # and half a second for this machine's own delays
    assert remote_server.run(LOCAL).error is None
    calm_service(service)
    (source,) = sources(remote_server.run(prompt))
    assert source in ("new", "resumed", "adopted")
    assert service.paid == paid + 1
    assert service.paid_twice == 0


def calm_service(service: Standin) -> None:
    service.generation_s = 0.0
    service._faults.clear()


def test_what_cancel_says(remote_server, service):
    """The line on the node says how many pictures will be billed all the same."""
    service.generation_s = 5.0
    before = len(service.jobs)
    texts = []

    def hear(kind, data):
        if kind == "progress_text":
            texts.append(data["text"])

    interrupt_when(remote_server, lambda: len(service.jobs) > before, [])
    remote_server.run(graph(seed=20), on_event=hear)
    assert any("1 image(s) are already being generated or ready" in text for text in texts), texts


def test_two_nodes_side_by_side(remote_server, service):
    """Both predictions are under way at the same time."""
    service.generation_s = 4.0
    extra = {
        "remote_b": remote(seed=31),
        "save_b": {
            "class_type": "SaveImage",
            "inputs": {"images": ["remote_b", 0], "filename_prefix": "b"},
        },
    }
    before = set(service.jobs)
    run = remote_server.run(graph(extra, seed=30))
    assert run.error is None
    assert run.images["save"]
    assert run.images["save_b"]
    first, second = (job for name, job in service.jobs.items() if name not in before)
    assert abs(first.created_s - second.created_s) < service.generation_s


def test_local_sampler_meanwhile(remote_server, service):
    """A local model samples while the service generates; both pictures come."""
    service.generation_s = 5.0  # FLUX is loaded meanwhile
    local = portrait(sampler={"model": ["flux", 0], "steps": 20, "seed": 5})
    local = {name: node for name, node in local.items() if name not in ("apply", "loader")}
    local["save_local"] = local.pop("save")
    events = []
    run = remote_server.run(
        graph(local, seed=40), on_event=lambda kind, data: events.append((kind, data.get("node")))
    )
    assert run.error is None
    assert run.images["save"]
    assert run.images["save_local"]
    begin, step = events.index(("executing", "remote")), events.index(("progress", "sampler"))
    assert begin < step < events.index(("executed", "save"))


def test_too_expensive(remote_server, service):
    """Refused before the photo is uploaded."""
    before = service.requests["upload"], service.paid
    run = remote_server.run(graph(seed=50, num_images=5, max_cost_usd=0.09))
    assert "about $0.10 for 5 image(s), above max_cost_usd=$0.09" in run.error.message
    assert_page_helps(run)
    assert (service.requests["upload"], service.paid) == before


def test_error_names_the_prediction(remote_server, service):
    """What the user sees holds the service's reason, the id, and what it really cost."""
    service.fail_next_prediction("failed", 5000, "worker lost")
    run = remote_server.run(graph(seed=60))
    failed = list(service.jobs)[-1]
    assert run.error.node_id == "remote"
    assert_page_helps(run)
    for part in ("worker lost", failed, "not billed by WaveSpeed's account"):
        assert part in run.error.message


@pytest.mark.parametrize(("inputs", "text"), [({"prompt": "  "}, "blank"), ({"size": "9"}, "1024")])
def test_refused_when_queued(inputs, text, remote_server):
    """A blank prompt or a malformed size does not even start, and is said once."""
    run = remote_server.run(graph(seed=70, **inputs))
    (error,) = run.node_errors["remote"]["errors"]
    assert text in error["details"]


def test_account(remote_server):
    """Key found, balance, price; never the key."""
    run = remote_server.run(ACCOUNT)
    (report,) = run.outputs["account"]["text"]
    assert report.startswith("Key found. Balance $")
    assert "One image costs $0.020." in report
    assert KEY not in report


# The same base folder after a restart in the middle of a generation, the key not in the environment


@pytest.fixture(scope="module")
def restarted_server(remote_server, service, comfyui_dir, base_dir, stage, said):
    service.generation_s = 600.0
    before = len(service.jobs)
    body = {"prompt": graph(seed=80)}
    requests.post(f"{remote_server.url}/prompt", json=body, timeout=60).raise_for_status()
    deadline = time.monotonic() + 60
    while len(service.jobs) == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if os.name == "posix":
        remote_server.press_ctrl_c(timeout_s=120)  # it does not wait ten minutes for the picture
    remote_server.stop()
    service.generation_s = 0.1
    said.append(remote_server.log_text())
    with talker(service, comfyui_dir, base_dir, stage, said, key="") as server:
        yield server


def test_no_key(restarted_server, service, base_dir):
    """The sentence says where the key belongs, nothing is sent, and the next prompt runs."""
    before = sum(service.requests.values())
    run = restarted_server.run(graph(seed=90))
    assert "No WaveSpeed API key. Set WAVESPEED_API_KEY or put it into" in run.error.message
    assert str(base_dir / STATE / "api_key") in run.error.message
    (report,) = restarted_server.run(ACCOUNT).outputs["account"]["text"]
    assert report.startswith("No key found")
    assert restarted_server.run(LOCAL).error is None
    assert sum(service.requests.values()) == before


def test_no_real_key_for_the_standin(restarted_server, service, base_dir):
    """The test pack refuses a key that is not made for it, before anything is sent."""
    before = sum(service.requests.values())
    (base_dir / STATE / "api_key").write_text("as-real-as-can-be")
    (base_dir / STATE / "api_key").chmod(0o600)
    run = restarted_server.run(graph(seed=91))
    assert "takes no real key" in run.error.message
    assert sum(service.requests.values()) == before


def test_after_restart(restarted_server, service, base_dir):
    """With the key in the file: what was delivered or under way costs nothing more."""
    path = base_dir / STATE / "api_key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    paid = service.paid
    assert sources(restarted_server.run(graph(seed=80))) == ["resumed"]
    assert sources(restarted_server.run(graph(seed=30))) == ["cache"]
    shutil.rmtree(base_dir / STATE / "results")
    assert sources(restarted_server.run(graph(seed=40))) == ["resumed"]
    assert service.paid == paid


PAGES = [
    *("object_info", "history", "queue", "system_stats", "prompt", "extensions", "settings"),
    *("internal/logs", "internal/logs/raw", "userdata?dir=.&recurse=true", "v2/userdata"),
    "userdata/..%2F__wavespeed_flux_pulid%2Fapi_key",
    "userdata/%2e%2e%2f__wavespeed_flux_pulid%2fapi_key",
    "view?filename=api_key&subfolder=../user/__wavespeed_flux_pulid&type=output",
]


def test_canaries(restarted_server, base_dir, said):
    """After all of the above, key and signatures are nowhere; prompts are in no log or record."""
    for page in PAGES:
        answer = requests.get(f"{restarted_server.url}/{page}", timeout=60)
        said += [answer.text, str(answer.headers)]
    bad = requests.post(
        f"{restarted_server.url}/prompt", json={"prompt": graph(seed="no", size=3)}, timeout=60
    )
    assert bad.status_code == 400
    said.append(bad.text)
    said.append(restarted_server.log_text())
    heard = b"\n".join(part.encode() if isinstance(part, str) else part for part in said)
    assert b"WaveSpeed prediction" in heard  # the search looks at the right thing
    files = {path: path.read_bytes() for path in base_dir.rglob("*") if path.is_file()}
    holders = [path.relative_to(base_dir) for path in files if KEY.encode() in files[path]]
    assert holders == [STATE / "api_key"]
    for secret in (KEY, SIGNATURE):
        assert secret.encode() not in heard
    assert not [path for path in files if SIGNATURE.encode() in files[path] and is_ours(path)]
    private = [path for path in files if STATE.name in path.parts or path.suffix == ".log"]
    assert private
    assert not [path for path in private if PROMPT.encode() in files[path]]


def is_ours(path: Path) -> bool:
    """Whether a run wrote it; the copied packs are sources."""
    return "custom_nodes" not in path.parts
