"""Whatever is handed in, by a user, a file or a candidate: taken, or refused in a sentence; nothing of it is executed.

The numbers in comments are the rows of the table of faults in docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import nasengine
from nasengine import (
    Architecture,
    ArchitectureError,
    ConfigError,
    Context,
    Domain,
    Evaluator,
    Fidelity,
    Metrics,
    Observer,
    Run,
    RunFailed,
    Trial,
)
from nasengine.config import Config
from nasengine.errors import NasError
from nasengine.search_spaces.chain import ChainSpace
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"


def refusal(work: Callable[[], object]) -> NasError | None:
    """What the work was refused with; None where it was done. Anything but a sentence is raised."""
    try:
        work()
    except NasError as error:
        return error
    return None


# 7: metrics that are no numbers


class Gives(Evaluator):
    """Gives something odd for every third candidate: as its metric, or as an epoch's."""

    def __init__(self, name: str, epoch: bool) -> None:
        self.value, self.epoch, self.count = ODD[name], epoch, 0

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Any:
        self.count += 1
        good = {"accuracy": self.count / 100}
        odd = {"accuracy": self.value} if self.count % 3 == 0 else good
        return self.curve(odd, good) if self.epoch else odd

    def curve(self, odd: Metrics, good: Metrics) -> Iterator[Metrics]:
        yield odd
        return good  # type: ignore[return-value]


ODD: dict[str, Any] = {
    "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "None": None, "'0.9'": "0.9", "True": True,
    "[1.0]": [1.0], "{'a': 1}": {"a": 1}, "huge": 10**400, "nan of numpy": np.float64("nan"), "complex": 1j,
    "tensor": torch.ones(3),
}  # fmt: skip


@pytest.mark.parametrize("strategy", ["random", "evolution:population=3,sample=2"])
@pytest.mark.parametrize("name", ODD)
def test_a_metric_that_is_no_finite_number_is_never_the_best(name: str, strategy: str, tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, strategy, evaluator=Gives(name, epoch=False), trials=8, baseline=0, out=tmp_path / "run"
    )
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    failed = [trial for trial in searched if trial.state == "failed"]
    assert len(failed) == 2
    for trial in failed:
        said = trial.error or ""
        assert "accuracy" in said or "int too large" in said
        assert name not in ("nan", "inf", "-inf", "None", "'0.9'", "True", "[1.0]") or name in said
    assert max(trial.metrics.get("accuracy", 0) for trial in searched) < 0.1
    assert np.isfinite(run.best.metrics["accuracy"])


@pytest.mark.parametrize("name", ODD)
def test_an_epoch_that_is_no_finite_number_leaves_the_search_as_it_was(name: str, tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator=Gives(name, epoch=True), trials=6, baseline=0, out=tmp_path / "run"
    )
    for trial in run.all_trials:
        assert trial.state == "done" or trial.error
        assert all(np.isfinite(value) for point in trial.curve for value in point.values())
    assert sum(trial.state == "done" for trial in run.all_trials) >= 5


# 9: everything fails


@pytest.mark.parametrize(("allowed", "every", "ends"), [(0.5, 1, 10), (0.4, 2, 10), (0.0, 10, 10), (0.6, 2, None)])
def test_a_search_ends_where_more_fail_than_the_fraction_allowed(
    allowed: float, every: int, ends: int | None, tmp_path: Path
) -> None:
    def search() -> Run:
        return nasengine.search(
            CHAIN, "random", evaluator=f"{PARTS}:Faulty:how=raise,every={every}", trials=40, baseline=0,
            max_failures=allowed, out=tmp_path / "run",
        )  # fmt: skip

    if ends is None:
        assert search().finished
        return
    with pytest.raises(RunFailed, match=r"of 10 trials failed, the first \(\d\) with: ValueError: this candidate") as e:
        search()
    assert e.value.exit_code == 1
    assert len(Run(tmp_path / "run").all_trials) == ends


# 15: configurations

LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 10**400, 2**63, 1.5, float("nan"), float("inf"), -0.0, "", "x", "no", "cell:",
    "cell:layers", ":::", "a.b:C", "./x.py", "../../etc/passwd:X", "\0", "\ud800", "x" * 5000, "1e999", "90s", "-1s",
    "accuracy:up", ":", ",", "epochs=", "epochs=0", "epochs=1.5,data=x", "data=nan", "é", "\n", b"\xff", [], {}, (),
    [[]], {"": None}, {"cell": 1}, {"cell": {"layers": float("nan")}}, {1: 2}, {None: {}}, {"a": 1, "b": 2},
    {"epochs": True}, {"epochs": 10**400}, {"data": "x"}, object(), [None], [1, "accuracy"], ["accuracy:up"],
    "accuracy,accuracy", {"cell": {1: 2}},
]  # fmt: skip


