"""Export: what is written works where nasengine is not installed, and gives what the model gives."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import nasengine
from nasengine import Architecture, ExportError, Run, RunError
from nasengine.constructor import constructor_call
from nasengine.evaluators.tasks.digits import Digits
from nasengine.export import export
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.standalone import standalone_source

SPACES = {"cell": CellSpace(layers=3, channels=4), "chain": ChainSpace()}
MODELS = [f"{space}_{seed}" for space in SPACES for seed in range(4)]
ALONE = """
import json, sys
sys.modules["nasengine"] = None
try:
    import nasengine
except ImportError:
    pass
else:
    raise SystemExit("nasengine can be imported here")
"""


def trained(name: str) -> nn.Module:
    """A random architecture of the space whose weights and batch statistics are as arbitrary as after a training."""
    space, seed = name.split("_")
    task, generator = Digits(), torch.Generator().manual_seed(int(seed))
    architecture = SPACES[space].domain(task).sample(np.random.default_rng(int(seed)))
    model: nn.Module = SPACES[space].model(architecture, task)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1 * (tensor.dim() == 1))
            if tensor.dim() > 1:
                tensor.sub_(tensor.mean()).mul_(4)
    return model


def alone(code: str, *arguments: Path) -> Any:
    """Runs code in a process that cannot import nasengine; gives the JSON that it prints."""
    command = [sys.executable, "-I", "-c", ALONE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def off(expected: Tensor, given: Tensor) -> float:
    """The largest difference, in units of the largest value."""
    assert expected.shape == given.shape
    return float((expected - given).abs().max() / expected.abs().max())


def loaded(source: str) -> nn.Module:
    namespace: dict[str, Any] = {"__name__": "loaded"}
    exec(source, namespace)  # noqa: S102
    network: nn.Module = namespace["load"]()
    return network


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How far each model's file, run alone, is from the model, on a batch of another size than the example's."""
    folder = tmp_path_factory.mktemp("standalone")
    for name in MODELS:
        model, images = trained(name), torch.randn(5, 1, 8, 8)
        (folder / f"{name}.py").write_text(standalone_source(model, Digits().example(), {}), encoding="utf-8")
        with torch.no_grad():
            torch.save((images, model.eval()(images)), folder / f"{name}.pt")
    code = """
import importlib, pathlib, torch
sys.path.insert(0, sys.argv[1])
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    network = importlib.import_module(path.stem).load()
    images, expected = torch.load(path.with_suffix(".pt"))
    with torch.no_grad():
        given = network(images)
    scale = expected.abs().max()
    found[path.stem] = [float((given - expected).abs().max() / scale), float(expected.std() / scale), network.training]
print(json.dumps(found))
"""
    return dict(alone(code, folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return nasengine.search(
        space=ChainSpace(stages=1, layers=2, widths=(4, 8)),
        strategy="random",
        task="digits",
        evaluator="train:epochs=1",
        trials=2,
        baseline=0,
        out=tmp_path_factory.mktemp("search") / "run",
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_python_file_gives_the_models_outputs_where_nasengine_is_not_installed(
    name: str, differences: dict[str, Any]
) -> None:
    difference, spread, training = differences[name]
    assert difference <= 1e-5
    assert spread > 0.01, "outputs that are all the same prove nothing"
    assert not training


@pytest.mark.parametrize("name", ["cell_0", "chain_0"])
def test_a_python_file_reads_as_if_a_person_had_written_it(name: str) -> None:
    source = standalone_source(trained(name), Digits().example(), Digits().description())
    code = source[: source.index("WEIGHTS = ")]
    assert not [line for line in code.splitlines() if len(line) > 120]
    for machine in ("getattr", "slice(", "None)", "= None", '"0"', "fx_", "= 0 + ", "(0 + ", "nasengine"):
        assert machine not in code
    assert "class names: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in code
    assert "(N, 1, 8, 8) -> (N, 10)" in code
    if name == "chain_0":
        assert "_classifier = nn.Linear(" in code
        assert re.search(r"        return self\.head_\w+_classifier\(x\)\n", code)


def test_the_same_model_gives_the_same_file_and_stays_as_it_was() -> None:
    model = trained("chain_1")
    before, numbers = set(vars(model)), torch.random.get_rng_state()
    sources = {standalone_source(model, Digits().example(), {}) for _ in range(2)}
    assert len(sources) == 1
    assert model.training
    assert set(vars(model)) == before
    assert torch.equal(torch.random.get_rng_state(), numbers)


class Tensors(nn.Module):
    """Holds every kind of tensor that a module can."""

    shift: Tensor
    unsaved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3, 1))
        self.one = nn.Parameter(torch.tensor(2.0))
        self.steps = nn.Parameter(torch.arange(4), requires_grad=False)
        self.register_buffer("shift", torch.rand(4, dtype=torch.float64))
        self.register_buffer("unsaved", torch.rand(4), persistent=False)
        self.plain = torch.rand(4)

    def forward(self, x: Tensor) -> Tensor:
        constant = torch.tensor([1.0, 2.0, 3.0, 4.0])
        return (x * self.scale * self.one + self.unsaved + self.plain + self.steps * constant) + self.shift


class Inside(nn.Module):
    """Holds tensors and a layer a level down, and calls the layer as a whole and in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = Tensors()
        self.layer = nn.Linear(4, 4)
        self.layers = nn.Sequential(self.layer, nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x) + self.layers[2](x)
        return functional.linear(self.tensors(x).float(), self.layer.weight)


class Functions(nn.Module):
    """Calls functions of torch, of Python and of tensors; has arguments with defaults, and a dropout that is off."""

    def forward(self, x: Tensor, scale: Tensor | None = None, training: bool = False) -> Tensor:
        x = x if scale is None else x * scale
        left, right = functional.gelu(x).chunk(2, dim=-1)
        pooled = functional.max_pool1d(functional.dropout(x, 0.5, training=self.training), 2)
        far = torch.where(left > 0, right, -math.inf).clamp(min=-3) / math.sqrt(x.shape[1])
        parts = [part.reshape(x.size(0), -1) for part in (left, far, pooled[..., 1:], x[:, ::2].max(dim=1)[0])]
        return torch.cat(parts, dim=-1).to(torch.float64)


class InPlace(nn.Module):
    """The order of evaluation matters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        double = x * 2
        x.add_(double)
        half = double / 2 - x
        double.mul_(3)
        self.relu(x)
        return sum([half, x, self.relu(double)]) + double


class Recurrent(nn.Module):
    """Layers that give several things."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        outputs, (hidden, _) = self.lstm(x + self.attention(normal, normal, normal)[0])
        return outputs.flatten(1).mean(1, keepdim=True) + hidden.sum(0)  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Two layers with one weight, a layer in two sequences, and a motif that is used again."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(4, 4)
        self.first, self.second = nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4))
        self.second[1].weight = self.first.weight
        self.left, self.right = nn.Sequential(shared, nn.ReLU()), nn.Sequential(shared, nn.Tanh())
        self.again = nn.ModuleList([self.second, self.second])

    def forward(self, x: Tensor) -> Tensor:
        x = self.right(self.left(self.second(self.first(x))))
        for motif in self.again:
            x = motif(x)
        return x


class Names(nn.Module):
    """Options may be called anything."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("class", "3x3 conv", "max-pool", "max_pool", "größer", "_", "load_state"):
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, input: Tensor) -> Tensor:
        for layer in self.children():
            input = layer(input) + 1
        return input


