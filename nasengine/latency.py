"""The latency table: what an architecture of a space takes on some device, foretold from its picks alone.

Latency is taken for a sum over the network's decisions, as in Cai et al. 2019, "ProxylessNAS", ICLR, section 3.3, and
Wu et al. 2019, "FBNet", CVPR, section 3.2, who look operations up one by one. Here it is fitted to whole networks, so
that it needs nothing of a space but its decisions, and what layers cost together is in it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture, Pick
from .cost import METRICS as COUNTED
from .decision import ALWAYS, Decision, Option
from .domain import Domain
from .errors import ConfigError

if TYPE_CHECKING:
    from .space import SearchSpace
    from .task import Task

FORMAT = "nasengine latency table 1"
DIGITS = r"\d+"
STRENGTHS = (1e-8, 0.01, 0.1, 1.0, 10.0)
"""Of the ridge, from next to none."""
INNER_FOLDS = 3
MAKE = "nas profile {space} --task {task} -o latency.json"


Costs: TypeAlias = Mapping[str, Sequence[tuple[Option, float]]]
"""By decision, its options and what each adds, in milliseconds."""


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What the architectures of a space take, in milliseconds: `base`, and what each option of each decision adds.

    space, options: the space's. task, input_shape, classes: what the networks were for. device, threads, torch: what
    they ran on. batch: how many examples at a time. costs: by decision, pairs of an option and its milliseconds.
    error: how well it foretells networks that it was not made from: `architectures`, and by predictor `mape` (mean
    absolute percentage error) and `spearman` (rank correlation).
    """

    space: str
    options: Mapping[str, Any]
    task: str
    input_shape: Sequence[int]
    classes: int
    device: str
    threads: int
    batch: int
    torch: str
    base: float
    costs: Costs
    error: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """Which metric it foretells."""
        return "latency" if self.batch == 1 else f"latency_{self.batch}"

    def latency(self, architecture: Architecture) -> float:
        """Milliseconds. Always the same sum in the same order: a replay depends on it."""
        total = self.base
        for name in sorted(architecture.picks):
            pick = architecture.picks[name]
            for option, cost in self.costs[name]:
                total += cost if _chosen(pick, option) else 0.0
        return total

    def check(self, domain: Domain, tasks: Sequence[Task]) -> None:
        """Raises ConfigError where it is of another space, or of examples of another shape."""
        make = MAKE.format(space=domain.space, task=tasks[-1].known_as)
        own = Architecture(self.space, self.options, {})
        if own != Architecture(domain.space, domain.options, {}):
            other = " with other options" if self.space == domain.space else f", not of {domain.space!r}"
            raise ConfigError(f"the latency table is of the space {self.space!r}{other}; make one for it: {make}")
        if all((tuple(task.input_shape), task.classes) != (tuple(self.input_shape), self.classes) for task in tasks):
            size = "×".join(map(str, self.input_shape))
            raise ConfigError(
                f"the latency table is of examples of {size} and {self.classes} classes, not of those of the task "
                f"{tasks[-1].known_as!r}; make one for it: {make}"
            )
        for name, decision in domain.decisions.items():
            if [option for option, _ in self.costs.get(name, ())] != list(decision.options):
                raise ConfigError(
                    f"the latency table knows other options of the decision {name!r} than the space {domain.space!r} "
                    f"has; make it again: {make}"
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON values, which `from_dict` takes back."""
        found: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        return found

    @classmethod
    def from_dict(cls, data: object, source: str = "latency_table is given, which") -> LatencyTable:
        """Raises ConfigError where `data` is not what `to_dict` gives."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or set(data) != {"format", *names}:
            raise ConfigError(f"{source} is no latency table; expected a file that nas profile made")
        try:
            costs = {
                str(name): [(option, float(cost)) for option, cost in pairs] for name, pairs in data["costs"].items()
            }
            numbers = [float(data["base"]), *(cost for pairs in costs.values() for _, cost in pairs)]
            counts = [*data["input_shape"], data["batch"], data["threads"], data["classes"]]
        except (TypeError, ValueError, AttributeError):
            numbers, counts = [], []
        whole = all(type(count) is int and count > 0 for count in counts)
        texts = all(isinstance(data[name], str) for name in ("space", "task", "device", "torch"))
        mappings = isinstance(data["options"], Mapping) and isinstance(data["error"], Mapping)
        if not numbers or not all(map(math.isfinite, numbers)) or not (whole and texts and mappings):
            raise ConfigError(f"{source} is a latency table that is damaged; expected one as nas profile made it")
        return cls(**{name: data[name] for name in names - {"base", "costs"}}, base=numbers[0], costs=costs)


def read_table(given: object) -> Any:
    """What a setting says of a latency table, as the content of one: that of a file, where it names one. Raises
    ConfigError."""
    if given is None:
        return None
    if not isinstance(given, str | Path):
        return LatencyTable.from_dict(given).to_dict()
    path = Path(given).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"latency_table is {str(given)!r:.80}, which cannot be read ({error.strerror}); "
            f"expected a file that nas profile made"
        ) from None
    except (ValueError, RecursionError):
        content = None
    return LatencyTable.from_dict(content, f"latency_table is {str(given)!r:.80}, which").to_dict()


