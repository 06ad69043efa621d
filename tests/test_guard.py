"""The guard of one-shot searches: its eigenvalue against a dense Hessian, its rule, and how its words travel."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

import nasengine
from nasengine import Chooser, Context, Derivation, Observer, Run, SearchSpace, Task, Trial
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.report.html import page
from nasengine.search_spaces.cell import CellSpace
from nasengine.storage import Folder
from nasengine.strategies import guard as rules
from nasengine.strategies.darts import DARTS
from nasengine.strategies.drnas import DrNAS
from nasengine.strategies.enas import ENAS
from nasengine.strategies.guard import Guard, dominant, growth, operations
from nasengine.strategies.relaxation import Relaxation
from nasengine.strategies.spos import SPOS
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Learn, Report

CPU = torch.device("cpu")


class Nothing(nn.Module):
    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


class Smooth(SearchSpace):
    """Four choices of a layer, a skip connection or nothing, with dropout and batch normalisation before them."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        def layer() -> nn.Module:
            return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh())

        options: dict[str, Callable[[], nn.Module]] = {"layer": layer, "skip": nn.Identity, "none": Nothing}
        choices = [choose.one(f"choice{index}", options) for index in range(4)]
        before = [nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)]
        return nn.Sequential(*before, *choices, nn.Linear(8, task.classes))


def guarding(how: str = "warn", epochs: int = 50, warmup: int = 0, kind: Any = Guard) -> Any:
    context = Context(Smooth(), TinyTask(), CPU, seed=0)
    net = context.supernet().train()
    return kind.of(how, True, TinyTask(), Relaxation(net, context), net, context, epochs, warmup)


def batch() -> Any:
    return next(TinyTask().train_batches(24, torch.Generator().manual_seed(0)))


