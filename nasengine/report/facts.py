"""What a report says about a run, as plain values: its judgement, its costs, its trials, how to repeat it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..evaluator import Fidelity
from ..plan import rank
from ..trial import Learn, Trial
from ..wording import duration, is_fraction, metric

if TYPE_CHECKING:
    from ..config import Config
    from ..run import Comparison, Run

ROWS = 20
CAUSES = 10
KINDS = ("space", "strategy", "evaluator", "task")
FLAGS = {"objectives": "--objective", "stoppers": "--stopper", "constraints": "--constraint"}
TRAIN_FLAGS = {"final": "--options", "final_fidelity": "--fidelity"}
"""Of `nas run` and of `nas train`, where they have other names than the settings."""


def found(run: Run) -> Trial | None:
    """The final training of what was found, else the best trial so far; None where nothing was judged."""
    final = [trial for trial in run.all_trials if trial.purpose == "final" and trial.state == "done"]
    ranked = final or rank(run.all_trials, run.by_stage)
    return ranked[0] if ranked else None


def runners_up(run: Run, most: int = 3) -> list[Trial]:
    """The next best of the search, each another architecture than the one found."""
    best = found(run)
    seen = {best.architecture} if best else set()
    others = []
    for trial in rank(run.all_trials, run.by_stage):
        if trial.architecture not in seen and not isinstance(trial.request, Learn):
            seen.add(trial.architecture)
            others.append(trial)
    return others[:most]


def verdict(comparison: Comparison) -> str:
    """The judgement against random architectures in a plain sentence, honest also where there is no gain."""
    name, n = comparison.metric, len(comparison.baseline)
    mean = sum(comparison.baseline) / n

    def amount(value: float) -> str:
        return f"{100 * value:.1f} points" if is_fraction(name) else f"{value:.3g}"

    where = " on the test data" if name.startswith("test_") else ", as the search judges"
    random = f"{n} random architectures trained by the same recipe have {metric(name, mean)} on average"
    if n == 1:
        random = f"a random architecture trained by the same recipe has {metric(name, mean)}"
    line = f"{name.removeprefix('test_').replace('_', ' ')} {metric(name, comparison.found)}{where}; {random}"
    line = line[0].upper() + line[1:]
    if n > 1 and abs(comparison.gain) <= comparison.spread:
        return f"{line}: no clear gain, for random architectures alone vary by ± {amount(comparison.spread)}."
    if comparison.gain <= 0:
        return f"{line}: they did as well or better." if n > 1 else f"{line}: it did as well or better."
    if n == 1:
        return f"{line}: a gain of {amount(comparison.gain)}, though a single one is little to compare with."
    return (
        f"{line}: a gain of {amount(comparison.gain)}, more than the ± {amount(comparison.spread)} by which they vary."
    )


def settings(run: Run) -> list[tuple[str, str]]:
    """What was asked, as the configuration says it, with the objectives that were in force."""
    asked = {**run.config.to_dict(), "objectives": run.about["objectives"]}
    return [(name.replace("_", " "), shareable(text)) for name, value in asked.items() if (text := _text(value))]


def shareable(text: str) -> str:
    """A text without the user names and passwords that its addresses hold: a report is for others to read."""
    return re.sub(r"(?<=://)[^/@\s]+@", "…@", text)


def _text(value: Any) -> str:
    """`cell: layers = 4, channels = 8`, `accuracy:max`, `20`."""
    if isinstance(value, Mapping):
        inner = [(name, item) for name, item in value.items()]
        if len(inner) == 1 and isinstance(inner[0][1], Mapping):
            return f"{inner[0][0]}: {_text(inner[0][1])}"
        return ", ".join(f"{name} = {_text(item)}" for name, item in inner)
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def costs(run: Run) -> list[dict[str, Any]]:
    """The trials by what they were for: how many ended in which state, and their seconds, all workers together."""
    names = {
        "search": "judging candidates",
        "preparation": "learning what they are judged by",
        "final": "final training",
        "baseline": "random architectures",
    }
    rows: dict[str, dict[str, Any]] = {}
    for trial in run.all_trials:
        name = "learning in the supernet" if isinstance(trial.request, Learn) else names[trial.purpose]
        if trial.purpose == "search" and run.config.funnel:
            stage = run.config.funnel[trial.stage].evaluator
            name = f"{name}, stage {trial.stage + 1} ({stage.name})"
        row = rows.setdefault(name, {"what": name, "states": {}, "trials": 0, "same": 0, "seconds": 0.0})
        row["states"][trial.state] = row["states"].get(trial.state, 0) + 1
        row["trials"] += 1
        row["same"] += trial.same_as is not None
        row["seconds"] += trial.seconds if trial.same_as is None else 0.0
    total = sum(row["seconds"] for row in rows.values())
    for row in rows.values():
        row["share"] = f"{100 * row['seconds'] / total:.0f} %" if total else ""
        row["states"] = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in row["states"].items())
        row["duration"] = duration(row["seconds"])
    return list(rows.values())


def stages(run: Run) -> list[list[str]]:
    """The funnel: of each stage by whom, how many it judged and how they ended, and what that took; headings first."""
    rows = [["stage", "judged by", "candidates", "ended", "best", "time"]]
    for number, given in enumerate(run.config.funnel):
        here = [t for t in run.all_trials if t.stage == number and t.purpose in ("search", "preparation")]
        judged = [trial for trial in here if trial.purpose == "search"]
        states = Counter(trial.state.replace("_", " ") for trial in judged)
        objective = run.by_stage[number]
        usable = [trial for trial in judged if objective.score(trial) is not None]
        best = max(usable, key=lambda trial: objective.score(trial) or 0.0, default=None)
        shown = f"{objective.metric} {metric(objective.metric, best.metrics[objective.metric])}" if best else ""
        spent = duration(sum(trial.seconds for trial in here if trial.same_as is None))
        ended = ", ".join(f"{count:,} {state}" for state, count in states.items())
        rows.append([str(number + 1), str(given.evaluator), f"{len(judged):,}", ended, shown, spent])
    return rows


def by_state(run: Run) -> list[tuple[str, int, str]]:
    """Each state, how many trials ended so, and the time that they took."""
    spent: dict[str, list[float]] = {}
    for trial in run.all_trials:
        spent.setdefault(trial.state, []).append(trial.seconds if trial.same_as is None else 0.0)
    return [(state.replace("_", " "), len(seconds), duration(sum(seconds))) for state, seconds in spent.items()]


def failures(run: Run) -> tuple[list[tuple[str, str, str]], int]:
    """The causes of failure, the most frequent first: state, error, trials; and how many causes were left out."""
    causes: dict[tuple[str, str], list[int]] = {}
    for trial in run.all_trials:
        if trial.state not in ("done", "pruned"):
            cause = (trial.state.replace("_", " "), trial.error or "no reason was recorded")
            causes.setdefault(cause, []).append(trial.number)
    ordered = sorted(causes.items(), key=lambda item: (-len(item[1]), item[1]))
    shown = [(state, error, _numbers(numbers)) for (state, error), numbers in ordered[:CAUSES]]
    return shown, max(len(ordered) - CAUSES, 0)


def notes(run: Run) -> list[tuple[int, str]]:
    """What was said of the trials while they ran: a trial's number and the sentence."""
    return [(trial.number, note) for trial in run.all_trials for note in trial.notes][:CAUSES]


