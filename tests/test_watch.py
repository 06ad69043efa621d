"""`nas watch`: what it knows of a run, how it shows it in any terminal, and that the run does not notice."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import Architecture, Learn, Run, Trial
from nasengine.cli.bars import BARS, Bars
from nasengine.cli.chart import BRAILLE, chart
from nasengine.cli.frame import frame
from nasengine.cli.progress import Lines
from nasengine.cli.tally import Tally
from nasengine.cli.text import result
from nasengine.cli.watch import as_json
from nasengine.config import Config
from nasengine.ledger import Ledger, RunLock, Start
from nasengine.parts import resolve
from nasengine.plan import Plan
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Evaluate, Report, request_to_dict

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
CHAIN = "chain:stages=1,layers=1,widths=[4]"


def network(number: int = 0) -> Architecture:
    picks: dict[str, Any] = {
        "stage0.depth": 1,
        "stage0.layer0.width": 4,
        "stage0.layer0.operation": "conv_3x3",
        "number": number,
    }
    return Architecture("chain", {"stages": 1, "layers": 1, "widths": [4]}, picks)


class Written:
    """A run's record as an engine writes it, at times that the test says."""

    def __init__(self, folder: Path, objectives: tuple[str, ...] = ("accuracy:max",), **config: Any) -> None:
        folder.mkdir()
        settings = {"space": CHAIN, "strategy": "random", "evaluator": "train:epochs=4", "trials": 20, **config}
        about = {"config": Config.of(settings).to_dict(), "objectives": objectives, "plugins": {}, "in_memory": []}
        self.folder, self.asked = folder, 0
        self.lock = RunLock(folder)
        hour_ago = time.time() - 3600
        os.utime(folder / "lock", (hour_ago, hour_ago))  # when the process took the run
        self.ledger = Ledger.create(folder, about, durable=False)

    def ask(
        self, clock: float, request: Any = None, worker: str | None = "w0", ago: float = 0.0, attempt: int = 1
    ) -> int:
        """A request, handed to a worker (None: it waits) so many seconds ago."""
        number, self.asked = self.asked, self.asked + 1
        request = request or Evaluate(network(number))
        kind = "ask" if request.purpose == "search" else "final"
        self.ledger.record(kind, number, clock, request_to_dict(request))  # type: ignore[arg-type]
        if worker is not None:
            self.ledger.start(Start(number, worker, time.time() - ago, 1))
        self.ledger.commit(clock)
        return number

    def report(self, number: int, *values: float) -> None:
        for epoch, value in enumerate(values, 1):
            self.ledger.report(number, epoch, {"accuracy": value, "train_loss": 1.0})
        self.ledger.commit()

    def tell(self, number: int, clock: float, *, request: Any = None, state: Any = "done", **outcome: Any) -> None:
        trial = Trial(number, request or Evaluate(network(number)), state, **outcome)
        self.ledger.record("tell", number, clock, trial.to_dict())
        self.ledger.commit(clock)

    def trial(self, clock: float, accuracy: float, **outcome: Any) -> int:
        """A trial that came and went."""
        number = self.ask(clock)
        self.tell(number, clock, metrics={"accuracy": accuracy, "parameters": 1234.0}, seconds=1.0, **outcome)
        return number

    def finish(self, clock: float) -> None:
        self.ledger.record("finished", None, clock, {})
        self.ledger.commit(clock)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., Written]]:
    kept: list[Written] = []  # whose lock is held as long as the object is

    def write(**config: Any) -> Written:
        kept.append(Written(tmp_path / "run", **config))
        return kept[-1]

    yield write
    for run in kept:
        run.ledger.close()


def shown(tally: Tally, width: int = 80, height: int = 24) -> str:
    return "\n".join(line.plain for line in frame(tally, width, height))


