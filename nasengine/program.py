"""A model's code, written from its graph of calls.

Layers become attributes. Calls become the statements of `forward`: small expressions stand where they are used, and
names are short, because they are used again when they are free.
"""

from __future__ import annotations

import ast
import builtins
import copy
import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, count
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from .constructor import constructor_call
from .errors import ExportError
from .inputs import Apart
from .tracing import MODEL, scopes, trace, uses_attribute

WIDTH = 100
VALUE = "fx_value_"
NOT_ATTRIBUTES = frozenset({*keyword.kwlist, *dir(nn.Module())})
NOT_VARIABLES = frozenset(
    {*keyword.kwlist, *dir(builtins), "self", "torch", "nn", "functional", "inf", "nan", "device"}
)


class Program:
    """A model as the statements of a class.

    like: what the model is called with. network: its layers and tensors, under their names in that class. arguments:
    the names of `forward`'s arguments.
    Raises ExportError where the model cannot be traced, or needs code that is neither torch's nor Python's.
    """

    def __init__(self, model: nn.Module, like: Any) -> None:
        self._root = Apart(model, like)
        graph = trace(self._root)
        self._nodes = list(graph.nodes)
        used = dict.fromkeys(str(node.target) for node in self._nodes if uses_attribute(node))
        self._traced = {path for node in self._nodes for path in scopes(node)} - {*used, MODEL}
        self._parts: dict[str, set[str]] = defaultdict(set)
        for path in chain(used, self._traced):
            words = path.split(".")
            for depth, word in enumerate(words):
                self._parts[".".join(words[:depth])].add(word)
        self.network = nn.Module()
        self._attributes: dict[str, str] = {}
        for path in used:
            self._adopt(path)
        self.arguments = ["x" if name in NOT_VARIABLES else name for name in self._root.arguments]
        self._variables = self._name_variables()
        for number, node in enumerate(self._nodes):
            node.name, node.type = f"{VALUE}{number}", None
            if node.op == "placeholder":
                node.target = node.name
            elif uses_attribute(node):
                node.target = self._attributes[str(node.target)]
        code = graph.python_code("self")
        function = next(part for part in ast.parse(code.src).body if isinstance(part, ast.FunctionDef))
        body = [_Readable().visit(part) for part in function.body if not _frees(part)]
        self._reads = Counter(name for statement in body for name in _reads(statement))
        self._statements = self._join(body)
        self._globals = {name: thing for name, thing in code.globals.items() if name in self._reads}

    def imports(self) -> list[str]:
        """What the file imports: from the standard library, and from torch."""
        standard, torchs = {"import base64", "import io"}, {"import torch", "from torch import Tensor, nn"}
        if self._reads["functional"]:
            torchs.add("from torch.nn import functional")
        for name, thing in self._globals.items():
            module, own = _origin(name, thing)
            text = f"from {module} import {own}" if own else f"import {module}"
            text += "" if name in (module, own) else f" as {name}"
            package = module.partition(".")[0]
            if package in ("math", "operator"):
                standard.add(text)
            elif package == "torch":
                torchs.add(text)
            elif package != "builtins":
                raise ExportError(
                    f"the model cannot be written as Python code: it calls {module}.{own}, which is not torch's; "
                    f"export it as safetensors or onnx"
                )
        return [*sorted(standard, key=_modules_first), "", *sorted(torchs, key=_modules_first)]

    def layers(self) -> list[str]:
        """The statements of `__init__`."""
        lines = [(self._section(path), self._layer(path, name)) for path, name in self._attributes.items()]
        first: dict[nn.Parameter, str] = {}
        for name, parameter in self.network.named_parameters(remove_duplicate=False):
            text = "self." + re.sub(r"\.(\d+)", r"[\1]", name)
            if first.setdefault(parameter, text) != text:
                lines.append(("", f"{text} = {first[parameter]}"))
        return list(self._grouped(lines))

    def forward(self) -> list[str]:
        """The statements of `forward`."""
        return list(self._grouped((self._section_of(part), self._text(part)) for part in self._statements))

    def _grouped(self, lines: Iterable[tuple[str, str]]) -> Iterator[str]:
        """The lines, with a blank line and a heading where a section begins: a module that was traced through."""
        current = ""
        for number, (section, line) in enumerate(lines):
            if section != current:
                yield from [""] * (number > 0)
                if section:
                    yield f"# {self._flat(section)}: {type(self._root.get_submodule(section)).__name__}"
            yield line
            current = section

    def _section(self, path: str) -> str:
        """The outermost traced module that the path leads through; nothing for what the model holds itself."""
        words = path.split(".")
        paths = (".".join(words[: depth + 1]) for depth in range(len(words)))
        return next((path for path in paths if path in self._traced), "")

    def _section_of(self, statement: ast.stmt) -> str:
        target = _target(statement)
        node = self._nodes[-1].args[0] if target is None else self._nodes[int(target.removeprefix(VALUE))]
        return self._section(scopes(node)[-1]) if isinstance(node, fx.Node) and scopes(node) else ""

    def _adopt(self, path: str) -> None:
        """Takes a layer or tensor into the network, under a name of its own."""
        name = _first_free(self._flat(path), {*NOT_ATTRIBUTES, *self._attributes.values()})
        owner, _, attribute = path.rpartition(".")
        part = getattr(self._root.get_submodule(owner), attribute)
        if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
            self.network.register_buffer(name, part)
        else:
            setattr(self.network, name, part)
        self._attributes[path] = name

    def _flat(self, path: str) -> str:
        """A path as one name, without the numbers that tell nothing because there is no other."""
        words, parent = [], ""
        for word in path.split("."):
            if (parent, word) != ("", MODEL) and not (word.isdigit() and len(self._parts[parent]) == 1):
                words.append(word)
            parent = f"{parent}.{word}".lstrip(".")
        name = re.sub(r"\W+", "_", "_".join(words), flags=re.ASCII).strip("_")
        return name if name[:1].isalpha() else f"layer_{name}".rstrip("_")

    def _layer(self, path: str, name: str) -> str:
        part = getattr(self.network, name)
        if isinstance(part, nn.Module):
            return f"self.{name} = {constructor_call(part, path.removeprefix(MODEL).strip('.'))}"
        size = ", ".join(map(str, part.shape)) or "()"
        zeros = f"torch.zeros({size})" if part.dtype == torch.float32 else f"torch.zeros({size}, dtype={part.dtype})"
        if isinstance(part, nn.Parameter):
            return f"self.{name} = nn.Parameter({zeros}{'' if part.is_floating_point() else ', requires_grad=False'})"
        return f'self.register_buffer("{name}", {zeros})'

    def _name_variables(self) -> list[str]:
        """A name for each node's value. One that is not needed any more gives its name free."""
        place = {node: number for number, node in enumerate(self._nodes)}
        last_use: dict[str, int] = {}
        names = []
        for number, node in enumerate(self._nodes):
            last_use = {name: last for name, last in last_use.items() if last > number}
            wanted = self.arguments[number] if node.op == "placeholder" else self._wanted(node)
            names.append(_first_free(wanted, {*NOT_VARIABLES, *last_use}))
            last_use[names[-1]] = max((place[user] for user in node.users), default=number)
        return names

    def _wanted(self, node: fx.Node) -> str:
        """`x` for what only the next layer takes, a module's name for what it gives, else the operation's name."""
        users = list(node.users)
        if users == [node.next] and users[0].op == "call_module":
            return "x"
        inside = {MODEL, *chain.from_iterable(map(scopes, users))}
        path = next((path for path in scopes(node) if path not in inside), None)
        if path is None:
            target = node.args[1] if node.target is getattr else node.target
            name = target if isinstance(target, str) else getattr(target, "__name__", "value")
            return name.rpartition(".")[2].strip("_") or "value"
        section = self._section(path)
        inner = self._flat(path).removeprefix(f"{self._flat(section)}_") if section else ""
        return inner if inner.isidentifier() else self._flat(path)

    def _join(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Puts expressions where they are used, if it is once, and the order of evaluation stays as it is."""
        done: list[ast.stmt] = []
        for statement in body:
            for name in reversed(list(_reads(statement))):
                before = done[-1] if done else None
                if isinstance(before, ast.Assign) and _target(before) == name and self._reads[name] == 1:
                    joined = _Put(name, before.value).visit(copy.deepcopy(statement))
                    here = self._section_of(statement) == self._section_of(before)
                    if here and not _nests(before, statement) and len(self._text(joined)) <= WIDTH:
                        statement = joined
                        done.pop()
            done.append(statement)
        return done

    def _text(self, statement: ast.stmt) -> str:
        unused = isinstance(statement, ast.Assign) and not self._reads[_target(statement) or ""]
        text = ast.unparse(statement.value if unused and isinstance(statement, ast.Assign) else statement)
        text = text if '"' in text else text.replace("'", '"')
        return re.sub(rf"\b{VALUE}(\d+)\b", lambda match: self._variables[int(match[1])], text)


def _first_free(name: str, taken: Collection[str]) -> str:
    return next(free for free in chain([name], (f"{name}_{number}" for number in count(2))) if free not in taken)


def _origin(name: str, thing: Any) -> tuple[str, str]:
    """The module of what fx calls `name`, and its name there; the latter is empty for a module itself."""
    if isinstance(thing, ModuleType):
        return thing.__name__, ""
    if isinstance(thing, float):  # inf and nan
        return "math", name
    return str(getattr(thing, "__module__", None)).removeprefix("_"), getattr(thing, "__name__", name)


def _modules_first(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _reads(tree: ast.AST) -> Iterator[str]:
    """The names that are read, in the order in which Python does."""
    if isinstance(tree, ast.Name) and isinstance(tree.ctx, ast.Load):
        yield tree.id
    for child in ast.iter_child_nodes(tree):
        yield from _reads(child)


def _target(statement: ast.stmt) -> str | None:
    """The name that the statement sets; None for `return`."""
    if isinstance(statement, ast.Assign | ast.AugAssign):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        return target.id if isinstance(target, ast.Name) else None
    return None


def _frees(statement: ast.stmt) -> bool:
    """Whether this is fx's `x = None`, which gives memory free."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is None
    )


