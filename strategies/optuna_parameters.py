"""A decision as Optuna's parameters, a pick as their values, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nasengine import Decision, Pick

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SETS = 64
"""Up to how many sets a k-of-n choice is one category for each of them; beyond, it is k choices, one after another."""

Form: TypeAlias = Literal["fixed", "number", "weights", "category", "sets", "places"]


def form_of(decision: Decision, numbers_only: bool) -> Form:
    """How the decision is put to Optuna.

    `number`: a whole number, the place among options that are numbers in order. `weights`: a number from 0 to 1 for
    each option, the largest (or k largest) win. `category`, `sets`: a category for each option, or k-of-n set.
    `places`: k categories, one for each of the k places. `fixed`: not at all, there is no choice.
    """
    if decision.count == 1:
        return "fixed"
    numbers = [option for option in decision.options if type(option) in (int, float)]
    whole = decision.kind in ("depth", "value") and len(numbers) == len(decision.options)
    if whole and numbers in (sorted(numbers), sorted(numbers, reverse=True)):
        return "number"
    if numbers_only:
        return "weights"
    if decision.kind != "some":
        return "category"
    return "sets" if decision.count <= SETS else "places"


def parameters(decision: Decision, form: Form) -> dict[str, BaseDistribution]:
    """Optuna's parameters by name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    name, options = decision.name, decision.options
    match form:
        case "number":
            return {name: IntDistribution(0, len(options) - 1)}
        case "weights":
            return {f"{name}: {option}": FloatDistribution(0, 1) for option in options}
        case "category":
            return {name: CategoricalDistribution(options)}
        case "sets":
            return {name: CategoricalDistribution([_joined(pick) for pick in decision.picks()])}
        case "places":
            return {f"{name} {place + 1}": CategoricalDistribution(options) for place in range(decision.k)}
    return {}


def pick_of(decision: Decision, form: Form, values: Sequence[Any]) -> Pick:
    """The pick that the parameters' values stand for; defined for all of them."""
    match form:
        case "number":
            return decision.options[int(values[0])]
        case "weights":
            order = sorted(range(len(values)), key=lambda index: -values[index])
            return decision.ordered(order[: decision.k]) if decision.kind == "some" else decision.options[order[0]]
        case "category":
            return decision.options[decision.options.index(values[0])]
        case "sets":
            return next(pick for pick in decision.picks() if _joined(pick) == values[0])
        case "places":
            kept: list[int] = []
            for value in values:
                index = decision.options.index(value)
                while index in kept:  # taken: the next that is free
                    index = (index + 1) % len(decision.options)
                kept.append(index)
            return decision.ordered(kept)
    return next(decision.picks())


def values_of(decision: Decision, form: Form, pick: Pick) -> list[Any]:
    """Values of the parameters that stand for the pick."""
    indices = decision.indices(pick)
    match form:
        case "number":
            return indices
        case "weights":
            return [float(index in indices) for index in range(len(decision.options))]
        case "category":
            return [pick]
        case "sets":
            return [_joined(pick)]
        case "places":
            return [decision.options[index] for index in indices]
    return []


def suggested(trial: optuna.Trial, name: str, kind: BaseDistribution) -> Any:
    """The value that the trial's sampler gives the parameter."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high)
    return trial.suggest_float(name, 0, 1)


def _joined(pick: Pick) -> str:
    return " + ".join(pick) if isinstance(pick, tuple) else str(pick)
