"""The generated parts of the nodes' help pages and of docs/models.md.

ComfyUI shows `web/docs/<node id>.md` as a node's help. Inputs and outputs come from /object_info, the
errors from docs/troubleshooting.md, models from the catalogue; prose is written by hand
around them. A node without a page gets a first one. Started by `python dev.py pages`, which prepares what the arguments name.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import registration
from comfyui import PACK_NAME, ROOT, ComfyServer, Run

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.pulid_core.model_files.catalogue import models_table  # noqa: E402

PAGES = Path("web") / "docs"
MODELS = Path("docs/models.md")
TROUBLESHOOTING = Path("docs/troubleshooting.md")
TROUBLESHOOTING_URL = (
    f"https://github.com/pulid-for-flux/pulid-for-flux/blob/main/{TROUBLESHOOTING.as_posix()}"
)
TRANSLATIONS = Path("locales/zh/nodeDefs.json")
GENERATED = re.compile(r"<!-- (models|inputs|outputs|errors) -->\n.*?<!-- /\1 -->", re.DOTALL)
FOUND_HERE = {"auto", "none"}
"""Choices that stand among names of files and devices, which differ from machine to machine."""
ROW = re.compile(r"\|(.+)\|(.+)\|(.+)\|")
KINDS = {
    "FLOAT": "number",
    "INT": "whole number",
    "STRING": "text",
    "BOOLEAN": "switch",
    "COMBO": "choice",
}
FIRST_PAGE = """# {display_name}

{description}

![The node {display_name}]({name}.jpg)

## When to use it

## Inputs

<!-- inputs -->
<!-- /inputs -->

## Outputs

<!-- outputs -->
<!-- /outputs -->

## Tips

## Errors

<!-- errors -->
<!-- /errors -->
"""

CHINESE_PAGE = """# {display_name}

{description}

![节点：{display_name}]({name}.jpg)

## 输入

{inputs}

## 输出

{outputs}

## 出错时

错误信息为英文：先说需要什么，再说实际是什么，最后说怎么做。
每条信息的说明（英文）见[疑难解答]({troubleshooting})。
"""
CHINESE_KINDS = {
    "FLOAT": "数值",
    "INT": "整数",
    "STRING": "文本",
    "BOOLEAN": "开关",
    "COMBO": "选项",
}

NodeInfo = dict[str, Any]
"""One node of ComfyUI's /object_info."""


@dataclass(frozen=True)
class Trouble:
    """One row of the troubleshooting tables."""

    messages: tuple[str, ...]
    """Error texts; … stands for what differs from case to case."""
    remedy: str
    nodes: frozenset[str]
    """What can raise them: node ids, mostly."""

    def fits(self, text: str) -> bool:
        """Whether one of the messages stands in a text."""
        patterns = (".*".join(map(re.escape, message.split("…"))) for message in self.messages)
        return any(re.search(pattern, text, re.DOTALL) for pattern in patterns)


def generate(object_info: dict[str, NodeInfo], root: Path = ROOT) -> dict[Path, str]:
    """Give docs/models.md and every help page as they should be, by path below the root.

    Args:
        object_info: All nodes of a ComfyUI with this pack.
        root: The pack, whose prose is kept.
    """
    nodes = {
        name: info
        for name, info in object_info.items()
        if info["python_module"] == f"custom_nodes.{PACK_NAME}"
    }
    models = (root / MODELS).read_text(encoding="utf-8")
    troubles = troubleshooting((root / TROUBLESHOOTING).read_text(encoding="utf-8"))
    translated = json.loads((root / TRANSLATIONS).read_text(encoding="utf-8"))
    files = {MODELS: fill(models, {}, troubles)}
    for name, info in nodes.items():
        page = root / PAGES / f"{name}.md"
        text = page.read_text(encoding="utf-8") if page.exists() else FIRST_PAGE.format(**info)
        files[PAGES / page.name] = fill(text, info, troubles)
        files[PAGES / name / "zh.md"] = chinese_page(info, translated[name])
    return files


def chinese_page(info: NodeInfo, translated: dict[str, Any]) -> str:
    """A node's help in Chinese, of the texts that its widgets have in that language."""
    inputs = []
    for name, kind, options, is_optional in described_inputs(info):
        text = translated["inputs"][name]
        facts = [" / ".join(CHINESE_KINDS.get(one, code(one)) for one in kind.split(","))]
        facts += [
            f"{number(options['min'])} 至 {number(options['max'])}" if "min" in options else ""
        ]
        facts += ["可选" if is_optional else ""]
        inputs.append(f"**{text['name']}** ({'，'.join(filter(None, facts))})：{text['tooltip']}")
    outputs = [
        f"**{text['name']}**：{text['tooltip']}" for text in translated.get("outputs", {}).values()
    ]
    return CHINESE_PAGE.format(
        name=info["name"],
        display_name=translated["display_name"],
        description=translated["description"],
        inputs=bullets(inputs, "没有。"),
        outputs=bullets(outputs, "没有。"),
        troubleshooting=TROUBLESHOOTING_URL,
    )


