"""A model as a graph of torch's own layers and the calls between them, traced with torch.fx."""

from __future__ import annotations

import inspect
import operator
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from torch import fx, nn
from torch.nn import functional

from .errors import ExportError, one_line
from .inputs import Apart

MODEL = "model"
"""What every path in the graph begins with, but for the constants that torch.fx adds."""


class _Tracer(fx.Tracer):
    """Stops at torch's layers, and at sequences of nothing else, but for those that must be taken apart."""

    def __init__(self, apart: Collection[str]) -> None:
        super().__init__(param_shapes_constant=True)
        self._apart = apart

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """A value for each name, where torch.fx would make one for all of them."""
        root: Any = self.root
        return root_fn, [root, *(self.create_proxy("placeholder", name, (), {}) for name in root.names)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._apart and _is_layer(m)


def _is_layer(module: nn.Module) -> bool:
    if type(module) is nn.Sequential:
        numbered = list(module._modules) == [str(number) for number in range(len(module))]
        return numbered and all(_is_layer(part) for part in module)
    return type(module).__module__.startswith("torch.nn.")


def trace(root: Apart) -> fx.Graph:
    """The graph of calls, without those that do nothing. Raises ExportError where the model cannot be traced."""
    parents: dict[nn.Module, set[nn.Module]] = defaultdict(set)
    for parent in root.modules():
        for part in parent.children():
            parents[part].add(parent)
    shared = {part for part, users in parents.items() if len(users) > 1}
    apart = {path for path, module in root.named_modules() if shared & {*module.modules()} - {module}}
    while True:
        try:
            graph = _Tracer(apart).trace(root)
        except Exception as error:  # whatever a stranger's forward says to values that are not there
            raise ExportError(
                f"the model cannot be written as Python code: torch.fx cannot trace it ({one_line(error)}); export it "
                f"as safetensors or onnx"
            ) from error
        used = {str(node.target) for node in graph.nodes if uses_attribute(node)}
        parted = {path for path in used if any(other.startswith(f"{path}.") for other in used)}
        if not parted:
            break
        apart |= parted  # they are called as a whole, and their parts are used by themselves
    for node in reversed(list(graph.nodes)):
        if not node.users and (node.op == "get_attr" or node.target in (operator.getitem, getattr)):
            graph.erase_node(node)
    for node in list(graph.nodes):
        node.kwargs = _without_defaults(node)
        same = _unchanged(root, node)
        if same is not None:
            node.replace_all_uses_with(same)
            graph.erase_node(node)
    return graph


def uses_attribute(node: fx.Node) -> bool:
    """Whether the node calls a layer or reads a tensor of the model; its target is the path."""
    return node.op in ("call_module", "get_attr")


def scopes(node: fx.Node) -> list[str]:
    """The paths of the modules that the node's call stands in, from the model inwards."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values()]


def _unchanged(root: nn.Module, node: fx.Node) -> fx.Node | None:
    """What the node gives back as it was."""
    same = None
    if node.op == "call_module" and node.args:
        module = root.get_submodule(str(node.target))
        empty = isinstance(module, nn.Sequential) and len(module) == 0
        same = node.args[0] if empty or isinstance(module, nn.Identity) else None
    elif node.target is functional.dropout and False in (*node.args[2:3], node.kwargs.get("training")):
        same = node.args[0]
    elif node.target is operator.add and type(node.args[0]) is int and node.args[0] == 0:
        same = node.args[1]  # Python's sum() begins with 0
    return same if isinstance(same, fx.Node) else None


def _without_defaults(node: fx.Node) -> dict[str, Any]:
    """The node's named arguments that are not a function's defaults: torch's own code passes on all of them."""
    try:
        parameters = inspect.signature(node.target).parameters if callable(node.target) else {}
    except (TypeError, ValueError):  # a builtin without a signature
        parameters = {}
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {
        name: value
        for name, value in node.kwargs.items()
        if name not in defaults or type(value) is not type(defaults[name]) or value != defaults[name]
    }