def mutated(rng: random.Random) -> dict[Any, Any]:
    """The default configuration, one to three of its settings turned into something else."""
    settings: dict[Any, Any] = dict(Config().to_dict())
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(
            [*Config.model_fields, *Config.model_fields, "tirals", "", "space ", "\0", "seed\n", "__class__"]
        )
        value = rng.choice(LEAVES)
        if key in ("fidelity", "final_fidelity") and isinstance(value, dict):
            value = {str(name): inner for name, inner in value.items()}
        for _ in range(rng.choice([0, 0, 1, 2, 60])):
            value = rng.choice([[value], {"cell": value}, {rng.choice(["x", "epochs", ""]): value}])
        settings[key] = value
    return settings


def check_configurations(count: int, folder: Path) -> None:
    rng, refused, path = random.Random(0), 0, folder / "mine.yaml"
    for _ in range(count):
        settings = mutated(rng)
        error = refusal(partial(Config.of, settings))
        if error is not None:
            refused += 1
            says_what_is_wrong(error, settings)
        else:
            known = Config.of(settings)
            assert Config.of(known.to_dict()).to_dict() == known.to_dict()
        if rng.random() < 0.1:
            path.write_bytes(damaged(yaml.safe_dump(settings) if serialisable(settings) else "a: [1", rng))
            assert isinstance(refusal(partial(Config.read, path)), ConfigError | None)
    assert refused > count / 2


def damaged(text: str, rng: random.Random) -> bytes:
    """A YAML file with something in it that does not belong there, or as it is."""
    place = rng.randrange(len(text) + 1)
    put = rng.choice(["", "\0", "{", "- ", "\t", "&a *a", "!!python/object/apply:os.system [touch pwned] "])
    return f"{text[:place]}{put}{text[place:]}".encode(errors="surrogatepass")


def serialisable(settings: dict[Any, Any]) -> bool:
    try:
        yaml.safe_dump(settings)
    except (yaml.YAMLError, RecursionError, UnicodeError, ValueError):
        return False
    return True


def says_what_is_wrong(error: NasError, settings: dict[Any, Any]) -> None:
    """It names the setting, or where that is a text of its own form quotes it, and what is allowed."""
    said = str(error)
    assert isinstance(error, ConfigError), said
    named = any(f" {key} is " in said or repr(key) in said for key in settings)
    quoted = ("is no option", "is no objective", "is no constraint", "the fidelity's", "the funnel")
    assert named or any(word in said for word in quoted), said
    assert any(word in said for word in ("expected", "Settings: ", "write options as")), said


def test_a_mutated_configuration_is_taken_or_refused_naming_key_and_what_is_allowed(tmp_path: Path) -> None:
    check_configurations(2_000, tmp_path)


@pytest.mark.slow
def test_100000_mutated_configurations_are_taken_or_refused_naming_key_and_what_is_allowed(tmp_path: Path) -> None:
    check_configurations(100_000, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("final_fidelity", "epochs=0"), ("objectives", "accuracy:up"), ("space", "cell:layers")],
)
def test_a_text_that_has_a_form_is_refused_naming_its_setting(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{key}\b"):
        Config.of({key: value})


@pytest.mark.parametrize("name", [None, 1, 1.5, True])
def test_a_fidelity_whose_fields_have_no_names_is_a_sentence(name: object) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        Config.of({"fidelity": {name: 1}})


class Scaled(TinySpace):
    def __init__(self, scale: float) -> None:
        self.scale = scale


def test_an_own_part_may_be_made_from_numpys_numbers(tmp_path: Path) -> None:
    part = Scaled(np.float64(0.5))
    assert nasengine.search(part, "random", TinyTask(), CHEAP, trials=1, baseline=0, out=tmp_path / "run").finished


KINDS = ["space", "strategy", "evaluator", "task"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *(
            (key, name)
            for key in KINDS
            for name in ("../../nowhere.py:Mine", "x" * 5000, "x/" * 3000, "a\0:B", "\ud800")
        ),
        *((key, "./a\0b.py:Mine") for key in KINDS),
        *(("data", name) for name in ("a\0b", "\ud800")),
        ("data", "x" * 5000),
    ],
)
def test_a_part_with_an_impossible_name_is_a_sentence(key: str, name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": CHAIN, "strategy": "random", "evaluator": CHEAP, "trials": 1, "baseline": 0}
    settings[key] = name
    if key == "data":
        settings["task"] = "images:path=mine"
    with pytest.raises(NasError):
        nasengine.search(**settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# 16: architecture files


def hostile(rng: random.Random, honest: dict[str, Any]) -> str | bytes:
    """An architecture's file after somebody has been at it."""
    changed = json.loads(json.dumps(honest))
    where = rng.choice([changed, changed["options"], changed["picks"]])
    key = rng.choice([*where, "space", "__class__", "", "\ud800", "x" * 1000])
    where[key] = rng.choice(
        [None, True, -1, 10**9, 2**70, 1e308, "", "x" * 10_000, "\0", "../../x", [], ["a"] * 1000, [[]], {}, {"a": {}},
         [None], [1, "a"], "__import__('os').system('touch pwned')", float("nan"), float("inf")]
    )  # fmt: skip
    text = json.dumps(changed)
    at = rng.randrange(len(text))
    way = rng.randrange(8)
    if way == 0:
        return text[:at]
    if way == 1:
        return text[:at] + rng.choice(["[", "{", '"', "\\u", "9" * 5000, "\0", "1e999", "NaN"]) + text[at:]
    if way == 2:
        return text[:at] + "[" * rng.choice([10, 1_000, 100_000])
    if way == 3:
        return bytes(byte ^ (rng.random() < 0.01) for byte in text.encode())
    if way == 4:
        return text.encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]))
    if way == 5:
        return text[:-1] + f', "picks": {json.dumps(honest["picks"])}}}'  # the same key twice
    return text


