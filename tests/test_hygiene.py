"""What the shipped code never does, beyond what ruff's S rules find: see SECURITY.md."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pulid_pack.tests.start_up import WATCH, loaded_and_watched

ROOT = Path(__file__).resolve().parents[1]
NOT_SHIPPED = {
    line.strip("/\n") for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
}
SHIPPED = sorted(
    path
    for top in ROOT.iterdir()
    if top.name not in NOT_SHIPPED and not top.name.startswith(".")
    for path in ([top] if top.suffix == ".py" else top.rglob("*.py"))
)
RUNS_DATA = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)|runpy\.\w+|torch\.(hub|serialization)\.\w+|torch\.jit\.load"
    r"|(_?pickle|marshal|dill|cloudpickle|joblib|shelve|ctypes)\.(?!UnpicklingError)\w+|.+\.\*"
)
"""Calls that turn data into code, modules of which nothing is used but the name of an error, and
imports of nobody knows what."""
STARTS_PROCESSES = re.compile(
    r"(subprocess|multiprocessing|pip|ensurepip|venv|pty)\..*|asyncio\.create_subprocess_\w+"
    r"|os\.(system|popen|exec|spawn|posix_spawn|fork)\w*"
)
SAFE_CALLS: dict[str, Callable[[ast.Call], bool]] = {
    "torch.load": lambda call: "weights_only=True" in map(ast.unparse, call.keywords),
    "numpy.load": lambda call: len(call.args) == 1 and not call.keywords,
    "importlib.import_module": lambda call: (
        isinstance(call.args[0], ast.Constant)
        and not any(
            kind.fullmatch(f"{call.args[0].value}.x") for kind in (RUNS_DATA, STARTS_PROCESSES)
        )
    ),
}
"""What may be called in one way only, and is not handed around."""
SILENCED = {"S608"}
"""Ruff's security rules that a line may switch off: a query of literals."""


def origins(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `p` for `pickle` after `import pickle as p`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def used_names(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every name that is used or imported from a module, by its origin, and where."""
    known = origins(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            yield known.get(first, first) + dot + rest, node
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def sins(code: str) -> list[str]:
    """What a source text does that it should not, as `line: name`."""
    tree = ast.parse(code)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}

    def is_sin(name: str, node: ast.AST) -> bool:
        if name in SAFE_CALLS:
            call = calls.get(id(node))
            return call is None or not SAFE_CALLS[name](call)
        return bool(RUNS_DATA.fullmatch(name) or STARTS_PROCESSES.fullmatch(name))

    found = [f"{node.lineno}: {name}" for name, node in used_names(tree) if is_sin(name, node)]
    return found + silenced(code)


def silenced(code: str) -> list[str]:
    """The security rules of ruff that lines switch off, one by one or all together."""
    return [
        f"{number}: noqa {rule}"
        for number, line in enumerate(code.splitlines(), 1)
        for rules in re.findall(r"# noqa:? ?((?:[A-Z]+\d+(?:, )?)*)", line)
        for rule in rules.split(", ")
        if not rule or (re.fullmatch(r"S\d+", rule) and rule not in SILENCED)
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shipped_code_runs_no_data_and_starts_nothing(path: Path):
    code = path.read_text(encoding="utf-8")
    assert sins(code) == []


def test_all_that_is_shipped_is_looked_at():
    tops = {path.relative_to(ROOT).parts[0] for path in SHIPPED}
    assert tops == {"__init__.py", "nodes", "pulid_core", "pulid.py"}


@pytest.mark.parametrize(
    "code",
    [
        "compile('1', '', 'exec')",
        "f = eval",
        "import builtins\nbuiltins.eval('1')",
        "from builtins import exec as run",
        "__import__('os')",
        "import importlib as i\ni.import_module(x)",
        "from importlib import import_module as load\nload(x)",
        "import importlib\nimportlib.import_module('pip')",
        "import importlib\nimportlib.import_module('pickle')",
        "import pickle as p\np.loads(b'')",
        "from pickle import Unpickler",
        "from pickle import *",
        "import _pickle\n_pickle.loads(b'')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import torch\ntorch.load('x')",
        "from torch import load\nload('x', weights_only=False)",
        "import torch\nload = torch.load",
        "import torch.hub\ntorch.hub.load('a', 'b')",
        "import torch\ntorch.serialization.load('x')",
        "from subprocess import run",
        "import subprocess\nsubprocess.run(['pip'])",
        "from os import execv",
        "import os\nos.fork()",
        "import pty\npty.spawn('sh')",
        "import asyncio\nasyncio.create_subprocess_exec('pip')",
        "x = 1  # noqa",
        "x = 1  # noqa: E501, S501",
    ],
)
def test_a_sin_is_found(code: str):
    """Under whichever name."""
    assert sins(code)


def test_what_is_allowed_is_allowed():
    assert not sins(
        "import pickle, re, torch\ntry:\n  re.compile('')\nexcept pickle.UnpicklingError: 0"
    )
    assert not sins("import torch\ntorch.load('x', weights_only=True)  # noqa: S608 - why")
    assert not sins("import importlib, numpy\nimportlib.import_module('re')\nnumpy.load('x')")


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import socket\nsocket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("open('file', 'w')", "open"),
        ("import subprocess\nsubprocess.run([sys.executable, '-V'])", "subprocess.Popen"),
    ],
)
def test_the_watch_notices(code: str, event: str, tmp_path: Path):
    command = [sys.executable, "-c", f"import sys\n{WATCH}\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{event} (")


def test_loading_the_pack_reaches_no_network_and_writes_nothing(matrix_comfyui_dir):
    """From ComfyUI's import to every node's schema: no connection, no process, no file, anywhere."""
    done = loaded_and_watched(matrix_comfyui_dir)
    assert done.returncode == 0, done.stderr


WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_name_no_place_on_a_machine(path: Path):
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")), ensure_ascii=False)
    assert not re.findall(r'[\s"(](?:/|~/|[A-Za-z]:\\\\)[\w.~-]+[/\\][^"\s]*|file://', text)
