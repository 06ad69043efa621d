"""A trained model as one readable Python file that needs torch and nothing else: its text, and the proof of it."""

from __future__ import annotations

import base64
import copy
import io
import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ExportError, one_line
from .models import weights
from .program import Program

TOLERANCE = 1e-5

TEMPLATE = '''\
"""{docstring}"""

{imports}

INPUT_SHAPE = {input_shape}


class Network(nn.Module):
    """{shapes}"""

    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, {argument}: Tensor) -> Tensor:
{forward}


def load() -> Network:
    """The network with its trained weights, in evaluation mode."""
    network = Network()
    network.load_state_dict(torch.load(io.BytesIO(base64.b64decode(WEIGHTS)), weights_only=True))
    return network.eval()


def main() -> None:
    network = load()
    example = torch.zeros(1, *INPUT_SHAPE{dtype})
    with torch.no_grad():
        output = network(example)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"input {{tuple(example.shape)}} -> output {{tuple(output.shape)}}, {{parameters:,}} parameters")


# The trained weights: what torch.save writes, in base64.
WEIGHTS = """
{weights}
"""

if __name__ == "__main__":
    main()
'''


def standalone_source(model: nn.Module, example: Tensor, about: Mapping[str, Any]) -> str:
    """The source of a module with a class `Network` and a function `load`, which returns it with its trained weights.

    example: a batch that the model can be called with. about: what a user must know, by name, for the docstring.
    The source is run, and compared with the model on the example, before it is returned. Raises ExportError where
    torch.fx cannot trace the model, a layer cannot be written down, or an output is off by more than 1e-5 of the scale.
    """
    model = copy.deepcopy(model).cpu().eval()
    with torch.no_grad():
        output = model(example)
    if not isinstance(output, Tensor):
        raise ExportError(
            f"the model gives a {type(output).__name__}, and a Python file is written for models that give one tensor"
        )
    program = Program(model)
    buffer = io.BytesIO()
    torch.save(weights(program.network), buffer)
    source = TEMPLATE.format(
        docstring=_docstring(about),
        imports="\n".join(program.imports()),
        input_shape=tuple(example.shape[1:]),
        shapes=f"{_shape(example)} -> {_shape(output)}",
        layers=textwrap.indent("\n".join(program.layers()), " " * 8),
        argument=program.argument,
        forward=textwrap.indent("\n".join(program.forward()), " " * 8),
        dtype="" if example.dtype == torch.float32 else f", dtype={example.dtype}",
        weights="\n".join(textwrap.wrap(base64.b64encode(buffer.getvalue()).decode(), 100)),
    )
    _prove(source, example, output)
    return source


def difference(expected: Tensor, given: Tensor) -> float:
    """The largest difference between two outputs, relative to the largest value; infinite where shapes differ."""
    if expected.shape != given.shape:
        return float("inf")
    expected, given = expected.double(), given.double()
    off = (expected - given)[expected != given].abs()
    return float(off.max() / expected.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-30)) if len(off) else 0.0


def _prove(source: str, example: Tensor, output: Tensor) -> None:
    """Runs the source, which is our own. Raises ExportError where it fails, or gives another output."""
    namespace: dict[str, Any] = {"__name__": "standalone"}
    try:
        exec(compile(source, "standalone.py", "exec"), namespace)  # noqa: S102
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
            off = difference(output, namespace["load"]()(example))
    except Exception as error:
        raise ExportError(f"the Python code written for the model does not run: {one_line(error)}") from error
    if not off <= TOLERANCE:
        raise ExportError(
            f"the Python code written for the model gives other outputs than the model (off by {off:.1g} of their "
            f"scale): its forward pass is random, or does what torch.fx does not see; export it as safetensors"
        )


def _shape(batch: Tensor) -> str:
    return f"({', '.join(['N', *map(str, batch.shape[1:])])})"


def _docstring(about: Mapping[str, Any]) -> str:
    lines = ["A trained neural network. It needs PyTorch and nothing else.", ""]
    lines += ["    network = load()", "    with torch.no_grad():", "        outputs = network(inputs)", ""]
    for name, value in about.items():
        values = value if isinstance(value, list | tuple) else [value]
        text = ", ".join(f"{item:.7g}" if isinstance(item, float) else str(item) for item in values)
        lines += textwrap.wrap(f"{name.replace('_', ' ')}: {text}", 100, subsequent_indent="    ")
    return "\n".join(lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + "\n"