def judged(domain: Domain, text: str | bytes) -> None:
    domain.validate(Architecture.from_json(text))


def check_architectures(count: int) -> None:
    rng, domain = random.Random(0), ChainSpace().domain(TinyTask())
    honest = domain.sample(np.random.default_rng(0)).to_dict()
    texts = [hostile(rng, honest) for _ in range(min(count, 2_000))]
    refused = 0
    tracemalloc.start()
    try:
        for number in range(count):
            text = texts[number] if number < len(texts) else hostile(rng, honest)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            error = refusal(partial(judged, domain, text))
            refused += error is not None
            assert error is None or isinstance(error, ArchitectureError)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 100_000 + 150 * len(text), f"{peak} bytes for a file of {len(text)}"
    finally:
        tracemalloc.stop()
    assert refused > count / 2
    assert not Path("pwned").exists()


def test_a_hostile_architecture_file_is_taken_or_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_architectures(2_000)


@pytest.mark.slow
def test_100000_hostile_architecture_files_are_taken_or_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_architectures(100_000)


# 17: checkpoints and models that are programs


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def torch_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def run_with_checkpoints(form: str, folder: Path) -> Path:
    """An interrupted run, each checkpoint of which is a program that would make a file, `pwned`."""
    hostile = Hostile(folder / "pwned")
    name, _, digest = form.partition(", ")
    contents = {"pickle": pickle.dumps(hostile), "torch": torch_saved({"epoch": hostile}), "other": torch_saved([1, 2])}
    content = contents[name]
    if digest:
        content = hashlib.sha256(content).digest() + content

    class Stops(Observer):
        def ended(self, trial: Trial) -> None:
            raise KeyboardInterrupt

    run = folder / "run"
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=3, baseline=0, out=run, observer=Stops())
    (run / "checkpoints").mkdir(exist_ok=True)
    for number in range(5):
        for file in (f"{number}.pt", f"{number}.before.pt"):
            (run / "checkpoints" / file).write_bytes(content)
    return run


CHECKPOINTS = ["pickle", "torch", "pickle, with a digest", "torch, with a digest", "other, with a digest"]


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_hostile_checkpoint_is_never_executed(form: str, tmp_path: Path) -> None:
    run = run_with_checkpoints(form, tmp_path)
    with suppress(Exception):
        nasengine.resume(run)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("form", [*CHECKPOINTS[:2], *(f for f in CHECKPOINTS[2:])])
def test_a_hostile_checkpoint_is_passed_over_or_refused_in_a_sentence(form: str, tmp_path: Path) -> None:
    run = run_with_checkpoints(form, tmp_path)
    error = refusal(lambda: nasengine.resume(run))
    assert Run(run).finished or "checkpoint" in str(error)


@pytest.mark.parametrize("form", ["pickle", "torch", "text", "empty", "header"])
def test_a_hostile_model_file_executes_nothing_and_is_a_sentence(form: str, tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "random", TinyTask(), "train:epochs=1", trials=1, baseline=0, out=tmp_path / "run"
    )
    (model,) = (tmp_path / "run" / "models").iterdir()
    model.write_bytes({
        "pickle": pickle.dumps(Hostile(tmp_path / "pwned")), "torch": torch_saved(Hostile(tmp_path / "pwned")),
        "text": b"import os", "empty": b"", "header": (2**62).to_bytes(8, "little") + b"{}",
    }[form])  # fmt: skip
    with pytest.raises(NasError, match=model.name):
        run.best_model()
    assert not (tmp_path / "pwned").exists()


