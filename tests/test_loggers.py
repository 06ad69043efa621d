"""Loggers: what MLflow, W&B and TensorBoard hold of a search, and that none of them can harm it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import ConfigError, Observer, Run
from nasengine.observers import Logger, Several, logged, logger
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Trial

PARTS = Path(__file__).parent / "parts" / "cheap.py"
STEPWISE = f"{PARTS}:Stepwise"
FAULTY = f"{PARTS}:Faulty:how=raise,every=3"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine, and a busy machine has the time that it needs."""
    monkeypatch.setattr("nasengine.observers.SECONDS_TO_FINISH", 300.0)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def search(folder: Path, *loggers: str | Logger, observer: Observer | None = None, **settings: Any) -> Run:
    """Four trials with curves of four epochs, the final training and two random networks."""
    given = {"evaluator": STEPWISE, "trials": 4, "baseline": 2, "out": folder, **settings}
    with logged(*loggers, observer=observer) as several:
        return nasengine.search(TinySpace(), "evolution:population=2", TinyTask(), observer=several, **given)


def bests(run: Run) -> list[float]:
    """The best accuracy after each trial of the search."""
    values = [trial.metrics["accuracy"] for trial in run.all_trials if trial.purpose == "search"]
    return [max(values[: count + 1]) for count in range(len(values))]


class Interrupts(Observer):
    """Interrupts the process at the nth trial."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def ended(self, trial: Trial) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for MLflow, whose database takes seconds to be made."""
    return tmp_path_factory.mktemp("mlflow")