def busy(written: Callable[..., Written], workers: int = 30) -> Written:
    """A run with many trials, failures of long words, and many at work."""
    run = written(trials=500)
    for number in range(100):
        if number % 9 == 5:
            run.tell(run.ask(number), number, state="failed", error=f"ValueError: {'words ' * 40}{number}")
        else:
            run.trial(float(number), (number % 50) / 50)
    for index in range(workers):
        number = run.ask(100.0, worker=f"node-{index}", ago=60.0 - index)
        run.report(number, 0.1, 0.5, 0.7)
    return run


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 45), (300, 100), (60, 12), (30, 6), (10, 3)])
def test_a_frame_fits_its_terminal(width: int, height: int, written: Callable[..., Written]) -> None:
    tally = Tally(busy(written).folder)
    lines = frame(tally, width, height)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_a_small_terminal_shows_some_of_every_part(written: Callable[..., Written]) -> None:
    text = shown(Tally(busy(written).folder))
    assert "chain:stages=1,layers=1,widths=[4] · random · train:epochs=4 · digits · seed 0" in text
    assert "searching · " in text
    assert re.search("100 of 500 trials  elapsed 1 min 40 s  left about [67] min", text)
    assert "best: accuracy 98.00 % · parameters 1,234 · trial 49" in text
    assert "accuracy of 100 trials, and the best so far" in text
    assert any(chr(code) in text for code in range(BRAILLE + 1, BRAILLE + 256))
    assert re.search(r"node-0 +trial 100 +1 min 00 s +3/4 +accuracy 70.00 % +▁.█", text)
    assert re.search(r"and \d+ more at work", text)
    assert "89 done · 11 failed" in text
    assert "last failure, trial 95: ValueError: words words" in text
    assert re.search(r"^99 +done +98.00 % +1,234 +1 s +\w{10}$", text, re.MULTILINE)


def test_a_large_terminal_shows_more_of_each(written: Callable[..., Written]) -> None:
    tally = Tally(busy(written, workers=8).folder)
    text = shown(tally, 140, 60)
    assert all(re.search(rf"^node-{index} ", text, re.MULTILINE) for index in range(8))
    assert "more at work" not in text
    assert len(re.findall(r"^\d+ +(?:done|failed) ", text, re.MULTILINE)) > 15
    assert len(text.splitlines()) == 60


def test_a_narrow_terminal_keeps_the_numbers_rather_than_the_bar(written: Callable[..., Written]) -> None:
    run = written()
    run.trial(1.0, 0.5)
    assert shown(Tally(run.folder), 44).splitlines()[2].startswith("1 of 20 trials  elapsed 1 s  left –")
    assert shown(Tally(run.folder), 56).splitlines()[2].startswith("━━━")


def test_the_phase_is_said_in_words(written: Callable[..., Written]) -> None:
    run = written(baseline=1)
    number = run.trial(1.0, 0.5)
    tally = Tally(run.folder)
    assert "searching" in shown(tally)
    final = Evaluate(network(number), purpose="final")
    trained = run.ask(2.0, final)
    run.ask(2.0, Evaluate(network(7), purpose="baseline"), worker=None)
    tally.read()
    assert as_json(tally)["phase"] == "final"
    assert "0 of 2 final trainings" in shown(tally)
    assert "1 waiting" in shown(tally)
    assert tally.progress.left is None
    run.tell(trained, 12.0, request=final, seconds=10.0, metrics={"accuracy": 0.6, "test_accuracy": 0.7})
    tally.read()
    assert tally.progress.left == pytest.approx(10, abs=0.5)  # the one that waits takes as long as the other took
    assert "found: accuracy 60.00 % · test accuracy 70.00 % · trial 1" in shown(tally)
    run.finish(20.0)
    tally.read()
    assert as_json(tally)["phase"] == "finished"
    assert "finished" in shown(tally)
    assert tally.elapsed == 20.0


