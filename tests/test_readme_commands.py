"""A newcomer's walk: every command of README.md (in both languages), of CONTRIBUTING.md and of the pages
in docs, as it stands there, in a fresh folder and home.

The repository is cloned from this checkout's last commit. What takes minutes to install is not
installed twice: each clone is given this checkout's virtual environment, ComfyUI and stage.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import pytest
from pulid_pack.devtools import comfyui_source, commands, portrait_workflow, setup, steps
from pulid_pack.pulid_core.wavespeed.credentials import KEY_VARIABLE
from pulid_pack.tests.old_workflows import old_graphs

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("README.md", "README.zh.md", "CONTRIBUTING.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
CLONE = "git clone https://github.com/pulid-for-flux/pulid-for-flux"
PACK = "pulid-for-flux"

SHELLS = ("", "bash", "powershell")
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(
    r"`((?:python (?:dev|pulid)\.py|pip install|git clone|hf auth|export|setx|python_embeded\\)[^`]*)`"
)
COMMENT = re.compile(r"\s+#\s.*")

WINDOWS = ("setx ", "python_embeded\\")
"""A block that holds one of these is for Windows."""
NOT_RUN = {
    "python dev.py test": "it would run this test again",
    "python dev.py test --fast": "a part of `dev.py test`, which runs this test",
    "python dev.py bench": "measures for many minutes, on a quiet machine",
    "python dev.py bench encode": "a part of bench",
    "python dev.py bench gpu": "needs an NVIDIA card",
    "python dev.py demo --remote --live": "spends money",
    "python dev.py pictures": "a part of `dev.py test`: the browser tests, with their pictures kept",
    "python dev.py bench portraits": "a part of bench",
    "python pulid.py portraits": "the name of the command; tests/portraits",
    "python pulid.py evaluate": "the name of the command; tests/evaluation",
    "python pulid.py convert": "the name of the command; it is run with its files",
    "hf auth login": "asks for an account's token",
    'pip install "distributed>=2025.1,<2027"': "is in this checkout's .venv",
    "python pulid.py portraits table.csv --graph portrait.json --servers "
    "http://10.0.0.5:8188 http://10.0.0.6:8188": "needs two servers; tests/real_comfyui/test_portraits",
    "python pulid.py portraits table.csv --servers wavespeed --max-cost 1": "spends money",
    "python pulid.py evaluate people --quick --graph portrait.json --judges "
    "../../models/insightface/models/antelopev2 ../../models/insightface/models/auraface": "needs a server and AuraFace; tests/evaluation",
    "python pulid.py remote list": "asks WaveSpeed, with a key",
    **dict.fromkeys(
        (
            "pip install --force-reinstall --no-deps onnxruntime-gpu",
            'pip install --force-reinstall --no-deps "opencv-contrib-python<5"',
            'pip install --force-reinstall --no-deps "opencv-python-headless<5"',
        ),
        "another build, into this checkout's .venv",
    ),
}
"""Commands that are not run here, and why."""
STAND_INS = {
    "path/to/ComfyUI/models": "../../models",
    "me.jpg": "../../../photo.png",
    "OLD.json": "../../../old.json",
    "NEW.json": "../../../new.json",
    "models NAME": "models ae.safetensors",
    "your-key": "0123456789",
}
"""What a reader replaces, and what it is here, seen from the pack's folder."""

PASSED_ON = re.compile(r"PIP_.*|(https?|no)_proxy", re.IGNORECASE)
"""Variables without which this machine may not reach PyPI."""

Script = tuple[str, ...]


def scripts(text: str) -> list[Script]:
    """The commands of each block, and each command within a sentence; each once."""
    blocks = [body.splitlines() for _, shell, body in FENCED.findall(text) if shell in SHELLS]
    inline = [[" ".join(command.split())] for command in INLINE.findall(FENCED.sub("", text))]
    found = [tuple(COMMENT.sub("", line).strip() for line in lines) for lines in blocks + inline]
    return list(dict.fromkeys(found))


SCRIPTS = scripts(TEXT)
COMMANDS = {command for script in SCRIPTS for command in script}
FOR_BASH = [
    kept
    for script in SCRIPTS
    if not any(command.startswith(WINDOWS) for command in script)
    if (kept := tuple(command for command in script if command not in NOT_RUN))
]
RUN = [
    script
    for script in dict.fromkeys(FOR_BASH)
    if not any(set(script) < set(other) for other in FOR_BASH)  # it is run there
]


