"""What the registry gets: validated, packed, whole by itself, and without what its scanner reports."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
REVIEW = ROOT / ".github" / "registry-review.md"
PATTERNS = {
    "network": r"(?<!sqlite3)\.(connect|bind|send|recv)\(|\brequests\.(get|post|put|delete|request)\("
    r"|\baiohttp\.ClientSession|\burllib\.request|\bhttpx\.",
    "environment": r"\bos\.(environ|getenv|putenv)",
    "process": r"\bsubprocess\b|\bos\.(system|popen)\(",
    "database": r"\b(sqlite3|psycopg2|pymysql|MySQLdb)\.connect\(",
    "code": r"(?<![.\w])(eval|exec)\(|\b__import__\(|\bimport_module\(|\bpickle\.|\bmarshal\.",
    "raw address": r"\braw\.githubusercontent\.com|\bpastebin\.com",
}
"""By what publishers report of the registry's rules; they hold for prose as for code."""
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[\w-]+)?\)")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The files of this checkout as they would be committed, in a repository of their own."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folder = tmp_path_factory.mktemp("tree")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=folder, check=True)  # noqa: S607
    return folder


def comfy(tree: Path, *arguments: str) -> str:
    """Run comfy-cli there, with a home of its own and without telemetry."""
    done = subprocess.run(
        [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", *arguments],
        cwd=tree,
        env=os.environ | {"HOME": str(tree.parent), "DO_NOT_TRACK": "1", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def archive(tree) -> dict[str, bytes]:
    """What would be published, by name."""
    comfy(tree, "node", "pack")
    with zipfile.ZipFile(tree / "node.zip") as packed:
        return {name: packed.read(name) for name in packed.namelist()}


@pytest.fixture(scope="module")
def texts(archive) -> dict[str, str]:
    pictures = (".jpg", ".png")
    return {name: data.decode() for name, data in archive.items() if not name.endswith(pictures)}


def test_it_is_valid(tree):
    told = comfy(tree, "node", "validate")
    assert "passed" in told
    assert "rror" not in told


def test_only_what_users_need_is_in_it(archive):
    tops = {name.partition("/")[0] for name in archive}
    assert tops == {
        *(".comfyignore", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "README.zh.md"),
        *("SECURITY.md", "__init__.py", "docs", "locales", "nodes", "pulid.py", "pulid_core"),
        *("pyproject.toml", "requirements.txt", "subgraphs", "web", "workflows"),
    }
    assert sum(map(len, archive.values())) < 4_000_000


def folder_of(page: str) -> str:
    """Where a page's links begin: ComfyUI's help panel looks for all pictures in one folder."""
    return "web/docs" if page.startswith("web/docs/") else os.path.dirname(page)  # noqa: PTH120


def test_no_link_in_it_is_dead(texts, archive):
    known = {*archive, *(f"{'/'.join(n.split('/')[:i])}" for n in archive for i in range(1, 9))}
    dead = [
        f"{name}: {link}"
        for name, text in texts.items()
        if name.endswith(".md")
        for link in LINK.findall(text)
        if not link.startswith(("https://", "http://"))
        and os.path.normpath(os.path.join(folder_of(name), unquote(link))) not in known  # noqa: PTH118
    ]
    assert dead == []


def test_every_page_is_one_click_from_the_readme(texts):
    linked = set(LINK.findall(texts["README.md"]))
    pages = {name for name in texts if re.fullmatch(r"docs/[\w-]+\.md", name)}
    assert pages <= linked
    assert len(texts["README.md"].splitlines()) <= 300
    chinese = set(LINK.findall(texts["README.zh.md"]))
    assert {"README.md", "docs/troubleshooting.md", "docs/old-workflows.md"} <= chinese


def test_headings_that_are_linked_are_there(texts):
    for name in ("README.md", "README.zh.md"):
        slugs = {
            re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in texts[name].splitlines()
            if line.startswith("#")
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", texts[name])) <= slugs


def test_what_the_scanner_reports_is_explained_for_a_review(texts):
    found = {
        (name, kind)
        for name, text in texts.items()
        for kind, pattern in PATTERNS.items()
        if re.search(pattern, text)
    }
    rows = re.findall(
        r"^\| `(.+?)` \| (.+?) \| .{20,} \|$", REVIEW.read_text("utf-8"), re.MULTILINE
    )
    assert found == set(rows)
    assert not any(name.endswith(".md") for name, _ in found)


def test_the_metadata_are_whole(tree):
    project = (tree / "pyproject.toml").read_text(encoding="utf-8")
    for line in ("Icon", "Banner", "PublisherId", "DisplayName", "requires-comfyui"):
        assert re.search(rf'^{line} = "', project, re.MULTILINE)
    for address in re.findall(
        r'= "https://github.com/pulid-for-flux/pulid-for-flux/blob/main/([\w./-]+)', project
    ):
        assert (tree / address).is_file()


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.stem
)
def test_githubs_files_can_be_read(path):
    """And what was never run there says so."""
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    assert path.parent.name != "workflows" or "never run there yet" in text


def test_pip_installs_the_core_under_a_name_of_its_own(tree, tmp_path):
    """`pip install .` brings pulid_for_flux and nothing else: no `nodes`, no `tests`."""
    install = ["install", "--no-deps", "--no-build-isolation", "-q", "--target", str(tmp_path), "."]
    subprocess.run([sys.executable, "-m", "pip", *install], cwd=tree, check=True)
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".dist-info")} == {
        "pulid_for_flux"
    }
    folders = {
        path.parent.relative_to(ROOT / "pulid_core") for path in (ROOT / "pulid_core").rglob("*.py")
    }
    installed = tmp_path / "pulid_for_flux"
    assert {path.parent.relative_to(installed) for path in installed.rglob("*.py")} == folders
    code = "from pulid_for_flux import wavespeed, old_workflows; import pulid_for_flux.model_files.catalogue"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True
    )