def test_an_interrupted_run_says_so_and_how_to_go_on_until_somebody_does(written: Callable[..., Written]) -> None:
    run = written()
    run.trial(30.0, 0.5)
    run.trial(60.0, 0.5)
    run.ask(60.0, ago=7200.0)
    run.lock.release()
    tally = Tally(run.folder)
    text = shown(tally, 200)
    assert f"interrupted: nobody works on it; go on: nas resume {run.folder}" in text
    assert "1 under way when it was interrupted; resumed, they go on from their checkpoints" in text
    assert "left –" in text
    time.sleep(0.02)
    assert tally.elapsed == 60.0  # nobody's time passes
    run.lock = RunLock(run.folder)
    tally.read()
    assert tally.phase == "search"
    assert tally.working() == []  # the start on record is the former owner's
    run.ledger.start(Start(2, "w5", time.time(), 2))
    run.ledger.commit(61.0)
    tally.read()
    assert [row.start.worker for row in tally.working()] == ["w5"]
    assert re.search(r"worker +works on +attempt.*\nw5 +trial 2 +2 ", shown(tally))


def test_the_time_left_follows_the_latest_trials(written: Callable[..., Written]) -> None:
    run = written(trials=100)
    tally = Tally(run.folder)
    assert tally.progress.left is None
    for clock in (10.0, 20.0, 30.0):  # slow at first
        run.trial(clock, 0.5)
    tally.read()
    assert tally.progress.left == pytest.approx(97 * 10, rel=0.01)
    for step in range(40):
        run.trial(31.0 + step, 0.5)
    tally.read()
    assert tally.progress.left == pytest.approx(57 * 1, rel=0.05)


def test_a_time_limit_that_is_nearer_is_the_time_left(written: Callable[..., Written]) -> None:
    run = written(trials=1000, time_limit=100)
    for clock in (10.0, 20.0):
        run.trial(clock, 0.5)
    assert Tally(run.folder).progress.left == pytest.approx(80, abs=1)


def test_learning_in_a_supernet_is_counted_in_epochs(written: Callable[..., Written]) -> None:
    run = written(strategy="darts:epochs=10,restarts=2")
    first, second = run.ask(0.0, Learn(0)), run.ask(0.0, Learn(1), worker="w1")
    run.report(first, 0.2, 0.4, 0.6)
    run.report(second, 0.3)
    tally = Tally(run.folder)
    text = shown(tally)
    assert (tally.progress.done, tally.progress.total, tally.progress.unit) == (4, 20, "epochs")
    assert tally.progress.left is None  # when those epochs ended, nobody recorded
    assert re.search(r"^w0 +learning 1 +0 s +3/10 +accuracy 60.00 %", text, re.MULTILINE)
    assert re.search(r"^w1 +learning 2 +0 s +1/10 +accuracy 30.00 %", text, re.MULTILINE)
    assert "learning 1: accuracy by epoch" in text
    time.sleep(0.1)
    run.report(second, 0.3, 0.4)
    tally.read()
    left = tally.progress.left
    assert left is not None
    assert 0 < left < 15 * 5  # one epoch in what passed since; fifteen to go
    for epoch, loss in ((1, 2.5), (2, 1.5)):  # a supernet has no accuracy: its validation tells more than its training
        run.ledger.report(second, epoch, {"train_loss": 9.0, "valid_loss": loss})
    run.ledger.commit()
    assert re.search(r"^w1 +learning 2 +0 s +2/10 +valid loss 1.5 ", shown(tally), re.MULTILINE)
    run.tell(first, 5.0, request=Learn(0), derived=network())
    run.tell(second, 5.0, request=Learn(1), state="failed", error="TrainingDiverged: nan")
    tally.read()
    assert f"learnt: {network().short}, not judged yet" in shown(tally)
    assert tally.progress.unit == "trials"


def test_how_long_learning_takes_follows_from_the_tasks_recipe_where_no_option_says(
    written: Callable[..., Written],
) -> None:
    from nasengine.evaluators.tasks.digits import Digits

    run = written(strategy="darts")
    run.report(run.ask(0.0, Learn(0)), 0.2)
    assert Tally(run.folder).progress.total == Digits.recipe.search_epochs


def test_a_strategy_that_is_not_here_can_be_watched_all_the_same(written: Callable[..., Written]) -> None:
    run = written(strategy="no_such_strategy")
    run.report(run.ask(0.0, Learn(0)), 0.2, 0.3)
    tally = Tally(run.folder)
    assert (tally.progress.done, tally.progress.total) == (2, None)
    assert "2 epochs  elapsed" in shown(tally)


