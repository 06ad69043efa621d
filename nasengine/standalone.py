"""A trained model as one readable Python file that needs torch and nothing else: its text, and the proof of it."""

from __future__ import annotations

import base64
import copy
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ExportError, one_line
from .inputs import ONE, of_other_sizes, shapes_in_words, tensors_of
from .models import weights
from .program import Program

TOLERANCE = 1e-5

TEMPLATE = '''\
"""{docstring}"""

{imports}

{sizes}


class Network(nn.Module):
    """{shapes}"""

    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, {arguments}) -> Tensor:
{forward}


def load() -> Network:
    """The network with its trained weights, in evaluation mode."""
    network = Network()
    network.load_state_dict(torch.load(io.BytesIO(base64.b64decode(WEIGHTS)), weights_only=True))
    return network.eval()


def main() -> None:
    network = load()
    example = {example}
    with torch.no_grad():
        output = network(*example)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    shapes = ", ".join(str(tuple(value.shape)) for value in example)
    print(f"input {{shapes}} -> output {{tuple(output.shape)}}, {{parameters:,}} parameters")


# The trained weights: what torch.save writes, in base64.
WEIGHTS = """
{weights}
"""

if __name__ == "__main__":
    main()
'''


def standalone_source(
    model: nn.Module, example: Any, about: Mapping[str, Any], others: Sequence[Any] | None = None
) -> str:
    """The source of a module with a class `Network` and a function `load`, which returns it with its trained weights.

    example: what the model can be called with: a batch, or a dataclass of tensors, which are then the network's
    arguments. about: what a user must know, by name, for the docstring. others: of other sizes than the example; by
    default a larger batch. The source is run, and compared with the model on all of them, before it is returned. Raises
    ExportError where torch.fx cannot trace the model, a layer cannot be written down, or an output is off by more than
    1e-5 of the scale.
    """
    model = copy.deepcopy(model).cpu().eval()
    examples = list(of_other_sizes(example)) if others is None else [example, *others]
    with torch.no_grad():
        outputs = [model(one) for one in examples]
    if not isinstance(outputs[0], Tensor):
        raise ExportError(
            f"the model gives a {type(outputs[0]).__name__}, and a Python file is written for models that give one "
            f"tensor"
        )
    program = Program(model, example)
    shapes, shape = shapes_in_words(examples, outputs)
    if not isinstance(example, Tensor):
        shapes = [f"{name} {words}" for name, words in zip(program.arguments, shapes, strict=True)]
    sizes, values = _an_example(example)
    buffer = io.BytesIO()
    torch.save(weights(program.network), buffer)
    source = TEMPLATE.format(
        docstring=_docstring(about, "inputs" if isinstance(example, Tensor) else ", ".join(program.arguments)),
        imports="\n".join(program.imports()),
        sizes=sizes,
        shapes=f"{', '.join(shapes)} -> {shape}",
        layers=textwrap.indent("\n".join(program.layers()), " " * 8),
        arguments=", ".join(f"{name}: Tensor" for name in program.arguments),
        forward=textwrap.indent("\n".join(program.forward()), " " * 8),
        example=values,
        weights="\n".join(textwrap.wrap(base64.b64encode(buffer.getvalue()).decode(), 100)),
    )
    _prove(source, examples, outputs)
    return source


def difference(expected: Tensor, given: Tensor) -> float:
    """The largest difference between two outputs, relative to the largest value; infinite where shapes differ."""
    if expected.shape != given.shape:
        return float("inf")
    expected, given = expected.double(), given.double()
    off = (expected - given)[expected != given].abs()
    return float(off.max() / expected.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-30)) if len(off) else 0.0


def _prove(source: str, examples: Sequence[Any], outputs: Sequence[Tensor]) -> None:
    """Runs the source, which is our own. Raises ExportError where it fails, or gives another output."""
    namespace: dict[str, Any] = {"__name__": "standalone"}
    try:
        exec(compile(source, "standalone.py", "exec"), namespace)  # noqa: S102
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
            network = namespace["load"]()
            given = [network(*tensors_of(example).values()) for example in examples]
            off = max(map(difference, outputs, given))
    except Exception as error:
        raise ExportError(f"the Python code written for the model does not run: {one_line(error)}") from error
    if not off <= TOLERANCE:
        raise ExportError(
            f"the Python code written for the model gives other outputs than the model (off by {off:.1g} of their "
            f"scale): its forward pass is random, or does what torch.fx does not see; export it as safetensors"
        )


def _an_example(example: Any) -> tuple[str, str]:
    """The constant that says the input's size, and the code of a list of zeros of such: of one example where it is a
    batch, else as large as the example."""
    kinds = {
        name: "" if tensor.dtype == torch.float32 else f", dtype={tensor.dtype}"
        for name, tensor in tensors_of(example).items()
    }
    if isinstance(example, Tensor):
        return f"INPUT_SHAPE = {tuple(example.shape[1:])}", f"[torch.zeros(1, *INPUT_SHAPE{kinds[ONE]})]"
    sizes = ", ".join(f'"{name}": {tuple(tensor.shape)}' for name, tensor in tensors_of(example).items())
    zeros = "".join(f'        torch.zeros(INPUT_SHAPES["{name}"]{kind}),\n' for name, kind in kinds.items())
    return f"INPUT_SHAPES = {{{sizes}}}", f"[\n{zeros}    ]"


def _docstring(about: Mapping[str, Any], inputs: str) -> str:
    lines = ["A trained neural network. It needs PyTorch and nothing else.", ""]
    lines += ["    network = load()", "    with torch.no_grad():", f"        outputs = network({inputs})", ""]
    for name, value in about.items():
        values = value if isinstance(value, list | tuple) else [value]
        text = ", ".join(f"{item:.7g}" if isinstance(item, float) else str(item) for item in values)
        lines += textwrap.wrap(f"{name.replace('_', ' ')}: {text}", 100, subsequent_indent="    ")
    return "\n".join(lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + "\n"