@pytest.mark.parametrize(
    "model",
    [
        Tensors(), Inside(), Functions(), InPlace(), Recurrent(), Tied(), Names(), nn.Linear(4, 2), nn.Identity(),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(InPlace(), nn.Sequential(), nn.Identity(), Tied()),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_any_module_that_fx_traces_can_be_written_down(model: nn.Module) -> None:
    example, other = torch.randn(2, 3, 4), torch.randn(5, 3, 4)
    network = loaded(standalone_source(model, example, {}))
    with torch.no_grad():
        expected, given = model.eval()(other), network(other)
    assert given.dtype == expected.dtype
    assert off(expected, given) <= 1e-5


def test_weights_that_were_tied_stay_tied() -> None:
    model = Tied()
    network = loaded(standalone_source(model, torch.randn(2, 3, 4), {}))
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in model.parameters())


def test_integer_inputs_are_remembered() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 2))
    source = standalone_source(model, torch.randint(10, (2, 3)), {})
    namespace: dict[str, Any] = {"__name__": "loaded"}
    exec(source, namespace)  # noqa: S102
    namespace["main"]()


def test_what_is_told_about_a_model_cannot_break_its_file() -> None:
    about = {"class names": ['"""', "\\", "\\N", "{0}", 'ends with "'], "mean": [0.12345678901]}
    source = standalone_source(nn.Linear(4, 2), torch.randn(2, 4), about)
    namespace: dict[str, Any] = {"__name__": "loaded"}
    exec(source, namespace)  # noqa: S102
    assert '""", \\, \\N, {0}, ends with "\nmean: 0.1234568\n' in namespace["__doc__"]


