"""Which decisions matter: the share of the objective's variance that each explains (functional ANOVA).

Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", ICML, as Optuna
implements it, on the run as `nasengine.integrations.optuna` encodes it: a decision that is not active in a trial takes
a category of its own, and a k-of-n decision is one parameter an option, in or out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..run import Run
    from ..trial import Trial

FEWEST = 10
MOST = 300  # trials: the forests' time grows faster than what more of them would tell
TREES = 64


@dataclass(frozen=True, slots=True)
class Importance:
    """Shares of the variance that each decision explains alone, the largest first; the rest they explain together.

    Where there are none, `note` says in a sentence why. trials: how many architectures were looked at.
    """

    metric: str
    trials: int
    shares: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def importance(run: Run) -> Importance:
    """Of the run's first objective, over the architectures that its search tried. The same run gives the same."""
    from .plots import searched, thinned

    objective = run.objectives[0]
    metric = objective.metric.replace("_", " ")
    judged = [t for t in searched(run) if t.state == "done" and t.same_as is None and objective.score(t) is not None]
    trials = list({trial.architecture: trial for trial in judged}.values())
    trials = [trials[i] for i in thinned(len(trials), most=MOST)]
    count = len(trials)
    if count < FEWEST:
        tried = {0: "No architecture was", 1: "1 architecture was"}.get(count, f"{count} architectures were")
        note = f"{tried} judged in the search; it takes {FEWEST} different ones to tell which decisions matter."
        return Importance(metric, count, note=note)
    if len({objective.score(trial) for trial in trials}) == 1:
        note = f"All {count} architectures that were judged have the same {metric}: there is no difference to explain."
        return Importance(metric, count, note=note)
    return Importance(metric, count, _shares(run, trials))


def _shares(run: Run, trials: Sequence[Trial]) -> dict[str, float]:
    import optuna

    from ..integrations.optuna import add, empty_study

    study = empty_study(run, optuna.storages.InMemoryStorage())
    add(study, run, trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    shares = evaluator.evaluate(study, target=lambda trial: float(trial.values[0]))
    return {name: float(share) for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))}