def test_how_long_a_trial_may_take_is_a_guess_by_those_like_it_where_nothing_says(
    written: Callable[..., Written],
) -> None:
    run = written(evaluator=CHEAP)
    run.trial(1.0, 0.5, curve=tuple({"accuracy": 0.1} for _ in range(7)))
    number = run.ask(1.0)
    run.report(number, 0.1, 0.2)
    tally = Tally(run.folder)
    assert "2/~7" in shown(tally)
    assert as_json(tally)["workers"][0]["epochs"] is None
    run.report(number, *(0.1 for _ in range(8)))  # more than any before: nobody knows
    assert re.search(r" 8 +accuracy", shown(tally))


def test_the_best_is_the_lowest_where_less_is_better(written: Callable[..., Written]) -> None:
    run = written(objectives=("loss:min", "parameters:min"))
    for clock, loss in enumerate((0.5, 0.2, 0.9, 0.3)):
        run.tell(run.ask(clock), clock, metrics={"loss": loss, "parameters": 10.0 * clock})
    tally = Tally(run.folder)
    assert tally.bests == [0.5, 0.2, 0.2, 0.2]
    assert "best: loss 0.2 · parameters 10 · trial 1" in shown(tally)


def test_a_network_that_was_judged_before_took_no_time(written: Callable[..., Written]) -> None:
    run = written()
    run.trial(1.0, 0.5)
    run.tell(run.ask(1.0, worker=None), 1.0, metrics={"accuracy": 0.5, "parameters": 1234.0}, same_as=0)
    assert re.search(r"^1 +same as 0 +50.00 % +1,234 +\w{10}$", shown(Tally(run.folder)), re.MULTILINE)


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(written: Callable[..., Written]) -> None:
    run = written(trials=40)
    tally = Tally(run.folder)
    for number in range(30):
        if number % 5 == 3:
            run.tell(run.ask(number), number, state="out_of_memory", error=f"too large: {number}")
        else:
            run.trial(float(number), (number * 7 % 30) / 30)
        if number % 4 == 0:
            tally.read()
    run.ask(30.0)
    tally.read()
    tally.read()
    at_once = Tally(run.folder)
    assert tally.bests == at_once.bests
    assert tally.values == at_once.values
    assert tally.states == at_once.states == {"done": 24, "out_of_memory": 6}
    assert [trial.number for trial in tally.recent] == list(range(30)) == [trial.number for trial in at_once.recent]
    assert tally.under_way == at_once.under_way == {30}
    assert (tally.best, tally.first_failure, tally.last_failure) == (
        at_once.best, at_once.first_failure, at_once.last_failure,
    )  # fmt: skip
    assert tally.first_failure is not None
    assert tally.first_failure.error == "too large: 3"


def test_a_frame_of_a_long_run_is_drawn_at_once(written: Callable[..., Written]) -> None:
    run = written(trials=100_000)
    body = request_to_dict(Evaluate(network()))
    told = Trial(0, Evaluate(network()), "done", {"accuracy": 0.5}).to_dict()
    for number in range(15_000):
        run.ledger.record("ask", number, number, body)
        run.ledger.record("tell", number, number, told)
    run.asked = 15_000
    run.ledger.commit(15_000.0)
    tally = Tally(run.folder)
    took = []
    for step in range(5):
        run.trial(15_001.0 + step, 0.5)
        began = time.perf_counter()
        tally.read()
        frame(tally, 140, 45)
        took.append(time.perf_counter() - began)
    assert tally.progress.done == 15_005
    assert min(took) < 0.1  # reading it all again takes ten times as long


def test_a_chart_goes_from_the_lowest_value_to_the_highest() -> None:
    lines, low, high = chart([0.0, 1.0], [], columns=2, rows=1)
    assert ([line.plain for line in lines], low, high) == (["⣠⠞"], 0.0, 1.0)
    lines, _, _ = chart([0.0, 1.0], [], columns=4, rows=2)
    assert [line.plain for line in lines] == ["  ⣠⠞", "⣠⠞⠁ "]
    lines, _, _ = chart([1.0, 1.0, 2.0, 2.0], [1.0, 0.0, 2.0, None], columns=4, rows=1)
    assert [line.plain for line in lines] == ["⠒⢒⠋⠉"], "steps, not slopes, where the line is the best so far"