@pytest.mark.parametrize(
    ("layer", "call"),
    [
        (nn.Conv2d(1, 24, 3, padding=1, bias=False), "nn.Conv2d(1, 24, 3, padding=1, bias=False)"),
        (nn.Conv2d(4, 8, (3, 5), padding="same", groups=2), 'nn.Conv2d(4, 8, (3, 5), padding="same", groups=2)'),
        (nn.AvgPool2d(3, 2, count_include_pad=False), "nn.AvgPool2d(3, stride=2, count_include_pad=False)"),
        (nn.MaxPool2d(2, ceil_mode=True), "nn.MaxPool2d(2, ceil_mode=True)"),
        (nn.BatchNorm2d(3, affine=False, momentum=None), "nn.BatchNorm2d(3, momentum=None, affine=False)"),
        (nn.LayerNorm((4, 4), bias=False), "nn.LayerNorm((4, 4), bias=False)"),
        (nn.Linear(3, 4, dtype=torch.float64), "nn.Linear(3, 4, dtype=torch.float64)"),
        (nn.Hardtanh(-2.0, math.inf), 'nn.Hardtanh(min_val=-2.0, max_val=float("inf"))'),
        (nn.GRU(3, 4, num_layers=2, bias=False), "nn.GRU(3, 4, num_layers=2, bias=False)"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "nn.Sequential(\n    nn.ReLU(),\n    nn.Flatten(),\n)"),
    ],
    ids=lambda value: value.partition("(")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_layer_is_written_with_what_is_not_its_default(layer: nn.Module, call: str) -> None:
    assert constructor_call(layer, "layer") == call


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@fx.wrap
def homemade(x: Tensor) -> Tensor:
    return x * 2


class Homemade(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return homemade(x)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Branching(), "torch.fx cannot trace it"),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2)), "'0' .* attributes of a TransformerEncoderLayer do not tell"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "attributes of a ParametrizedLinear do not tell"),
        (Noisy(), "gives other outputs than the model"),
        (Pair(), "gives a tuple"),
        (Homemade(), r"calls [\w.]*test_export\.homemade, which is not torch's"),
    ],
    ids=["control flow", "no constructor", "parametrised", "random", "two outputs", "a stranger's function"],
)
def test_what_cannot_be_written_down_is_refused_with_the_reason(model: nn.Module, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        standalone_source(model, torch.randn(2, 3, 4), {})


def test_the_architecture_reads_back_from_its_file(run: Run, tmp_path: Path) -> None:
    path = export(run, tmp_path / "found.json")
    assert path == tmp_path / "found.json"
    assert Architecture.from_json(path.read_bytes()) == run.best.architecture


def test_the_weights_read_back_with_what_they_belong_to(run: Run, tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(export(run, tmp_path / "found.safetensors"), "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    architecture = Architecture.from_json(about["architecture"])
    assert json.loads(about["task"])["classes"] == 10
    assert about["nasengine"] == nasengine.__version__
    model = run.space.model(architecture, run.task)
    model.load_state_dict(tensors)
    example = run.task.example()
    assert torch.equal(model.eval()(example), run.best_model()(example))


def test_the_python_file_is_a_program_that_says_its_shapes(run: Run, tmp_path: Path) -> None:
    path = export(run, tmp_path / "found.py")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=120, check=True)
    parameters = sum(parameter.numel() for parameter in run.best_model().parameters())
    assert done.stdout == f"input (1, 1, 8, 8) -> output (1, 10), {parameters:,} parameters\n"
    assert run.best.architecture is not None
    source = path.read_text()
    for told in (
        run.best.architecture.id,
        "space 'chain'",
        "task 'digits'",
        "mean: 4.871231",
        "standard deviation: 6.01",
    ):
        assert told in source


def test_the_onnx_model_takes_batches_of_any_size(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    path = export(run, tmp_path / "found.onnx")
    assert capfd.readouterr() == ("", ""), "the exporter talks to nobody"
    images = torch.randn(7, 1, 8, 8)
    np.save(tmp_path / "images.npy", images.numpy())
    code = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(output,) = session.run(["output"], {"input": numpy.load(sys.argv[2])})
print(json.dumps([output.tolist(), session.get_modelmeta().custom_metadata_map]))
"""
    outputs, about = alone(code, path, tmp_path / "images.npy")
    with torch.no_grad():
        assert off(run.best_model()(images), torch.tensor(outputs)) <= 1e-5
    assert Architecture.from_json(about["architecture"]) == run.best.architecture
    assert json.loads(about["task"])["class_names"] == list("0123456789")
    assert str(Path(nasengine.__file__).parent).encode() not in path.read_bytes()


def test_an_existing_file_is_replaced_and_nothing_is_left_beside_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "found.txt").write_text("old")
    export(run, tmp_path / "found.txt", format="json")
    assert Architecture.from_json((tmp_path / "found.txt").read_text()) == run.best.architecture
    assert [path.name for path in tmp_path.iterdir()] == ["found.txt"]


@pytest.mark.parametrize(
    ("name", "format", "sentence"),
    [
        ("found.onx", None, r"'found.onx'.* Did you mean 'onnx'\? The formats are: json, onnx, py, safetensors"),
        ("found", None, "the format of 'found' cannot be told"),
        ("found.json", "safetensor", r"no format 'safetensor'. Did you mean 'safetensors'\?"),
        ("nowhere/found.json", None, "nowhere is not there"),
        ("folder.json", None, "folder.json cannot be written: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_in_a_sentence(
    name: str, format: str | None, sentence: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ExportError, match=sentence):
        export(run, tmp_path / name, format)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_without_its_packages_onnx_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r'pip install "nasengine\[onnx\]"'):
        export(run, tmp_path / "found.onnx")


def test_a_run_without_a_trained_model_has_none_to_export(run: Run, tmp_path: Path) -> None:
    judged = nasengine.search(
        run.space, "random", "digits", f"{Path(__file__).parent}/parts/cheap.py:Cheap", trials=1, baseline=0,
        out=tmp_path / "run",
    )  # fmt: skip
    export(judged, tmp_path / "found.json")
    with pytest.raises(RunError, match="model"):
        export(judged, tmp_path / "found.safetensors")