def _nests(inner: ast.Assign, outer: ast.stmt) -> bool:
    """Whether a layer would be called in another one's argument."""
    called = isinstance(outer, ast.Assign) and _calls_layer(outer.value)
    return called and any(map(_calls_layer, ast.walk(inner.value)))


def _calls_layer(tree: ast.AST) -> bool:
    match tree:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"))):
            return True
    return False


class _Put(ast.NodeTransformer):
    """Replaces a name by an expression."""

    def __init__(self, name: str, expression: ast.expr) -> None:
        self._name, self._expression = name, expression

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._expression if node.id == self._name and isinstance(node.ctx, ast.Load) else node


class _Readable(ast.NodeTransformer):
    """fx's code as a person writes it: `x[:, 1:]`, `functional.pad`."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Tuple):
            node.slice.elts = [_slice(index) for index in node.slice.elts]
        else:
            node.slice = _slice(node.slice)
        return node.value if set(ast.unparse(node.slice)) <= set("(:, )") else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node.value) in ("torch.nn.functional", "torch._C._nn") and hasattr(functional, node.attr):
            node.value = ast.Name("functional", ast.Load())
        return node


def _slice(index: ast.expr) -> ast.expr:
    match index:
        case ast.Call(func=ast.Name(id="slice"), args=[start, stop, step]):
            lower, upper = (None if ast.unparse(bound) == "None" else bound for bound in (start, stop))
            return ast.Slice(lower, upper, None if ast.unparse(step) in ("None", "1") else step)
    return index
