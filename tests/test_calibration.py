"""What a cheap judgement is worth: rank correlation with a dearer one, beside mere counting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nasengine
from nasengine import Run
from nasengine.calibration import Judgement, _agreements, kendall, spearman
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "staged.py"
GUESS, TRUTH = f"{PARTS}:Guess", f"{PARTS}:Truth"


@pytest.fixture(scope="module")
def funnel(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return nasengine.search(
        TinySpace(), "random", TinyTask(), funnel=f"{GUESS}:12,{TRUTH}:12,train:epochs=1:12", baseline=0,
        out=tmp_path_factory.mktemp("calibration") / "run", durable=False,
    )  # fmt: skip


def test_rank_correlations_are_those_of_scipy_ties_included() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(6, size=(2, 3, 15)).astype(float)
        assert spearman(a, b) == pytest.approx([stats.spearmanr(*rows).statistic for rows in zip(a, b, strict=True)])
        assert kendall(a, b) == pytest.approx([stats.kendalltau(*rows).statistic for rows in zip(a, b, strict=True)])
    constant, rising = np.ones((1, 5)), np.arange(5.0)[None]
    assert spearman(constant, rising) == kendall(constant, rising) == 0


def test_intervals_hold_the_true_correlation_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    true, held = 6 / np.pi * np.arcsin(0.6 / 2), 0  # Spearman's of a normal pair with correlation 0.6 (Pearson 1907)
    for seed in range(60):
        values = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=50)
        (one,) = _agreements(values[:, 0], {"cheap": Judgement(values[:, 1], None)}, "dear", 200, seed)
        held += one.spearman.low <= true <= one.spearman.high
    assert 50 <= held <= 60


def test_what_beats_counting_is_told_from_what_does_not() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=60)
    cheap = {
        "good": Judgement(truth + 0.2 * rng.normal(size=60), 0.5),
        "bad": Judgement(rng.normal(size=60), 0.5),
        "parameters": Judgement(truth + 2 * rng.normal(size=60), None, counted=True),
        "constant": Judgement(np.ones(60), None),
        "partial": Judgement(np.where(truth > 0, truth, np.nan), None),
    }
    good, bad, parameters = _agreements(truth, cheap, "dear", 300, 0)
    assert [one.cheap for one in (good, bad, parameters)] == ["good", "bad", "parameters"]
    assert [one.verdict for one in (good, bad, parameters)] == [
        "better than counting", "no better than counting", "baseline",
    ]  # fmt: skip


def test_a_funnel_says_what_its_stages_are_worth(funnel: Run) -> None:
    found = funnel.calibration()
    by = {(one.cheap, one.dear): one for one in found}
    perfect = by["guess, Guess", "accuracy, Truth"]
    assert (perfect.spearman.value, perfect.kendall.low) == (1.0, 1.0)
    assert len(perfect.pairs) == 12
    assert {one.cheap for one in found if one.counted} == {"parameters", "flops"}
    assert funnel.summary()["calibration"][0]["n"] == 12


def test_too_few_architectures_say_nothing(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "random", TinyTask(), funnel=f"{GUESS}:8,{TRUTH}:3", baseline=0, out=tmp_path / "run"
    )
    assert run.calibration() == []
    with pytest.raises(nasengine.RunError, match="too few architectures were judged in more than one way"):
        run.plot_calibration()


def test_nas_calibrate_prints_a_table_and_draws_a_picture(tmp_path: Path, nas: Callable[..., Any]) -> None:
    arguments = ["--space", "nasbench201:cells=1,channels=4", "--judge", GUESS, "--against", TRUTH]
    picture = tmp_path / "worth.png"
    code, out, _ = nas("calibrate", *arguments, "--architectures", "8", "--out", "run", "-q", "--plot", str(picture))
    assert code == 0
    assert "guess, Guess" in out
    assert "+1.00 (+1.00 to +1.00)" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = nas("calibrate", "run", "--json")
    assert code == 0
    assert json.loads(out)[0]["spearman"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing is to be calibrated; name a judgement, such as --judge zero_cost, or a run's folder"),
        (["nowhere"], "nowhere does not exist"),
        (["run", "--judge", "train"], "a run says itself how its candidates were judged"),
        (["--judge", "zero_cots"], "no evaluator named 'zero_cots'. Did you mean 'zero_cost'?"),
        (["--judge", "train", "--plot", "x.gif"], "x.gif"),
        (["--judge", "train", "--architectures", "4"], "architectures is 4; expected at least 5"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], says: str, nas: Callable[..., Any]) -> None:
    code, out, err = nas("calibrate", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_stages_of_one_evaluator_are_told_apart_by_their_options(tmp_path: Path) -> None:
    def labels(funnel: str, out: str) -> set[str]:
        run = nasengine.search(
            TinySpace(), "random", TinyTask(), funnel=funnel, baseline=0, out=tmp_path / out, durable=False
        )
        return {one.dear for one in run.calibration()} | {one.cheap for one in run.calibration() if not one.counted}

    assert labels("train:epochs=1:6,train:epochs=2:6", "two") == {
        "accuracy, train:epochs=1",
        "accuracy, train:epochs=2",
    }
    assert labels("train:epochs=2:6,train:epochs=2:6", "same") == {
        "accuracy, train (stage 1)", "accuracy, train (stage 2)"
    }  # fmt: skip


def test_the_end_of_a_funnel_shows_its_stages_and_their_worth(funnel: Run) -> None:
    from nasengine.cli.text import result
    from nasengine.report.html import page

    text = result(funnel)
    assert "The funnel:" in text
    assert "What the stages are worth" in text
    html = page(funnel)
    assert "What the cheap judgements are worth" in html
    assert "Cheap judgements against dear ones" in html
