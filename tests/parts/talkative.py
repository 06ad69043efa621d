"""A strategy that learns nothing and says something, in a file of its own so that other processes find it."""

from __future__ import annotations

from collections.abc import Iterator

from nasengine import Context, Derivation, OneShotStrategy, Supernet, Task


class Talkative(OneShotStrategy):
    """Four epochs; in the last three of them it says something, twice the same."""

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        context.keep()
        for epoch in context.epochs(4):
            architecture = supernet.domain.complete({})
            yield Derivation(architecture, {"loss": 1.0}, (None, "beware", "beware", "it is <over>")[epoch])
