"""A searcher for Tune's schedulers that refuse searchers: population-based training (PBT, PB2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.search import SearchAlgorithm, SearchGenerator

if TYPE_CHECKING:
    from .tune import NASearcher


class Population(SearchAlgorithm):
    """A searcher for population-based training (PBT, PB2), which refuses searchers as such.

    It refuses them because a trial that takes over another's weights takes over its configuration as well, its
    architecture included, and a searcher would credit the result to what it had proposed. A NASearcher does not: such a
    trial is told as pruned, with its last result from before.
    """

    def __init__(self, searcher: NASearcher) -> None:
        self.searcher = searcher
        self._generator = SearchGenerator(searcher)

    @property
    def metric(self) -> Any:
        return self.searcher.metric

    @property
    def total_samples(self) -> int:
        return int(self._generator.total_samples)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return self.searcher.set_search_properties(metric, mode, config, **spec)

    def add_configurations(self, experiments: Any) -> None:
        self._generator.add_configurations(experiments)

    def next_trial(self) -> Any:
        return self._generator.next_trial()  # type: ignore[no-untyped-call]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._generator.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._generator.on_trial_complete(trial_id, result, error)

    def is_finished(self) -> bool:
        return bool(self._finished or self._generator.is_finished())

    def has_checkpoint(self, dirpath: str) -> bool:
        return bool(self._generator.has_checkpoint(dirpath))

    def save_to_dir(self, dirpath: str, **options: Any) -> None:
        self._generator.save_to_dir(dirpath, **options)

    def restore_from_dir(self, dirpath: str) -> None:
        self._generator.restore_from_dir(dirpath)