# The eigenvalue


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [4.0, -4.0])
def test_power_iteration_finds_the_eigenvalue_of_largest_size(seed: int, shift: float) -> None:
    """The shift parts the largest eigenvalues of both signs: power iteration does not tell those of equal size."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix = a + a.T + shift * torch.eye(6, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix)
    exact = float(values[values.abs().argmax()])
    start = torch.randn(6, generator=generator, dtype=torch.float64)
    found, vector = dominant(lambda v: matrix @ v, start / start.norm(), 300)
    assert found == pytest.approx(exact, rel=1e-6)
    assert float(vector.norm()) == pytest.approx(1)
    again, _ = dominant(lambda v: matrix @ v, vector, 1)  # from where the last one ended
    assert again == pytest.approx(exact, rel=1e-6)


def test_a_constant_function_curves_nowhere() -> None:
    value, vector = dominant(torch.zeros_like, torch.tensor([1.0, 0, 0]), 3)
    assert value == 0.0
    assert vector.tolist() == [1.0, 0.0, 0.0]


def test_the_eigenvalue_is_that_of_the_dense_hessian_of_the_validation_loss() -> None:
    """After a few looks at the same batch: softmax and supernet differentiated twice, and by central differences."""
    watch = guarding()
    relaxation, net, task = watch.relaxation, watch.supernet, watch.task
    with torch.no_grad():
        relaxation.alpha.copy_(torch.linspace(-1, 1, len(relaxation.alpha)))
    values = [watch.eigenvalue(batch()) for _ in range(25)]

    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()

    def loss(alpha: Tensor) -> Tensor:
        for name, part in relaxation.slices.items():
            net.gates[name].set(alpha[part].softmax(0))
        return task.loss(net, batch())

    at = relaxation.alpha.detach()
    dense = torch.linalg.eigvalsh(hessian(loss, at))  # type: ignore[no-untyped-call]
    exact = float(dense[dense.abs().argmax()])
    assert values[-1] == pytest.approx(exact, rel=0.01)
    step = 0.05 * watch.vector
    with torch.no_grad():
        around = float(loss(at + step) - 2 * loss(at) + loss(at - step)) / 0.05**2
    assert around == pytest.approx(exact, rel=0.05)


def test_a_hessian_that_cannot_be_measured_is_left_out_in_a_sentence() -> None:
    class Fused(nn.Module):
        """Attention in one kernel, whose gradient torch does not differentiate."""

        def forward(self, x: Tensor) -> Tensor:
            heads = x.view(len(x), 1, 2, 8)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads).flatten(1)

    class Half(Smooth):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return nn.Sequential(super().build(choose, task), nn.Linear(2, 16), Fused(), nn.Linear(16, 2))

    first, second = (derived for _, derived in learnt(DARTS(epochs=2, batch_size=24), Half()))
    assert first.note.startswith("the guard cannot measure the Hessian here, and goes without: ")
    assert "is not implemented" in first.note
    assert second.note is None
    assert not {"eigenvalue"} & {*first.metrics, *second.metrics}


def test_looking_changes_nothing() -> None:
    watch = guarding()
    net, alpha = watch.supernet, watch.relaxation.alpha
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    old, drawn = alpha.detach().clone(), torch.get_rng_state()
    watch.eigenvalue(batch())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(alpha, old)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert alpha.grad is None
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(module.training for module in net.modules())


def test_a_search_learns_the_same_alpha_with_and_without_its_hessian() -> None:
    with_it, without = (
        learnt(DARTS(epochs=2, batch_size=8, hessian=hessian), TinySpace()) for hessian in (True, False)
    )
    assert torch.equal(with_it[-1][0], without[-1][0])
    assert ["eigenvalue" in derived.metrics for _, derived in (with_it[-1], without[-1])] == [True, False]


# The rule


def first_stop(sizes: Sequence[float], first: int) -> int | None:
    """After which epoch, counted from 0, the rule ends a search with these eigenvalues."""
    found = (epoch for epoch in range(len(sizes)) if growth(list(sizes[: epoch + 1]), first) > 1.3)
    return next(found, None)


def test_steady_and_falling_eigenvalues_go_on() -> None:
    assert first_stop([0.3] * 50, 10) is None
    assert first_stop([0.99**epoch for epoch in range(50)], 10) is None
    assert first_stop([1 + 0.01 * epoch for epoch in range(50)], 10) is None


def test_a_jump_stops_as_soon_as_the_window_has_grown_by_the_limit() -> None:
    """From epoch 20 on twice as large: the mean of 5 is 1.4 of what it was with two of them."""
    assert first_stop([1.0] * 20 + [2.0] * 30, 10) == 21
    assert first_stop([1.0] * 20 + [1.3] * 30, 10) is None  # exactly 1.3 at most: not more
    assert first_stop([1.0] * 20 + [-2.0] * 30, 10) == 21  # its size counts


def test_the_windows_are_five_epochs_wide_and_four_apart() -> None:
    values = [float(value) for value in (1, 5, 2, 4, 3, 8, 6, 9, 7, 11)]
    assert growth(values, 0) == pytest.approx((8 + 6 + 9 + 7 + 11) / (5 + 2 + 4 + 3 + 8))


def test_growth_before_the_first_epoch_counts_for_nothing() -> None:
    """The earlier window's middle, 6 epochs back, must be epoch 10 at least: epoch 16 is the first to be judged."""
    growing = [1.2**epoch for epoch in range(50)]
    assert first_stop(growing, 10) == 16
    assert first_stop(growing, 2) == 8  # both windows must be full
    assert first_stop([0.0] * 30, 0) is None


class Fed(Guard):  # type: ignore[misc]
    """A guard whose eigenvalues are given, as batches."""

    def eigenvalue(self, batch: float) -> float:
        return batch


def architectures(watch: Any, count: int, pick: str = "layer") -> list[Any]:
    """Different ones, of which the first choice tells which it is."""
    domain = watch.relaxation.domain
    names = list(domain.decisions)
    return [
        domain.complete({name: pick if index else ("layer", "skip")[number % 2] for index, name in enumerate(names)})
        for number in range(count)
    ]


def looked(how: str, values: Sequence[float], epochs: int = 50) -> list[Derivation]:
    """What comes of looking at a search with these eigenvalues."""
    watch = guarding(how, epochs, kind=Fed)
    found = []
    for epoch, architecture in enumerate(architectures(watch, len(values))):
        found.append(watch.look(epoch, architecture, values[epoch]))
        if watch.stopped:
            break
    return found


JUMP = [1.0] * 20 + [2.0] * 10


def test_stop_ends_with_what_was_derived_in_the_middle_of_the_earlier_window() -> None:
    found = looked("stop", JUMP)
    watch = guarding()
    assert len(found) == 22
    assert found[-1].architecture == architectures(watch, 30)[21 - 6]
    assert found[-1].note == (
        "after epoch 22 the validation loss curves 1.40 times as much in the architecture's weights as 4 epochs before "
        "(R-DARTS allows 1.3): the learning ends, and what was derived after epoch 16 is kept"
    )
    assert [derivation.note for derivation in found[:-1]] == [None] * 21