def test_one_bad_trial_does_not_flatten_the_chart_of_the_others() -> None:
    values: list[float | None] = [0.90 + 0.001 * number for number in range(20)]
    values[3], values[7] = 0.1, None
    best = [0.90 + 0.001 * number for number in range(20)]
    _, low, high = chart(best, values, columns=20, rows=4)
    assert low > 0.85
    assert high == best[-1]
    _, low, high = chart([-v for v in best], [None if v is None else -v for v in values], 20, 4, rising=False)
    assert high < -0.85


def test_a_chart_of_equal_values_is_a_flat_line() -> None:
    lines, low, high = chart([0.5, 0.5], [0.5, 0.5], columns=3, rows=2)
    assert low == high == 0.5
    assert lines[0].plain == "   "
    assert " " not in lines[1].plain


Nas = Callable[..., tuple[int, str, str]]


def test_where_stdout_is_no_terminal_one_frame_is_shown(nas: Nas, written: Callable[..., Written]) -> None:
    run = busy(written)
    code, out, _ = nas("watch", run.folder)
    assert code == 0
    assert out.count("100 of 500 trials") == 1
    assert "\x1b" not in out
    assert nas("watch", run.folder, "--once")[0] == 0


def test_the_state_as_json_is_one_object(nas: Nas, written: Callable[..., Written]) -> None:
    run = busy(written, workers=3)
    code, out, _ = nas("watch", run.folder, "--json")
    state = json.loads(out)
    assert code == 0
    assert (state["phase"], state["done"], state["of"], state["unit"]) == ("search", 100, 500, "trials")
    assert state["process"] == str(os.getpid())
    assert state["best"]["number"] == 49
    assert state["best"]["architecture"] == network(49).id
    assert state["states"] == {"done": 89, "failed": 11}
    assert [worker["worker"] for worker in state["workers"]] == ["node-0", "node-1", "node-2"]
    assert state["workers"][0]["curve"] == [0.1, 0.5, 0.7]


def test_a_folder_that_is_not_there_is_one_sentence(nas: Nas, tmp_path: Path) -> None:
    code, out, err = nas("watch", tmp_path / "none")
    assert (code, out) == (2, "")
    assert err == f"nas: {tmp_path / 'none'} does not exist: it should hold ledger.sqlite\n"