# 18, 21: paths


def search_to(out: Path | str) -> Run:
    return nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=1, baseline=0, out=out)


@pytest.mark.parametrize(
    ("use", "path"),
    [
        (search_to, "x" * 300), (search_to, "x/" * 3000), (search_to, "file/run"),
        (search_to, "a\0b"),
        *((use, path) for use in (Run, nasengine.resume) for path in ("a\0b", "file/run")),
        *((use, "x" * 300) for use in (Run, nasengine.resume)),
        *((use, "x/" * 3000) for use in (Run, nasengine.resume)),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_is_a_sentence(
    use: Callable[[str], object], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError):
        use(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished") / "run"
    return nasengine.search(TinySpace(), "random", TinyTask(), "train:epochs=1", trials=1, baseline=0, out=folder)


@pytest.mark.parametrize(
    "path",
    [
        "a\0b.json",
        f"{'x' * 300}.json",
        "no/such/folder.json",
        "file/model.json",
        ".",
        "",
    ],
)
def test_an_export_to_a_path_that_cannot_be_is_a_sentence(
    path: str, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError):
        finished.export(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name",
    [
        "model.json",
        ".model.json.{pid}",
    ],
)
def test_an_export_writes_through_no_link(name: str, finished: Run, tmp_path: Path) -> None:
    """Neither where the file is to be, nor where it is prepared: somebody else may write in that folder, too."""
    precious = tmp_path / "precious"
    precious.write_text("keep")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / name.format(pid=os.getpid())).symlink_to(precious)
    finished.export(shared / "model.json")
    assert precious.read_text() == "keep"
    assert json.loads((shared / "model.json").read_text())["picks"]


@pytest.mark.parametrize("name", ["lock", "config.yaml"])
def test_a_run_writes_through_no_link_of_its_folder(name: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(precious)
    error = refusal(lambda: search_to(tmp_path / "run"))
    assert error is None or name in str(error)
    assert precious.read_text() == "keep"


@pytest.mark.parametrize("name", ["with space", "ünï-ラン", "line\nbreak", "-dash", "a'b\"c", "%41#?&", "x" * 200])
def test_a_run_lives_in_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    class Stops(Observer):
        def ended(self, trial: Trial) -> None:
            raise KeyboardInterrupt

    folder = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=2, baseline=0, out=folder, observer=Stops())
    run = nasengine.resume(folder)
    assert run.finished
    assert run.export(folder / f"{name}.json").exists()
    assert len(Run(folder).rows()) == 3


AS_NOBODY = """
import os, sys
from pathlib import Path
import nasengine
from nasengine.errors import NasError
folder = Path(sys.argv[1])
asked = dict(space={chain!r}, strategy="random", evaluator={cheap!r}, trials=2, baseline=0)
nasengine.search(**asked, out=folder / "finished")
class Stops(nasengine.Observer):
    def ended(self, trial):
        raise KeyboardInterrupt
try:
    nasengine.search(**asked, out=folder / "begun", observer=Stops())
except KeyboardInterrupt:
    pass
for name in ("finished", "begun"):
    (folder / name / "ledger.sqlite-shm").unlink(missing_ok=True)
    for file in (folder / name).iterdir():
        file.chmod(0o444)
    (folder / name).chmod(0o555)
folder.chmod(0o555)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(len(nasengine.Run(folder / "finished").rows()))
for use in (
    lambda: nasengine.resume(folder / "begun"),
    lambda: nasengine.search(**asked, out=folder / "new"),
    lambda: nasengine.Run(folder / "finished").export(folder / "finished" / "found.json"),
):
    try:
        use()
        print("worked")
    except NasError as error:
        print(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.mark.usefixtures("warm_python")
def test_a_read_only_folder_is_read_and_not_written_in_sentences() -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # which everybody may reach, unlike pytest's
        os.chmod(folder, 0o755)
        script = AS_NOBODY.format(chain=CHAIN, cheap=CHEAP)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True)
        os.chmod(folder, 0o755)
        for inner in Path(folder).iterdir():
            inner.chmod(0o755)
    assert done.returncode == 0, done.stderr
    count, resumed, new, exported = done.stdout.splitlines()
    assert count == "3"
    assert "cannot be written" in resumed
    assert "cannot be made: Permission denied" in new
    assert exported.startswith("ExportError")
