"""Grid search: every distinct network of a space, once, in the space's own order.

Not so much a way to search as what others are measured by: a space that was gone through has a known best.
"""

from __future__ import annotations

from collections.abc import Iterator

from nasengine import Architecture, ConfigError, Domain, Request, Strategy, Trial

LISTABLE = 1_000_000
PATIENCE = 10_000


class GridSearch(Strategy):
    """Every distinct network once, in the space's own order; then the search ends. Meant for small spaces.

    Of isomorphic architectures the first is judged; what the run starts from is not judged again. Results change
    nothing, so that any number of objectives will do.

    The order is that of a counter, the last decisions changing first. Where the budget is smaller than the space, a
    grid is therefore one corner of it, in which the early decisions keep their first options: `random` asks for as many
    networks from everywhere. The space is gone through as the search goes on, and never held in memory. One of more
    than a million architectures ends the run with a ConfigError where 10,000 in a row are isomorphic to earlier ones or
    not allowed, since the next new one may be an age away.
    """

    several_objectives = independent = True

    def prepare(self) -> None:
        self._seen: set[str] = set()
        self._networks = self._distinct()

    def ask(self) -> Request | None:
        architecture = next(self._networks, None)
        return None if architecture is None else self.evaluate(architecture)

    def tell(self, trial: Trial) -> None:
        if trial.architecture is not None:
            self._seen.add(self.domain.canonical(trial.architecture).id)

    def _distinct(self) -> Iterator[Architecture]:
        # without the domain's rules, which would skip what is not allowed unseen, for however long
        everything = Domain(self.domain.space, self.domain.options, list(self.domain.decisions.values()))
        skipped = 0
        for architecture in everything.enumerate():
            if self.domain.allows(architecture):
                identity = self.domain.canonical(architecture).id
                if identity not in self._seen:
                    self._seen.add(identity)
                    skipped = 0
                    yield architecture
                    continue
            skipped += 1
            if skipped == PATIENCE and everything.size > LISTABLE:
                raise ConfigError(
                    f"the strategy 'grid' goes through the space {self.domain.space!r} in order and met {PATIENCE:,} "
                    f"architectures in a row that are not allowed or isomorphic to earlier ones; expected a smaller "
                    f"space. Take the strategy 'random'"
                )