class Terminal:
    """`nas watch` in a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self.main, side = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        command = [sys.executable, "-m", "nasengine", "watch", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=environment)
        os.close(side)
        self.seen = ""

    def until(self, text: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"waited in vain for {text!r} in {self.seen[-2000:]!r}"
            if select.select([self.main], [], [], 0.2)[0]:
                try:
                    written = os.read(self.main, 65536).decode(errors="replace")
                    self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
                except OSError:  # the other side is closed
                    assert text in self.seen, f"ended without {text!r}: {self.seen[-2000:]!r}"

    def end(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self.main)
        return code


@pytest.fixture
def watching() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def watch(*arguments: object) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield watch
    for terminal in opened:
        terminal.process.kill()


@pytest.mark.usefixtures("warm_python")
def test_it_follows_a_run_and_ends_with_the_result_when_the_run_does(
    watching: Callable[..., Terminal], written: Callable[..., Written]
) -> None:
    run = written(baseline=0, trials=2)
    run.trial(1.0, 0.25)
    terminal = watching(run.folder, "--every", "0.1")
    terminal.until("1 of 2 trials")
    run.trial(2.0, 0.75)
    terminal.until("best: accuracy 75.00 %")
    run.tell(run.ask(3.0, Evaluate(network(), purpose="final")), 4.0, request=Evaluate(network(), purpose="final"),
             metrics={"accuracy": 0.8, "test_accuracy": 0.7})  # fmt: skip
    run.finish(5.0)
    terminal.until(f"The run took 5.0 s and is in {run.folder}")
    assert terminal.end() == 0


@pytest.mark.usefixtures("warm_python")
def test_ctrl_c_ends_the_watching_and_not_the_run(
    watching: Callable[..., Terminal], written: Callable[..., Written]
) -> None:
    run = written()
    run.trial(1.0, 0.25)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if not path.name.endswith("-shm")}
    terminal = watching(run.folder)
    terminal.until("1 of 20 trials")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.until(f"the run goes on; watch it again with: nas watch {run.folder}"[:60])
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name in before} == before
    run.trial(2.0, 0.5)  # whoever owns the record can still write


@pytest.fixture(scope="module")
def plan() -> Plan:
    return resolve(
        Config.of({"strategy": "darts:restarts=3,epochs=2", "evaluator": CHEAP, "trials": 30}),
        {"space": TinySpace(), "task": TinyTask()},
    )


def test_every_running_trial_has_a_bar_as_far_as_there_is_room(
    plan: Plan, written: Callable[..., Written], capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(trials=30)
    run.trial(1.0, 0.5)
    bars = Bars()
    bars.opened(run.folder, plan)
    bars.began("search")
    try:
        for number in range(1, BARS + 4):
            bars.started(number, Evaluate(network(number)))
        tasks = {task.description.strip(): task for task in bars.progress.tasks}
        assert tasks["trials"].completed == 1  # before it was resumed
        assert [name for name, task in tasks.items() if task.visible] == [
            "trials",
            *(f"trial {n}" for n in range(1, 7)),
        ]
        assert tasks["trials"].fields["note"] == "best accuracy 50.00 %, and 3 more running"
        bars.reported(Report(2, 3, {"accuracy": 0.25}, 4))
        assert (tasks["trial 2"].completed, tasks["trial 2"].total) == (3, 4)
        bars.lost(2, "its process died")
        bars.ended(Trial(1, Evaluate(network(1)), "done", {"accuracy": 0.75}))
        tasks = {task.description.strip(): task for task in bars.progress.tasks}
        assert [name for name, task in tasks.items() if task.visible] == [
            "trials",
            *(f"trial {n}" for n in range(3, 9)),
        ]
        assert tasks["trials"].fields["note"] == "best accuracy 75.00 %, and 1 more running"
        assert tasks["trials"].completed == 2
    finally:
        bars.close()
    assert "trial 2: its worker was lost (its process died); it runs again" in capsys.readouterr().err


def test_lines_say_which_of_several_learns(
    plan: Plan, written: Callable[..., Written], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines()
    lines.opened(written().folder, plan)
    lines.started(0, Learn(0))
    lines.started(1, Learn(1))
    lines.reported(Report(1, 2, {"accuracy": 0.25}, 5))
    lines.lost(12, "the node went away")
    lines.ended(Trial(1, Learn(1), "done", seconds=2.0, derived=network()))
    told = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()][-3:]
    assert told == [
        "learning 2 of 3, epoch 2/5: accuracy 25.00 %",
        "trial 12: its worker was lost (the node went away); it runs again",
        "trial 1 (learning 2 of 3): done, 2.0 s",
    ]


def test_the_result_counts_the_trials_and_says_why_the_first_failed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": TinySpace(), "strategy": "random", "task": TinyTask(), "baseline": 0}
    faulty = f"{PARTS}:Faulty:how=raise,every=3"
    some = nasengine.search(**settings, evaluator=faulty, trials=4, max_failures=0.9, out=tmp_path / "some")
    assert re.search(
        r"\d trials: \d done, 1 failed; the first to fail was trial \d: ValueError: this candidate is not for us\n"
        r"The run took ", result(some),
    )  # fmt: skip
    one = nasengine.search(**settings, evaluator=CHEAP, trials=1, out=tmp_path / "one")
    assert "1 trial" not in result(one)
    assert as_json(Tally(Path(one.folder)))["best"]["number"] == Run(one.folder).best.number
