"""What a trained model says of a user's files: from a run's folder, or from a file that `nas export` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .architecture import Architecture
from .errors import ConfigError, ExportError, NasError, one_line
from .reference import Shapes
from .registry import load, make

if TYPE_CHECKING:
    from torch import Tensor

    from .task import Input, Task

    Loaded: TypeAlias = tuple[Callable[[Tensor], Tensor], Mapping[str, Any], type[Task]]
    """The model, the description of the task that it learnt, and that task."""

BATCH = 128


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one example.

    classes: the likeliest ones, with their probabilities (the softmax of the scores). label: the true class, if known.
    """

    name: str
    classes: Sequence[tuple[str, float]]
    label: str | None = None

    @property
    def right(self) -> bool | None:
        """Whether the likeliest class is the true one; None where that is not known."""
        return None if self.label is None else self.label == self.classes[0][0]


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    *,
    top: int = 3,
    task: str | None = None,
    space: str | None = None,
    step: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """The `top` likeliest classes of every example in files and folders.

    model: a run's folder, or what `nas export` made of one: `.safetensors`, `.onnx`. task, space: the plugins that the
    model was made with, where it names ones that are not installed. step: is told how many examples were judged.

    Raises ConfigError, DataError for the inputs, ExportError where the model's file is none of ours, RunError.
    """
    import torch

    if top < 1:
        raise ConfigError(f"the {top} likeliest classes were asked for; expected at least 1")
    compute, about, kind = _loaded(Path(model).expanduser(), task, space)
    names = [str(name) for name in about.get("class_names") or range(int(about["classes"]))]
    found: list[Prediction] = []
    for batch in _batches(kind, inputs, about):
        with torch.no_grad():
            shares = compute(torch.stack([given.values for given in batch])).softmax(-1)
        if shares.shape != (len(batch), len(names)):
            raise ConfigError(
                f"the model gives {tuple(shares.shape[1:])}, not a score for each of {len(names)} classes"
            )
        likeliest = shares.topk(min(top, len(names)))
        for given, values, places in zip(batch, likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
            classes = tuple((names[place], value) for place, value in zip(places, values, strict=True))
            found.append(Prediction(given.name, classes, given.label))
        step(len(found))
    if not found:
        raise ConfigError("there is nothing to judge; name image files, or what else the model's task reads")
    return found


def _batches(kind: type[Task], paths: Sequence[str | Path], about: Mapping[str, Any]) -> Iterator[list[Input]]:
    examples = (given for path in paths for given in kind.read_inputs(Path(path).expanduser(), about))
    while batch := list(islice(examples, BATCH)):
        yield batch


def _loaded(path: Path, task: str | None, space: str | None) -> Loaded:
    if path.is_dir():
        from .run import Run

        run = Run(path)
        return run.best_model(), run.task.description(), type(run.task)
    read = READERS.get(path.suffix.lower())
    if read is None:
        instead = f"it is a program: python {path}" if path.suffix == ".py" else "expected .safetensors or .onnx"
        raise ConfigError(f"{path} is no run's folder, and no model that nas predict reads; {instead}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the model {path} cannot be read: {error.strerror}") from None
    return read(path, content, task, space)


def _safetensors(path: Path, content: bytes, task: str | None, space: str | None) -> Loaded:
    from safetensors import SafetensorError
    from safetensors.torch import load as weights_in

    try:
        weights = weights_in(content)
        size = int.from_bytes(content[:8], "little")
        said = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError) as error:
        raise ExportError(f"{path} is damaged, or no safetensors file ({one_line(error)})") from None
    architecture, about, kind = _said(path, said, task)
    maker: Any = make("space", _known("space", path, space, architecture.space), dict(architecture.options))
    try:
        model = maker.model(architecture, Shapes(tuple(about["input_shape"]), int(about["classes"])))
        model.load_state_dict(weights)
    except (RuntimeError, NasError) as error:
        raise ExportError(
            f"the weights in {path} are not those of its architecture ({one_line(error)}); it was written by nasengine "
            f"{said.get('nasengine', '?')}"
        ) from None
    return model.eval(), about, kind


def _onnx(path: Path, content: bytes, task: str | None, space: str | None) -> Loaded:
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("ONNX models run with one more package; install it with: pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common root
        raise ExportError(f"{path} is damaged, or no ONNX model ({one_line(error)})") from None
    _, about, kind = _said(path, session.get_modelmeta().custom_metadata_map, task)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.contiguous().numpy()})[0]), about, kind


def _said(path: Path, said: Mapping[str, str], task: str | None) -> tuple[Architecture, Mapping[str, Any], type[Task]]:
    """What the file says of itself."""
    try:
        about = json.loads(said["task"])
        architecture = Architecture.from_json(said["architecture"])
        sizes = [int(size) for size in (*about["input_shape"], about["classes"])]
        if not all(0 < size < 10**6 for size in sizes):
            raise ValueError(sizes)
    except (KeyError, TypeError, ValueError, NasError):
        raise ExportError(f"{path} does not say what its inputs are, as what nas export writes does") from None
    kind: Any = load("task", _known("task", path, task, said.get("task_name", "")))
    return architecture, about, kind


def _known(kind: str, path: Path, given: str | None, said: str) -> str:
    """A plugin's name: as the user says, else as the file does, which may name what is installed, but no code."""
    if given is None and (not said or ":" in said or "/" in said):
        raise ConfigError(
            f"the model {path} was made with the {kind} {said!r:.80}, and code that a file names is not run; if you "
            f"know it, name it yourself: --{kind} {said:.80}"
        )
    return given or said


READERS: Mapping[str, Callable[[Path, bytes, str | None, str | None], Loaded]] = {
    ".safetensors": _safetensors,
    ".onnx": _onnx,
}
"""By the end of the file's name."""
