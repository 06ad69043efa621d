"""What a run found, as a file for the outside: the architecture, its weights, an ONNX model, or a Python program."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .architecture import Architecture
from .errors import ExportError, near_miss, one_line
from .storage import write_atomically

if TYPE_CHECKING:
    from torch import nn

    from .run import Run

ONNX_TOLERANCE = 1e-4


def export(run: Run, path: str | Path, format: str | None = None) -> Path:
    """Writes what the run found to a file, and returns its path. An existing file is replaced.

    format: by default what the path ends with.
        json: the architecture.
        safetensors: the trained weights; as metadata the architecture's JSON, the task's description and our version.
        onnx: the trained model, from "input" to "output", for batches of any size; the same metadata. The inputs of one
            that is called with something else than a tensor are the tensors that this holds, by their names: `x` and
            `edge_index` of a graph of any size, and of several graphs `batch`.
        py: the trained model as a program that needs torch and nothing else.

    Raises ExportError where the format is unknown, the model cannot be written in it, or the file cannot be written;
    RunError where the run has not got that far.
    """
    path = Path(path)
    chosen = _format(path, format)
    write = FORMATS[chosen]
    if chosen not in ("json", *run.task.exports):
        raise ExportError(
            f"a model of the task {run.task.known_as!r} cannot be written as {chosen}; export it as "
            f"{run.task.exports[0]}"
        )
    if not path.parent.is_dir():
        raise ExportError(f"the folder {path.parent} is not there; make it, or choose another path than {path}")
    content = write(run)
    try:
        write_atomically(path, content)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ExportError(f"{path} cannot be written: {why}; choose another path") from None
    return path


def _format(path: Path, format: str | None) -> str:
    given = path.suffix.removeprefix(".").lower() if format is None else format
    if given not in FORMATS:
        what = f"the format of {path.name!r} cannot be told from its end" if format is None else f"no format {given!r}"
        raise ExportError(f"{what}.{near_miss(given, FORMATS)} The formats are: {', '.join(FORMATS)}")
    return given


def _json(run: Run) -> bytes:
    return (_architecture(run).to_json(indent=2) + "\n").encode()


def _safetensors(run: Run) -> bytes:
    from safetensors.torch import save

    from .models import weights

    return save(weights(run.best_model()), _metadata(run))


def _python(run: Run) -> bytes:
    from . import __version__
    from .standalone import standalone_source

    architecture, task = _architecture(run), run.task.description()
    found_by = (
        f"nasengine {__version__}, in the search space {architecture.space!r}, for the task {run.task.known_as!r}"
    )
    about = {"found by": found_by, "architecture": architecture.id, **task}
    if {"mean", "standard_deviation"} <= task.keys():
        about["inputs"] = "(values - mean) / standard deviation, each channel with its own"
    first, *others = run.task.examples()
    return standalone_source(run.best_model(), first, about, others).encode()


def _onnx(run: Run) -> bytes:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ExportError('ONNX needs two more packages; install them with: pip install "nasengine[onnx]"')
    import torch

    from .inputs import Apart, free_sizes, tensors_of

    model, examples = run.best_model(), run.task.examples()
    apart = Apart(model, examples[0]).eval()
    free = [dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for dims in free_sizes(examples).values()]
    try:
        with _silence():
            exported: Any = torch.onnx.export(
                apart,
                tuple(tensors_of(examples[-1]).values()),  # a size of 1 would be taken for one that is always 1
                dynamo=True,
                verbose=False,
                input_names=list(apart.names),
                output_names=["output"],
                dynamic_shapes=(tuple(free),),
            )
        proto = exported.model_proto
        for node in proto.graph.node:
            del node.metadata_props[:]  # stack traces: this machine's paths
        for name, value in _metadata(run).items():
            proto.metadata_props.add(key=name, value=value)
        content: bytes = proto.SerializeToString()
    except Exception as error:
        raise ExportError(
            f"torch cannot write the model as ONNX ({one_line(error)}); export it as safetensors"
        ) from error
    _compare_onnx(content, model, examples)
    return content


def _compare_onnx(content: bytes, model: nn.Module, examples: Sequence[Any]) -> None:
    """Raises ExportError where onnxruntime is there, knows the file's operators, and gives another output."""
    import torch

    from .inputs import tensors_of
    from .standalone import difference

    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception:  # not there, or too old for the file
        return
    asked = {value.name for value in session.get_inputs()}  # what the model does not look at is no input
    off = 0.0
    for example in examples:
        tensors = {name: tensor.numpy() for name, tensor in tensors_of(example).items() if name in asked}
        (given,) = session.run(["output"], tensors)
        with torch.no_grad():
            off = max(off, difference(model(example), torch.from_numpy(given)))
    if not off <= ONNX_TOLERANCE:
        raise ExportError(
            f"the ONNX model gives other outputs than the model (off by {off:.1g} of their scale); export it as "
            f"safetensors"
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps torch's exporter from talking: it prints, warns and logs."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(disabled)


def _architecture(run: Run) -> Architecture:
    architecture = run.best.architecture
    if architecture is None:
        raise ExportError(f"the run {run.folder} has found no architecture yet; go on with: nas resume {run.folder}")
    return architecture


def _metadata(run: Run) -> dict[str, str]:
    """What must be known to use the weights, as safetensors and ONNX keep it: strings by name."""
    from . import __version__

    about = json.dumps(run.task.description())
    return {
        "architecture": _architecture(run).to_json(), "task": about, "task_name": run.task.known_as,
        "nasengine": __version__,
    }  # fmt: skip


FORMATS: Mapping[str, Callable[[Run], bytes]] = {
    "json": _json,
    "onnx": _onnx,
    "py": _python,
    "safetensors": _safetensors,
}
"""By name, which is also how a file of it ends: what gives the file's content."""
