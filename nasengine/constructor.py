"""A layer of torch's as the call that makes it: worked out from its attributes, proven by making it.

Not from its repr, which leaves settings out (`count_include_pad` of an average pooling).
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .errors import ExportError

BOOKKEEPING = frozenset(vars(nn.Module()))


def constructor_call(layer: nn.Module, path: str) -> str:
    """`nn.Conv2d(1, 24, 3, padding=1, bias=False)`: what is required, and by name what is not the default.

    A sequence of layers takes a line for each. path: the layer's in the model, empty for the model itself. Raises
    ExportError where no call makes the layer.
    """
    cls = type(layer)
    if cls is nn.Sequential:
        parts = [f"{constructor_call(part, f'{path}.{name}'.lstrip('.'))},\n" for name, part in layer.named_children()]
        return f"nn.Sequential(\n{textwrap.indent(''.join(parts), ' ' * 4)})"
    parameters = _parameters(cls)
    arguments = _arguments(layer, parameters)
    if getattr(nn, cls.__name__, None) is not cls or not _makes(arguments, layer):
        raise _refusal(path, f"the attributes of a {cls.__name__} do not tell how it was made")
    optional = [name for name in arguments if parameters[name].default is not inspect.Parameter.empty]
    for name in optional:
        without = {other: value for other, value in arguments.items() if other != name}
        if _makes(without, layer):  # a stride that is the kernel's size, say
            arguments = without
    for name, value in arguments.items():
        if isinstance(value, tuple) and len(set(value)) == 1 and _makes({**arguments, name: value[0]}, layer):
            arguments[name] = value[0]
    written = [(f"{name}=" if name in optional else "") + _literal(value, path) for name, value in arguments.items()]
    return f"nn.{cls.__name__}({', '.join(written)})"


def _parameters(cls: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters that may be given."""
    if issubclass(cls, nn.RNNBase):  # its children take anything, and pass it on with a mode of their own
        return {name: p for name, p in inspect.signature(nn.RNNBase).parameters.items() if name != "mode"}
    return inspect.signature(cls).parameters


def _arguments(layer: nn.Module, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """What the layer's attributes of the same names say, where it is not the default."""
    arguments: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value: Any
        if name == "dtype":
            value = next((p.dtype for p in layer.parameters() if p.dtype != torch.float32), None)
        elif name == "device" or not hasattr(layer, name):
            continue
        else:
            value = getattr(layer, name)
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            value = value is not None  # `bias`: is there one?
        if type(value) is not type(parameter.default) or value != parameter.default:
            arguments[name] = value
    return arguments


def _makes(arguments: Mapping[str, Any], layer: nn.Module) -> bool:
    """Whether the constructor, called so, gives this layer, weights aside. Costs no memory."""
    try:
        with torch.device("meta"):
            made = type(layer)(**arguments)
    except Exception:  # whatever a constructor says to arguments that are not its own
        return False
    ours, theirs = dict(made.named_modules()), dict(layer.named_modules())
    tensors = [{name: (t.shape, t.dtype) for name, t in m.state_dict().items()} for m in (made, layer)]
    return (
        tensors[0] == tensors[1]
        and ours.keys() == theirs.keys()
        and all(type(part) is type(theirs[name]) and _agree(part, theirs[name]) for name, part in ours.items())
    )


def _agree(made: nn.Module, layer: nn.Module) -> bool:
    """Whether everything that the constructor set is what the layer has."""
    settings = {name: value for name, value in vars(made).items() if name[0] != "_" and name not in BOOKKEEPING}
    return all(name in vars(layer) and value == vars(layer)[name] for name, value in settings.items())


def _literal(value: Any, path: str) -> str:
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    value = tuple(value) if isinstance(value, torch.Size) else value
    try:
        if ast.literal_eval(repr(value)) == value:
            return f'"{value}"' if isinstance(value, str) and value.isidentifier() else repr(value)
    except (ValueError, SyntaxError):
        pass
    raise _refusal(path, f"its constructor was given {value!r:.80}, which is no literal")


def _refusal(path: str, why: str) -> ExportError:
    what = f"layer {path!r}" if path else "model"
    return ExportError(f"the {what} cannot be written as Python code: {why}; export it as safetensors or onnx")