@dataclass(frozen=True)
class Newcomer:
    """Somebody with git and Python, and a ComfyUI in `folder` that has the pack and the models."""

    folder: Path
    venv: Path
    cache: Path

    @property
    def pack(self) -> Path:
        return self.folder / "ComfyUI" / "custom_nodes" / PACK

    def run(self, script: Script, folder: Path) -> str:
        """Run commands in one shell, and return what they print."""
        done = subprocess.run(
            ["bash", "-eu", "-c", "\n".join(map(self._with_shared_folders, script))],  # noqa: S607
            cwd=folder,
            env={
                **{name: os.environ[name] for name in os.environ if PASSED_ON.fullmatch(name)},
                "HOME": str(self.folder),
                "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def _with_shared_folders(self, command: str) -> str:
        if command != CLONE:
            return command
        links = {".venv": self.venv, ".dev": self.cache}
        lines = [f"ln -s {shlex.quote(str(to))} {PACK}/{name}" for name, to in links.items()]
        return "\n".join([command, *lines])


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory, comfyui_dir, stage, demo_photo) -> Newcomer:
    """With the pack cloned into a ComfyUI, by the README's own command."""
    same = ["git", "diff", "--quiet", "HEAD", "--", *setup.REQUIREMENTS]
    if subprocess.run(same, cwd=ROOT, check=False).returncode:
        pytest.fail(
            f"Commit the changes to {', '.join(setup.REQUIREMENTS)} first: the clone holds the last "
            "commit's, and would install those into this checkout's .venv."
        )
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / ".gitconfig").write_text(
        f'[url "{ROOT.as_posix()}"]\n    insteadOf = {CLONE.split()[-1]}\n'
        "[safe]\n    directory = *\n",
        encoding="utf-8",
    )
    (folder / "photo.png").write_bytes(demo_photo.read_bytes())
    prompt = old_graphs.prompt(old_graphs.SIPIE)
    (folder / "old.json").write_text(json.dumps(prompt), encoding="utf-8")
    newcomer = Newcomer(folder, Path(sys.prefix), shared_cache(folder, comfyui_dir, stage))
    newcomer.pack.parent.mkdir(parents=True)
    (folder / "ComfyUI" / "models").symlink_to(stage)
    newcomer.run((CLONE,), newcomer.pack.parent)
    return newcomer


def shared_cache(folder: Path, comfyui: Path, stage: Path) -> Path:
    """A `.dev` whose every ComfyUI fits the tiny stage, also where real models are expected."""
    cache = folder / "cache"
    for name in ("comfyui", "stage"):
        (cache / name).mkdir(parents=True)
    for suffix in ("", "-tiny-t5"):
        (cache / "comfyui" / f"{comfyui_source.NEWEST}{suffix}").symlink_to(comfyui)
    (cache / "stage" / "models").symlink_to(stage)
    return cache


def with_stand_ins(command: str) -> str:
    for placeholder, stand_in in STAND_INS.items():
        command = command.replace(placeholder, stand_in)
    return command


@pytest.mark.slow
@pytest.mark.comfy
@pytest.mark.skipif(os.name == "nt", reason="the shell is bash")
@pytest.mark.parametrize("script", RUN, ids=" && ".join)
def test_commands_run(script: Script, newcomer: Newcomer, tmp_path: Path):
    """From an empty folder where they clone, otherwise in the installed pack's folder."""
    folder = tmp_path if CLONE in script else newcomer.pack
    newcomer.run(tuple(map(with_stand_ins, script)), folder)
    if "python pulid.py convert OLD.json NEW.json" in script:
        converted = (newcomer.folder / "new.json").read_text(encoding="utf-8")
        assert "PulidApplyFlux" in converted


@pytest.mark.parametrize("command", sorted(c for c in COMMANDS if c.startswith(WINDOWS)))
def test_windows_commands_name_what_exists(command: str):
    """The variable that the pack reads, or a file of the repository below the pack's folder."""
    if command.startswith("setx"):
        assert command.split()[1:] == [KEY_VARIABLE, '"your-key"']
    else:
        words = map(PureWindowsPath, command.split())
        (path,) = (word for word in words if word.is_relative_to(rf"ComfyUI\custom_nodes\{PACK}"))
        assert (ROOT / Path(*path.parts[3:])).is_file()


@pytest.fixture
def collected(monkeypatch, capfd, tmp_path) -> Callable[[], str]:
    """Makes `dev.py` list the tests that it would run; gives the list so far."""
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only -q")
    return lambda: capfd.readouterr().out


@pytest.mark.slow
def test_fast_selects_what_needs_no_comfyui(collected):
    assert not any(step.failed for step in steps.run(commands.fast_jobs([])))
    names = collected()
    assert "::test_every_exception_is_a_command_of_the_readme[" in names
    assert "::test_while_it_is_generated" in names
    assert "::test_commands_run[" not in names
    assert "real_comfyui/test_workflows.py" not in names


@pytest.mark.slow
def test_pictures_selects_every_test_that_takes_one(collected, monkeypatch):
    for name in ("set_up", "make_stage"):
        monkeypatch.setattr(commands, name, lambda: None)
    monkeypatch.setattr(commands, "in_venv", lambda *_: 0)  # draws the cards
    assert commands.pictures(None) == 0
    names = collected()
    for name in ("test_picture", "test_template_browser_shows_every_workflow_in_a_picture"):
        assert f"::{name}[newest" in names
    for path in portrait_workflow.FOLDER.glob("*.json"):
        assert f"_gives_a_picture[newest-{path.stem}]" in names


def test_the_key_is_exported_under_the_name_that_the_pack_reads():
    assert f'export {KEY_VARIABLE}="your-key"' in COMMANDS


@pytest.mark.parametrize("command", [CLONE, *NOT_RUN])
def test_every_exception_is_a_command_of_the_readme(command: str):
    assert command in COMMANDS


@pytest.mark.parametrize("placeholder", STAND_INS)
def test_every_stand_in_stands_for_something(placeholder: str):
    assert any(placeholder in command for command in COMMANDS)


def test_commands_are_found_where_a_reader_sees_them():
    """In blocks, also within lists, and in sentences; not in Python, and without comments."""
    text = (
        "Type `python dev.py\n  demo`, not `python` or `demo`.\n"
        "```\ncd a  # there\n\npython dev.py  x\n```\n"
        "* list\n\n  ```bash\n  pip install -r a.txt\n  ```\n"
        "```python\nimport os\n```\n```powershell\nsetx A b\n```\n"
    )
    assert scripts(text) == [
        ("cd a", "", "python dev.py  x"),
        ("pip install -r a.txt",),
        ("setx A b",),
        ("python dev.py demo",),
    ]