def _numbers(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers[:6]))
    return (
        f"{len(numbers)} trials: {listed}{', …' if len(numbers) > 6 else ''}" if len(numbers) > 1 else f"trial {listed}"
    )


def table(run: Run) -> dict[str, Any]:
    """The best trials with their metrics: header, rows, and how many trials there are in all."""
    trials = rank(run.all_trials, run.by_stage)
    last = [trial for trial in run.all_trials if trial.purpose in ("final", "baseline") and trial.state == "done"]
    names = [objective.metric for objective in run.objectives]
    extra = [f"test_{names[0]}", "parameters", "epochs"]
    names += [name for name in extra if name not in names and any(name in t.metrics for t in [*trials, *last])]
    rows = []
    last.sort(key=lambda trial: (trial.purpose != "final", trial.number))
    for trial in [*last, *trials][: ROWS + len(last)]:
        cells = [metric(name, trial.metrics[name]) if name in trial.metrics else "" for name in names]
        kind = {"final": "found, final training", "baseline": "random"}.get(trial.purpose, "search")
        kind = "learning" if isinstance(trial.request, Learn) else kind
        note = f", as trial {trial.same_as}" if trial.same_as is not None else ""
        architecture = trial.architecture.short if trial.architecture else ""
        rows.append([str(trial.number), f"{kind}{note}", *cells, f"{trial.seconds:.1f}", architecture])
    header = ["trial", "what", *(name.replace("_", " ") for name in names), "seconds", "architecture"]
    return {"header": header, "rows": rows, "all": len(run.all_trials), "cut": len(trials) > ROWS}