def fill(text: str, info: NodeInfo, troubles: list[Trouble]) -> str:
    """Write what stands between markers; a page of a node is filled with what that node has."""

    def between_markers(found: re.Match[str]) -> str:
        kind = found[1]
        if kind == "models":
            content = f"\n{models_table()}\n"
        elif kind == "inputs":
            content = inputs_list(info)
        elif kind == "outputs":
            content = outputs_list(info)
        else:
            content = errors_list(info, troubles)
        return f"<!-- {kind} -->\n{content}\n<!-- /{kind} -->"

    return GENERATED.sub(between_markers, text)


def described_inputs(info: NodeInfo) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Name, kind, options of each input, and whether it is optional."""
    for group in ("required", "optional"):
        for name, (kind, options) in info["input"].get(group, {}).items():
            yield name, kind, options, group == "optional"


def inputs_list(info: NodeInfo) -> str:
    """An entry for each input; ComfyUI's help panel is too narrow for a table."""
    entries = []
    for name, kind, options, is_optional in described_inputs(info):
        facts = [kind_text(kind), allowed(options)]
        facts += [f"default {default(options)}" if default(options) else ""]
        facts += ["optional" if is_optional else ""]
        entries.append(f"**{name}** ({', '.join(filter(None, facts))}): {options['tooltip']}")
    return bullets(entries)


def outputs_list(info: NodeInfo) -> str:
    """An entry for each output."""
    kinds = [
        kind_text(kind) + (", one per run" if is_list else "")
        for kind, is_list in zip(info["output"], info["output_is_list"], strict=True)
    ]
    outputs = zip(info["output_name"], kinds, info["output_tooltips"], strict=True)
    return bullets(f"**{name}** ({kind}): {tooltip}" for name, kind, tooltip in outputs)


def errors_list(info: NodeInfo, troubles: list[Trouble]) -> str:
    """The troubles that this node can raise."""
    return bullets(
        f"{' or '.join(map(code, trouble.messages))}: {trouble.remedy}"
        for trouble in troubles
        if info["name"] in trouble.nodes
    )


def bullets(entries: Iterable[str], none: str = "None of its own.") -> str:
    """A list, or the word that there is nothing."""
    return "\n".join(f"* {entry}" for entry in entries) or none


def troubleshooting(page: str) -> list[Trouble]:
    """Read the tables of docs/troubleshooting.md."""
    return [
        Trouble(tuple(messages), remedy.strip(), frozenset(re.findall(r"\w+", nodes)))
        for texts, remedy, nodes in ROW.findall(page)
        if (messages := re.findall(r"`([^`]+)`", texts))
    ]


def assert_page_helps(run: Run) -> None:
    """docs/troubleshooting.md has a row for what ended a run, and it names the node."""
    refused = {entry["class_type"] for entry in run.node_errors.values()}
    told = "".join([run.error.message, *map(str, run.node_errors.values())])
    page = (ROOT / TROUBLESHOOTING).read_text("utf-8")
    rows = [row for row in troubleshooting(page) if row.fits(told)]
    assert any((refused or {run.error.node_type}) <= row.nodes for row in rows), (told, rows)


def kind_text(kind: str) -> str:
    """A word for a widget; a socket's own name."""
    return " or ".join(KINDS.get(name, code(name)) for name in kind.split(","))


def allowed(options: dict[str, Any]) -> str:
    """The values that an input takes; nothing for sockets and free text."""
    if "min" in options:
        return f"{number(options['min'])} to {number(options['max'])}"
    if "options" not in options:
        return ""
    choices = options["options"]
    if "default" in options and not FOUND_HERE & set(choices):
        return ", ".join(map(code, choices))
    own = [code(choice) for choice in choices if choice in FOUND_HERE | {options.get("default")}]
    return f"{', '.join(own)} and what is found" if own else "what is found"


def default(options: dict[str, Any]) -> str:
    """What stands in a fresh node."""
    value = options.get("default", "")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return code(value) if value else ""
    return number(value)


def number(value: float) -> str:
    return str(value).removesuffix(".0")


def code(text: str) -> str:
    return f"`{text}`"


def escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


def main() -> None:
    """Ask a real ComfyUI for its nodes and rewrite the files."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--comfyui", type=Path, required=True, help="folder with main.py")
    arguments.add_argument("--base", type=Path, required=True, help="for the server's own files")
    options = arguments.parse_args()
    with ComfyServer(options.comfyui, options.base, options.base / "models", cpu=True) as server:
        files = generate(server.object_info())
    for path, text in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