def test_warn_says_so_once_and_goes_on() -> None:
    found = looked("warn", JUMP)
    assert len(found) == 30
    said = [(epoch, derivation.note) for epoch, derivation in enumerate(found) if derivation.note]
    assert [epoch for epoch, _ in said] == [21]
    assert said[0][1].endswith(
        "what is derived from here on may do worse than that of epoch 16; guard=stop would keep that"
    )
    watch = guarding()
    assert [derivation.architecture for derivation in found] == architectures(watch, 30)


def test_off_says_nothing_and_still_measures() -> None:
    found = looked("off", JUMP)
    assert len(found) == 30
    assert {derivation.note for derivation in found} == {None}
    assert [derivation.metrics["eigenvalue"] for derivation in found] == JUMP


@pytest.mark.parametrize(
    ("epochs", "warmup", "first"), [(50, 0, 10), (100, 0, 10), (25, 0, 5), (8, 0, 1), (50, 15, 15)]
)
def test_short_searches_are_watched_from_the_same_share_of_their_epochs_on(
    epochs: int, warmup: int, first: int
) -> None:
    assert guarding("warn", epochs, warmup).first == first


# Operations without parameters


def test_decisions_between_layers_and_skip_connections_are_told_from_others() -> None:
    net = Smooth().supernet(TinyTask())
    assert operations(net) == {f"choice{i}": {"layer": True, "skip": False, "none": None} for i in range(4)}

    class Other(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            activations = choose.one("activation", {"relu": nn.ReLU, "gelu": nn.GELU})
            layers = choose.one("layer", {"one": partial(nn.Linear, 16, 4), "two": partial(nn.Linear, 16, 4)})
            return nn.Sequential(nn.Flatten(), activations, layers, nn.Linear(4, 2))

    assert operations(Other().supernet(TinyTask())) == {}


def test_in_a_cell_a_skip_connection_that_halves_the_image_has_parameters_and_pooling_has_none() -> None:
    found = operations(CellSpace(layers=3, channels=4, nodes=2).supernet(TinyTask()))
    assert found["normal.node0.from0"]["skip_connect"] is False
    assert found["reduce.node0.from0"]["skip_connect"] is True
    assert found["reduce.node1.from2"]["skip_connect"] is False
    assert [found["normal.node0.from0"][name] for name in ("max_pool_3x3", "sep_conv_3x3", "none")] == [
        False, True, None,
    ]  # fmt: skip


def shares(how: str, cells: Sequence[str], epochs: int) -> list[Derivation]:
    """What comes of deriving these, written as the four choices' first letters."""
    watch = guarding(how, epochs)
    watch.hessian = False
    options = {"l": "layer", "s": "skip", "n": "none"}
    domain = watch.relaxation.domain
    return [
        watch.look(
            epoch, domain.complete({f"choice{i}": options[letter] for i, letter in enumerate(cell)}), None
        )
        for epoch, cell in enumerate(cells)
    ]  # fmt: skip


def test_the_share_of_operations_without_parameters_leaves_none_aside() -> None:
    found = shares("warn", ["llll", "lsss", "nlls", "nnns", "nnnn"], 50)
    assert [derivation.metrics["parameter_free"] for derivation in found] == pytest.approx([0, 3 / 4, 1 / 3, 1, 1])


def test_a_collapse_is_said_when_it_has_lasted_and_in_the_end() -> None:
    found = shares("warn", ["ssss"] + ["lsls"] * 3 + ["lsss"] * 8, 12)
    said = {epoch: derivation.note for epoch, derivation in enumerate(found) if derivation.note}
    assert set(said) == {8, 11}
    assert said[8] == (
        "3 of the 4 operations derived after epoch 9 have no parameters (3 × skip): so do searches inside a "
        "supernet collapse; hold the result against random architectures, or take another strategy"
    )
    assert str(said[11]).startswith("3 of the 4 operations derived in the end have no parameters (3 × skip)")


@pytest.mark.parametrize(("how", "last"), [("warn", "lsls"), ("warn", "nsss"), ("warn", "nnss"), ("off", "ssss")])
def test_what_is_no_collapse_is_not_called_one(how: str, last: str) -> None:
    """Two thirds and fewer, fewer than three operations, and where nobody wants to hear it."""
    found = shares(how, ["llll", last], 2)
    expected = last == "nsss"
    assert bool(found[-1].note) == expected


# Without architecture weights


class Darkened(nn.Module):
    """Of what comes in, nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), 16)


class Dark(SearchSpace):
    """Three layers in a row, each of which had better be skipped."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        layers = [choose.one(f"layer{index}", {"dark": Darkened, "skip": nn.Identity}) for index in range(3)]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, task.classes))


@pytest.mark.parametrize("guard", ["warn", "off"])
@pytest.mark.parametrize(
    ("make", "begins"),
    [
        (partial(ENAS, epochs=8, controller_steps=2, aggregate=3, samples=40, hidden=8), 0),
        (partial(SPOS, epochs=20, generations=6, population=2, calibration=2), 20),
    ],
    ids=["enas", "spos"],
)
def test_strategies_without_architecture_weights_count_what_they_derive_and_say_that_it_collapsed(
    make: Any, begins: int, guard: str
) -> None:
    context = Context(Dark(), TinyTask(), CPU, seed=3)
    strategy = make(batch_size=16, learning_rate=0.2, guard=guard)
    found = list(strategy.learn(context.supernet(), TinyTask(), context))
    assert not any("parameter_free" in derived.metrics for derived in found[:begins])  # there it would be chance
    for derived in found[begins:]:
        skipped = [pick for pick in derived.architecture.picks.values() if pick == "skip"]
        assert derived.metrics["parameter_free"] == len(skipped) / 3
    assert found[-1].metrics["parameter_free"] == 1
    said = [derived.note for derived in found]
    if guard == "off":
        assert not any(said)
    else:
        assert said[-1] == (
            "3 of the 3 operations derived in the end have no parameters (3 × skip): so do searches inside a supernet "
            "collapse; hold the result against random architectures, or take another strategy"
        )
        assert not any(said[: begins + 4])  # it must have lasted for five
        assert sum(map(bool, said)) == 2


# In a search


def learnt(
    strategy: Any, space: SearchSpace, checkpoint: dict[str, Any] | None = None, context: Context | None = None
) -> list[tuple[Tensor, Any]]:
    task = TinyTask()
    context = context or Context(space, task, CPU, 0, checkpoint=checkpoint)
    found = []
    for derivation in strategy.learn(context.supernet(), task, context):
        found.append((context.state()["kept"]["alpha"].clone(), derivation))
    return found


@pytest.mark.parametrize("make", [DARTS, DrNAS])
def test_a_search_that_is_stopped_derives_what_it_would_have_derived_before(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a limit of 0 the rule ends any search where it may: after epoch 9 of 12, for that of epoch 3."""
    monkeypatch.setattr(rules, "LIMIT", 0.0)
    options = {"epochs": 12, "batch_size": 24, "alpha_learning_rate": 0.3}
    whole = learnt(make(guard="off", **options), Smooth())
    context = Context(Smooth(), TinyTask(), CPU, 0)
    stopped = learnt(make(guard="stop", **options), Smooth(), context=context)
    assert (len(whole), len(stopped)) == (12, 9)
    for (alpha, _), (other, _) in zip(stopped, whole, strict=False):
        assert torch.equal(alpha, other)
    assert stopped[-1][1].architecture == whole[2][1].architecture
    assert "the learning ends, and what was derived after epoch 3 is kept" in stopped[-1][1].note

    write_checkpoint(Folder(tmp_path), 0, {"context": context.state()})
    checkpoint = read_checkpoint(Folder(tmp_path), 0)
    assert checkpoint is not None
    assert learnt(make(guard="stop", **options), Smooth(), checkpoint["context"]) == []  # it had ended


def test_a_guard_goes_on_from_a_checkpoint_as_if_there_had_been_none() -> None:
    watch, other = guarding("stop", kind=Fed), guarding("stop", kind=Fed)
    derived = architectures(watch, 22)
    for epoch in range(21):
        watch.look(epoch, derived[epoch], JUMP[epoch])
    other.load_state_dict(watch.state_dict())
    assert other.look(21, derived[21], JUMP[21]) == looked("stop", JUMP)[-1]
    assert other.stopped


# How the words travel


TALKATIVE = f"{Path(__file__).parent / 'parts' / 'talkative.py'}:Talkative"


class Listener(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)

    def reported(self, report: Report) -> None:
        if report.note:
            self.heard.append(f"report {report.epoch}: {report.note}")


def test_what_a_learning_says_is_heard_at_once_each_sentence_once_and_kept(tmp_path: Path) -> None:
    listener = Listener()
    run = nasengine.search(
        TinySpace(), TALKATIVE, TinyTask(), "train:epochs=1", baseline=0, out=tmp_path / "run", observer=listener
    )
    assert listener.heard == [
        "report 2: beware", "beware", "report 3: beware", "report 4: it is <over>", "it is <over>",
    ]  # fmt: skip
    for trials in (run.all_trials, Run(tmp_path / "run").all_trials):
        assert trials[0].notes == ("beware", "it is <over>")
        assert trials[1].notes == ()
    assert run.rows()[0]["notes"] == ["beware", "it is <over>"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_a_learning_says_on_another_worker_is_heard_too(tmp_path: Path) -> None:
    listener = Listener()
    run = nasengine.search(
        "chain:stages=1,layers=2,widths=[4],kernels=[3]", TALKATIVE, evaluator="train:epochs=1", baseline=0, workers=2,
        final_fidelity="epochs=1", out=tmp_path / "run", observer=listener,
    )  # fmt: skip
    heard = [text for text in listener.heard if "beware" in text or "over" in text]
    assert heard == ["report 2: beware", "beware", "report 3: beware", "report 4: it is <over>", "it is <over>"]
    assert run.all_trials[0].notes == ("beware", "it is <over>")


def test_show_and_the_report_repeat_what_was_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nasengine.search(TinySpace(), TALKATIVE, TinyTask(), "train:epochs=1", baseline=0, out=tmp_path / "run")
    assert "Trial 0: it is &lt;over&gt;" in page(run)
    assert "trial 0: beware" in nas(capsys, monkeypatch, "show", tmp_path / "run")[1]
    assert "note: it is <over>" in nas(capsys, monkeypatch, "show", tmp_path / "run", "--trial", 0)[1]
    shown = json.loads(nas(capsys, monkeypatch, "show", tmp_path / "run", "--trial", 0, "--json")[1])
    assert shown["notes"] == ["beware", "it is <over>"]


def test_records_from_before_there_were_notes_are_read() -> None:
    data = Trial(0, Learn(), "done", notes=("beware",)).to_dict()
    assert Trial.from_dict(0, Learn(), 1, data).notes == ("beware",)
    del data["notes"]
    assert Trial.from_dict(0, Learn(), 1, data).notes == ()


def nas(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    from nasengine.cli import main

    monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_flag_sets_the_strategys_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = "nasbench201:cells=1,channels=2"
    strategy = "darts:epochs=1,batch_size=512"
    code, _, err = nas(
        capsys, monkeypatch, "run", "--space", space, "--strategy", strategy, "--guard", "stop", "--out", "run",
        "--baseline", 0, "--final-fidelity", "epochs=1",
    )  # fmt: skip
    assert code == 0, err
    assert Run(tmp_path / "run").config.strategy.options == {"epochs": 1, "batch_size": 512, "guard": "stop"}


@pytest.mark.parametrize(
    ("strategy", "guard", "sentence"),
    [
        ("random", "stop", "the strategy 'random' has no guard, which is for strategies that learn inside a supernet"),
        (TALKATIVE, "warn", "Talkative' has no guard; leave out --guard"),
        ("darts", "never", "the strategy 'darts' has guard = 'never'; expected warn, stop or off"),
        ("enas", "never", "the strategy 'enas' has guard = 'never'; expected warn or off\n"),
        (
            "spos",
            "stop",
            "the strategy 'spos' has guard = 'stop'; expected warn or off; stop goes by the validation loss's Hessian "
            "in the architecture weights, and it has none\n",
        ),
    ],
)
def test_a_guard_that_cannot_be_is_one_sentence(
    strategy: str, guard: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = nas(capsys, monkeypatch, "run", "--strategy", strategy, "--guard", guard)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_options_that_are_inherited_are_explained_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = json.loads(nas(capsys, monkeypatch, "show", "strategy", "pc_darts", "--json")[1])
    options = {option["name"]: option for option in shown["options"]}
    assert options["partial"]["about"] == "the paper's K."
    assert options["batch_size"]["default"] == 256
    assert all(option["about"] for option in shown["options"]), "an option without an explanation"