def check_tables(space: SearchSpace, domain: Domain, tasks: Sequence[Task]) -> None:
    """Raises ConfigError where the space's latency table is of something else, or one of its constraints needs another
    table than it has."""
    table = space.latency_table
    if table is not None:
        table.check(domain, tasks)
    for constraint in space.constraints:
        if constraint.metric not in COUNTED and (table is None or table.metric != constraint.metric):
            batch = constraint.metric.partition("_")[2]
            make = MAKE.format(space=domain.space, task=tasks[-1].known_as) + (f" --batch {batch}" if batch else "")
            has = f", and the one given is of {table.metric}" if table else ""
            raise ConfigError(
                f"the constraint {constraint} needs a latency table, by which a latency is known before training{has}; "
                f"make one with: {make}, and give it with: --latency-table latency.json"
            )


def fit(domain: Domain, architectures: Sequence[Architecture], latencies: Sequence[float]) -> tuple[float, Costs]:
    """Base and costs of a table, from what these architectures take (milliseconds).

    Non-negative least squares of the relative errors. There are more options than networks: so the costs of one option
    in different decisions are drawn towards each other, by a ridge as strong as foretells best what was left out.

    In each decision some option costs nothing: what all its options cost is with what brings the decision up, the base
    or an option of another one, where that is one place only.
    """
    columns = [(decision, option) for decision in domain.decisions.values() for option in decision.options]
    base, found = _solved(domain, architectures, np.asarray(latencies, np.float64))
    costs: dict[str, dict[Option, float]] = {name: {} for name in domain.decisions}
    for (decision, option), cost in zip(columns, found, strict=True):
        costs[decision.name][option] = float(cost)
    for decision in reversed(domain.decisions.values()):  # what is inside an option comes behind it
        above = _only_place(domain, decision)
        if above is None:
            continue
        least = min(costs[decision.name].values())
        for option in decision.options:
            costs[decision.name][option] -= least
        if above == ():
            base += decision.k * least
        else:
            name, inside = above[-1]
            parent = domain.decisions[name]
            for option in parent.options:
                if parent.includes((str(option),) if parent.kind == "some" else option, inside):
                    costs[name][option] += decision.k * least
    return base, {name: list(options.items()) for name, options in costs.items()}


def label(decision: Decision, option: Option) -> str:
    """What an option is called in all decisions that have it: an operation's name, or `layer*.width=32`."""
    if decision.kind == "one" and not str(option).isdigit():
        return str(option)
    return f"{re.sub(DIGITS, '*', decision.name)}={option}"


def folds(count: int, most: int) -> list[NDArray[np.bool_]]:
    """Which of so many are left out in turn, so that each is once."""
    number = min(count, most)
    return [np.arange(count) % number == fold for fold in range(number)]


def relative_error(foretold: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """The mean absolute error as a fraction of what is true."""
    return float(np.mean(np.abs(foretold - true) / true))


def _solved(
    domain: Domain, architectures: Sequence[Architecture], latencies: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Base, and the cost of each entry of an encoded architecture."""
    picked = np.array([domain.encode(architecture) for architecture in architectures], np.float64)
    labels = [label(decision, option) for decision in domain.decisions.values() for option in decision.options]
    distinct = list(dict.fromkeys(labels))
    shared = np.array([[name == other for other in distinct] for name in labels], np.float64)

    def missed(strength: float) -> float:
        foretold = np.zeros(len(latencies))
        for out in folds(len(latencies), INNER_FOLDS):
            base, costs = _ridge(picked[~out], shared, latencies[~out], strength)
            foretold[out] = base + picked[out] @ costs
        return relative_error(foretold, latencies)

    return _ridge(picked, shared, latencies, min(STRENGTHS, key=missed))


def _ridge(
    picked: NDArray[np.float64], shared: NDArray[np.float64], latencies: NDArray[np.float64], strength: float
) -> tuple[float, NDArray[np.float64]]:
    """Each cost is that of its label and one of its own, which the ridge keeps small."""
    from scipy.optimize import nnls

    count, width = picked.shape
    rows = np.hstack([np.ones((count, 1)), picked @ shared, picked]) / latencies[:, None]
    ridge = np.hstack([np.zeros((width, 1 + shared.shape[1])), np.eye(width)])
    ridge *= np.sqrt(strength * count) / np.median(latencies)
    target = np.concatenate([np.ones(count), np.zeros(width)])
    found, _ = nnls(np.vstack([rows, ridge]), target, maxiter=100 * rows.shape[1])
    own = found[1 + shared.shape[1] :]
    return float(found[0]), own + shared @ found[1 : 1 + shared.shape[1]]


def _only_place(domain: Domain, decision: Decision) -> tuple[tuple[str, Option], ...] | None:
    """The options inside which a decision is met; None where there are several such places, or one of these decisions
    is met elsewhere, too."""
    if decision.when == ALWAYS:
        return ()
    if len(decision.when) > 1:
        return None
    (path,) = decision.when
    return path if domain.decisions[path[-1][0]].when == frozenset({path[:-1]}) else None


def _chosen(pick: Pick, option: Option) -> bool:
    return option in pick if isinstance(pick, tuple) else pick == option
