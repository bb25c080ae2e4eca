"""Every text of an error that the pack can raise, read from its source.

What is not known before the program runs stands as …
"""

import ast
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = ["…"]
ROOTS = {"PulidError", "OldWorkflowError"}
"""Errors made for the user's eyes. What is caught on the way, such as TransportError, is none."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def error_texts(folders: Iterable[Path]) -> set[str]:
    """Collect the texts of all errors that are made in the Python files of some folders."""
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    classes = {
        node.name: node
        for module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    }
    # A table of texts in one module is used by others: codes.REFUSALS.
    shared = {
        name: values
        for module in modules
        for name, values in assignments(module.body).items()
        if name.isupper()
    }
    found = set()
    for module in modules:
        constants = shared | assignments(module.body)
        for function in functions(module):
            found.update(texts_of_function(function, constants, Errors(classes)))
    return found


def functions(module: ast.Module) -> Iterator[Function]:
    """The functions and methods of a module; nested ones belong to their outermost."""
    for node in module.body:
        for member in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(member, Function):
                yield member


def texts_of_function(
    function: Function, constants: dict[str, list[ast.expr]], errors: "Errors"
) -> Iterator[str]:
    """The texts of the errors that one function makes, and those that refuse a node's inputs."""
    scope = Scope.of(function, constants)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and errors.has(node.func):
            yield from errors.texts(node.func.id, node, scope)
        elif isinstance(node, ast.Raise) and errors.has(node.exc):
            yield from errors.texts(node.exc.id, None, scope)
        elif isinstance(node, ast.Return) and function.name == "validate_inputs":
            yield from (text for text in scope.texts(node.value) if text not in UNKNOWN)


def assignments(statements: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """What each name can stand for, in any branch; a function's name for what it returns."""
    values: dict[str, list[ast.expr]] = {}
    for node in statements:
        if isinstance(node, Function):
            returns = [part for part in ast.walk(node) if isinstance(part, ast.Return)]
            values[node.name] = [part.value for part in returns if part.value]
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for name, expression in pairs:
            if isinstance(name, ast.Name):
                values.setdefault(name.id, []).append(expression)
    return values


@dataclass(frozen=True)
class Scope:
    """What the names of one function can stand for."""

    known: dict[str, list[str]]
    """Texts that a call hands in."""
    assigned: dict[str, list[ast.expr]]

    @classmethod
    def of(
        cls,
        function: Function,
        constants: dict[str, list[ast.expr]],
        known: dict[str, list[str]] | None = None,
    ) -> "Scope":
        local = assignments(ast.walk(function))
        arguments = {arg.arg for arg in ast.walk(function) if isinstance(arg, ast.arg)}
        return cls(
            dict.fromkeys(arguments - local.keys(), UNKNOWN) | (known or {}), constants | local
        )

    def texts(self, node: ast.expr | None, above: frozenset[str] = frozenset()) -> list[str]:
        """All texts that an expression can have; `above` are the names that led to it."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.Name) and node.id in self.known:
            return self.known[node.id]
        if isinstance(node, ast.Name) and node.id not in above:
            return self._any(self.assigned.get(node.id, []), above | {node.id})
        if isinstance(node, ast.Attribute) and node.attr.isupper() and node.attr not in above:
            return self._any(self.assigned.get(node.attr, []), above | {node.attr})
        if pieces := joined(node):
            alternatives = [self.texts(piece, above) for piece in pieces]
            return ["".join(chosen) for chosen in itertools.product(*alternatives)]
        return self._any(branches(node), above)

    def _any(self, expressions: list[ast.expr], above: frozenset[str]) -> list[str]:
        texts = [text for node in expressions for text in self.texts(node, above)]
        return [text for text in texts if any(map(str.isalpha, text))] or UNKNOWN


def joined(node: ast.expr | None) -> list[ast.expr]:
    """The expressions whose texts follow one another."""
    match node:
        case ast.JoinedStr(values=parts):
            return parts
        case ast.FormattedValue(value=ast.Name() | ast.Attribute() as name):
            return [name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [left, right]
    return []


def branches(node: ast.expr | None) -> list[ast.expr]:
    """The expressions of which one gives the text."""
    match node:
        case ast.IfExp(body=one, orelse=other):
            return [one, other]
        case ast.Dict(values=values):
            return values
        case ast.Call(func=ast.Attribute(value=owner), args=arguments):
            return [owner, *arguments]  # text.strip(), texts.get(code, text)
        case ast.Call(func=ast.Name() as function):
            return [function]
    return []


@dataclass(frozen=True)
class Errors:
    """How the error classes put their texts together."""

    classes: dict[str, ast.ClassDef]

    def has(self, name: ast.expr | None) -> bool:
        """Whether this names an error for the user."""
        if not isinstance(name, ast.Name):
            return False
        bases = self.classes[name.id].bases if name.id in self.classes else []
        return name.id in ROOTS or any(map(self.has, bases))

    def texts(self, name: str, call: ast.Call | None, scope: Scope) -> list[str]:
        """The texts of an error of this class, made by a call."""
        given = [scope.texts(node) for node in call.args] if call else []
        named = {word.arg: scope.texts(word.value) for word in call.keywords} if call else {}
        if name not in self.classes:  # Python's own Exception
            return given[0]
        definition = self.classes[name]
        init = next((f for f in definition.body if getattr(f, "name", "") == "__init__"), None)
        base = definition.bases[0].id
        if init is None:
            return self.texts(base, call, scope)
        parameters = [arg.arg for arg in init.args.args[1:]]
        known = dict(zip(parameters, given, strict=False)) | named
        made = next(n for n in ast.walk(init) if isinstance(n, ast.Call) and is_super_init(n))
        return self.texts(base, made, Scope.of(init, {}, known))


def is_super_init(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "super().__init__"