def test_mlflow_holds_the_settings_the_trials_with_their_curves_and_the_result(tmp_path: Path, database: Path) -> None:
    from mlflow import MlflowClient

    run = search(tmp_path / "run", f"mlflow:experiment=first,uri={database}")
    client = MlflowClient(tracking_uri=f"sqlite:///{database / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("first")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    children = {r.info.run_name: r for r in runs if r is not parent}
    assert parent.info.status == "FINISHED"
    assert parent.data.params["strategy"] == "evolution"
    assert parent.data.params["strategy.population"] == "2"
    assert parent.data.params["trials"] == "4"
    assert {r.data.tags["mlflow.parentRunId"] for r in children.values()} == {parent.info.run_id}
    assert set(children) == {f"{trial.purpose} {trial.number}" for trial in run.all_trials}
    for trial in run.all_trials:
        child = children[f"{trial.purpose} {trial.number}"]
        assert trial.architecture is not None
        assert child.info.status == "FINISHED"
        assert child.data.tags["state"] == "done"
        assert child.data.metrics["accuracy"] == trial.metrics["accuracy"]
        assert child.data.params["architecture"] == trial.architecture.id
        assert child.data.params["pick.width"] == str(trial.architecture.picks["width"])
        curve = {m.step: m.value for m in client.get_metric_history(child.info.run_id, "accuracy")}
        assert curve == {epoch: point["accuracy"] for epoch, point in enumerate(trial.curve, 1)}
    history = client.get_metric_history(parent.info.run_id, "best_accuracy")
    assert [m.value for m in sorted(history, key=lambda m: m.step)] == bests(run)
    comparison = run.comparison()
    assert comparison is not None
    assert parent.data.metrics["found/accuracy"] == run.best.metrics["accuracy"]
    assert parent.data.metrics["comparison/gain"] == pytest.approx(comparison.gain)
    (artifact,) = (database / "artifacts").rglob("architecture.json")
    assert run.best.architecture is not None
    assert json.loads(artifact.read_text()) == run.best.architecture.to_dict()


def test_failed_trials_are_failed_runs_that_say_why(tmp_path: Path, database: Path) -> None:
    from mlflow import MlflowClient

    search(tmp_path / "run", f"mlflow:experiment=faulty,uri={database}", evaluator=FAULTY, baseline=0)
    client = MlflowClient(tracking_uri=f"sqlite:///{database / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("faulty").experiment_id])  # type: ignore[union-attr]
    failed = [r for r in runs if r.info.status == "FAILED"]
    assert [r.data.tags["state"] for r in failed] == ["failed"]
    assert failed[0].data.tags["error"] == "ValueError: this candidate is not for us"


def test_a_resumed_search_goes_on_with_the_run_that_it_was_logged_to(tmp_path: Path, database: Path) -> None:
    from mlflow import MlflowClient

    chosen = f"mlflow:experiment=resumed,uri={database}"
    client = MlflowClient(tracking_uri=f"sqlite:///{database / 'mlflow.db'}")

    def runs() -> list[Any]:
        return list(client.search_runs([client.get_experiment_by_name("resumed").experiment_id]))  # type: ignore[union-attr]

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "run", chosen, observer=Interrupts(2))
    assert sorted(r.info.status for r in runs()) == ["FINISHED", "FINISHED", "KILLED"]
    with pytest.raises(KeyboardInterrupt), logged(observer=Interrupts(1)) as unlogged:
        nasengine.resume(tmp_path / "run", space=TinySpace(), task=TinyTask(), observer=unlogged)
    with logged(chosen) as observer:
        run = nasengine.resume(tmp_path / "run", space=TinySpace(), task=TinyTask(), observer=observer)
    names = [r.info.run_name for r in runs()]
    assert len(names) == len(set(names)) == 1 + len(run.all_trials)
    assert {r.info.status for r in runs()} == {"FINISHED"}


def records(path: Path) -> Iterator[bytes]:
    """The records of an event file: length, checksum, data, checksum."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield content[at + 12 : at + 12 + length]
        at += length + 16


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """All scalars of a folder's event files, by tag and step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events*")):
        for record in records(path):
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_shows_the_search_by_trial_and_each_curve_by_epoch(tmp_path: Path) -> None:
    run = search(tmp_path / "run", "tensorboard")
    events = tmp_path / "run" / "tensorboard"
    shown = scalars(events / "search")
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert shown["search/accuracy"] == pytest.approx({t.number: t.metrics["accuracy"] for t in searched})
    assert list(shown["best/accuracy"].values()) == pytest.approx(bests(run))
    comparison = run.comparison()
    assert comparison is not None
    assert list(shown["comparison/gain"].values()) == pytest.approx([comparison.gain])
    for trial in run.all_trials:
        curve = scalars(events / f"trial-{trial.number:04}")["accuracy"]
        assert curve == pytest.approx({epoch: point["accuracy"] for epoch, point in enumerate(trial.curve, 1)})
    (found,) = (events / "search").glob("events*")
    assert run.best.architecture is not None
    assert b"found/architecture" in found.read_bytes()


def test_what_runs_can_be_seen_in_tensorboard_before_it_ends(tmp_path: Path) -> None:
    seen: list[int] = []

    class Looks(Observer):
        def reported(self, report: Any) -> None:
            time.sleep(0.05)
            curve = scalars(tmp_path / "run" / "tensorboard" / "trial-0000").get("accuracy", {})
            seen.append(len(curve) if report.number == 0 else 0)

    search(
        tmp_path / "run", "tensorboard", observer=Looks(), evaluator=f"{STEPWISE}:seconds=0.05", trials=1, baseline=0
    )
    assert 0 < max(seen) < 4


def test_wandb_writes_the_search_offline_and_touches_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    run = search(tmp_path / "run", "wandb:project=mine,mode=offline")
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    with server, pytest.raises(BlockingIOError):  # nobody has called
        server.accept()
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    until = time.monotonic() + 60  # a process of W&B's own writes it, when it comes to that
    points = list(history(folder))
    while time.monotonic() < until and len([p for p in points if "search/accuracy" in p]) < len(searched):
        time.sleep(0.2)
        points = list(history(folder))
    assert [p["search/accuracy"] for p in points if "search/accuracy" in p] == [t.metrics["accuracy"] for t in searched]
    assert [p["best/accuracy"] for p in points if "best/accuracy" in p] == bests(run)
    assert [p["search/state"] for p in points if "search/state" in p] == ["done"] * len(searched)
    curve = {p["epoch"]: p["curves/0/accuracy"] for p in points if "curves/0/accuracy" in p}
    assert curve == {epoch: point["accuracy"] for epoch, point in enumerate(searched[0].curve, 1)}
    (written,) = folder.glob("run-*.wandb")
    content = written.read_bytes()
    assert b"comparison/gain" in content
    assert b"architecture.json" in content


def history(folder: Path) -> Iterator[Mapping[str, Any]]:
    """What an offline run of W&B logged, step by step."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("run-*.wandb")
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            yield {name: json.loads(value) for name, value in items.items()}


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, in blocks of 32 KiB, behind a header of seven bytes."""
    at, parts = 7, b""
    while at < len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield parts
            parts = b""


class Breaks(Logger):
    """Breaks at the first trial: at once, or after that many seconds."""

    name = "breaks"

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds

    def begin(self, identity: str | None) -> str:
        return "mine"

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def log_trial(self, trial: Trial) -> None:
        time.sleep(self.seconds)
        raise RuntimeError("the tracker is\nnot there")

    def end(self, run: Run) -> None: ...


def test_a_logger_that_breaks_is_named_once_and_the_search_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = search(tmp_path / "run", Breaks(), "tensorboard")
    assert run.finished
    said = capsys.readouterr().err
    assert said == "nas: the logger 'breaks' failed and is left out from here on: RuntimeError: the tracker is\n"
    assert len(scalars(tmp_path / "run" / "tensorboard" / "search")["search/accuracy"]) == 4


def test_a_logger_that_hangs_slows_no_search_and_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasengine.observers.SECONDS_TO_FINISH", 0.5)
    began = time.monotonic()
    assert search(tmp_path / "run", Breaks(seconds=60)).finished
    assert time.monotonic() - began < 20
    assert "the logger 'breaks' has not finished after 0 s, and is left behind" in capsys.readouterr().err


def test_a_logger_that_was_left_behind_says_no_more_when_it_fails_at_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasengine.observers.SECONDS_TO_FINISH", 0.01)
    before = threading.enumerate()
    search(tmp_path / "run", Breaks(seconds=2))
    for thread in set(threading.enumerate()) - set(before):
        thread.join(20)
    assert capsys.readouterr().err.count("the logger 'breaks'") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mlfow", r"no logger is named 'mlfow'\. Did you mean 'mlflow'\? Loggers: mlflow, wandb, tensorboard"),
        ("mlflow:experimant=mine", r"has no option 'experimant'\. Did you mean 'experiment'\?"),
    ],
)
def test_a_logger_that_does_not_exist_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        logger(text)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasengine.observers.PACKAGES", {"wandb": "no_such_package"})
    with pytest.raises(ConfigError, match=r"the logger 'wandb' needs a package: pip install 'nasengine\[wandb\]'"):
        logger("wandb")


def test_nas_run_logs_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from nasengine.cli import app

    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--space", "chain:stages=1,layers=2,widths=[4,8]", "--strategy", "random", "--trials", "2"]
    arguments += ["--evaluator", STEPWISE, "--baseline", "0", "--out", "run", "--quiet"]
    arguments += ["--log", f"tensorboard:folder={tmp_path / 'events'}", "--log", "tensorboard"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    for events in (tmp_path / "events", tmp_path / "run" / "tensorboard"):
        assert len(scalars(events / "search")["search/accuracy"]) == 2


def test_what_people_should_know_reaches_the_one_who_shows_it() -> None:
    told = []

    class Notes(Observer):
        def note(self, text: str) -> None:
            told.append(text)

    several = Several(Notes(), [])
    several.note("a warning")
    several.close()
    assert told == ["a warning"]