def plugins(run: Run) -> list[tuple[str, str]]:
    """The four parts of the search: their names and the code that they are of."""
    versions = run.about.get("plugins", {})
    return [(kind, f"{getattr(run.config, kind).name} ({versions.get(kind, 'unknown')})") for kind in KINDS]


def trained(config: Config) -> str | None:
    """The name or file of what was trained alone, as by `nas train`; None where a search was asked for."""
    given = config.start_from
    if config.trials or config.baseline or config.funnel or len(given) != 1:
        return None
    return given[0] if isinstance(given[0], str) else "an architecture"


def title(config: Config) -> str:
    """What the run was, in a line."""
    names = [getattr(config, kind).name for kind in KINDS]
    alone = trained(config)
    return f"{alone or names[0]} {'trained' if alone else f'searched by {names[1]},'} on {names[3]}"


def command(config: Config) -> str | None:
    """The `nas run` or `nas train` that asks for the same; None where a value cannot be written in a command."""
    alone = trained(config)
    words = ["nas", "train", alone] if alone else ["nas", "run"]
    defaults = type(config)()
    for name in type(config).model_fields:
        value = getattr(config, name)
        if value == getattr(defaults, name) or value is None:
            continue
        if config.funnel and name in ("evaluator", "trials"):  # which the funnel says
            continue
        if name == "latency_table" or (name == "start_from" and not all(isinstance(one, str) for one in value)):
            return None
        if alone and name in ("space", "strategy", "trials", "baseline", "start_from"):
            continue
        flag = (TRAIN_FLAGS if alone else {}).get(name) or FLAGS.get(name) or f"--{name.replace('_', '-')}"
        if name == "final":
            text = _choice("", value)
            if text is None:
                return None
            words += [flag, text.removeprefix(":")]
        elif name == "funnel":
            words += [flag, ",".join(map(str, value))]
        elif name in (*KINDS, "proxy"):
            text = _choice(value.name, value.options)
            if text is None:
                return None
            words += [flag, text]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple):
            words += [word for item in value for word in (flag, str(item))]
        elif isinstance(value, Fidelity):
            words += [flag, ",".join(f"{key}={n}" for key, n in value.reductions.items())]
        else:
            words += [flag, str(value)]
    return shareable(shlex.join(words))


def _choice(name: str, options: Mapping[str, Any]) -> str | None:
    """`cell:layers=4`, if that is read back as what was meant."""
    import json

    from ..errors import ConfigError
    from ..registry import split

    plain = json.loads(json.dumps(dict(options), default=str))
    parts = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in plain.items()]
    text = f"{name}:{','.join(parts)}" if parts else name
    try:
        return text if split(text if name else f"final{text}") == (name or "final", plain) else None
    except ConfigError:
        return None
