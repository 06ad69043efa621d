"""BANANAS: Bayesian optimisation with an ensemble of small networks in the place of the Gaussian process.

White, Neiswanger, Savani 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search", AAAI: algorithm 1; section 4 for the path encoding, the ensemble and independent Thompson sampling. What the
paper leaves open (the loss, the batches, whose mutations are candidates) is as in the authors' code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasengine import Architecture, ArchitectureError, ConfigError

from .rounds import InRounds, standardised

BATCH = 32
STEPS = 1_000
"""Of the ensemble's training, at most."""
PARENTS, MUTANTS = 50, 100
"""How many of the best are mutated, at most, and how often each."""
PARENTS_AMONG_FEW, MUTANTS_AMONG_FEW = 5, 20
"""The same under a rule or a constraint, where a mutation is dear."""
REMEMBERED = 20_000
"""How many networks' paths are kept."""
ENCODINGS, SOURCES = ("path", "one_hot"), ("mutation", "random", "both")
Floats: TypeAlias = NDArray[np.float32]
Way: TypeAlias = tuple[str, ...]


class BANANAS(InRounds):
    """Bayesian optimisation with an ensemble of small networks that predict scores (White et al. 2021).

    The networks are trained anew for every k evaluations. A training makes 1,000 steps at most (so from 213 results on
    fewer epochs), so the time that an ask takes stops growing there.

    Options:
        initial: how many networks are random; k, or a quarter of the run's trials where these are few, unless you say.
        k: how many are asked for before the ensemble is trained again.
        ensemble: how many networks predict.
        layers, width: of each, the hidden ones and their units.
        epochs, learning_rate: of their training.
        encoding: what the networks see: `path`, which of the paths from input to output there are, with the operations
            on them; or `one_hot`, the picks. In a row of layers every network has a single path of its own, from which
            nothing can be learnt: take one_hot there. Where nobody knows the paths, it is one_hot.
        paths: at most so many paths are looked at, the most frequent among those judged (section 4.1, truncation).
        candidates: how many networks are predicted, to choose the k from.
        source: of the candidates: `mutation` of the best so far, `random`, or `both`, half of each.
    """

    def __init__(
        self,
        *,
        initial: int | None = None,
        k: int = 10,
        ensemble: int = 5,
        layers: int = 10,
        width: int = 20,
        epochs: int = 150,
        learning_rate: float = 0.01,
        encoding: str = "path",
        paths: int = 500,
        candidates: int = 100,
        source: str = "mutation",
    ) -> None:
        counts = {"ensemble": ensemble, "layers": layers, "width": width, "epochs": epochs, "paths": paths}
        super().__init__("bananas", k, initial, **counts, candidates=candidates)
        for name, value, allowed in (("encoding", encoding, ENCODINGS), ("source", source, SOURCES)):
            if value not in allowed:
                raise ConfigError(f"the strategy 'bananas' has {name} = {value!r}; expected {' or '.join(allowed)}")
        self.shape, self.epochs, self.learning_rate = (ensemble, layers, width), epochs, learning_rate
        self.encoding, self.paths, self.candidates, self.source = encoding, paths, candidates, source

    def prepare(self) -> None:
        super().prepare()
        domain, paths = self.domain, self.domain.paths if self.encoding == "path" else None
        self._ways = paths and lru_cache(REMEMBERED)(lambda architecture: paths(domain.canonical(architecture)))

    def propose(self, count: int) -> list[Architecture]:
        judged, scores = self.results()
        candidates = self.choices(judged)
        if not candidates:
            return []
        everybody = [*judged, *candidates]
        if self._ways is not None:
            encoded = path_encoding(list(map(self._ways, everybody)), len(judged), self.paths)
        else:
            encoded = np.stack([self.domain.encode(self.domain.canonical(one)) for one in everybody])
        known, asked = encoded[: len(judged)], encoded[len(judged) :]
        networks = Ensemble(encoded.shape[1], *self.shape, self.rng)
        epochs = min(self.epochs, max(1, STEPS // math.ceil(len(judged) / BATCH)))
        networks.fit(known, standardised(scores), epochs, self.learning_rate, self.rng)
        return [candidates[index] for index in thompson(networks.predict(asked), self.rng)[:count]]

    def choices(self, judged: Sequence[Architecture]) -> list[Architecture]:
        """Networks that are new: as many as there are to be candidates, or some more."""
        free, found = self.domain.violation is None, dict[str, Architecture]()
        parents, mutants = (PARENTS, MUTANTS) if free else (PARENTS_AMONG_FEW, MUTANTS_AMONG_FEW)
        wanted = self.candidates // 2 if self.source == "both" else self.candidates
        for parent in judged[:parents] if self.source != "random" else ():
            if len(found) >= wanted:
                break
            for _ in range(mutants):
                self._add(found, lambda parent=parent: self.domain.mutate(parent, self.rng))  # type: ignore[misc]
        if self.source != "mutation":
            wanted = self.candidates
            for _ in range(5 * wanted if free else wanted):
                if len(found) >= wanted:
                    break
                self._add(found, lambda: self.domain.sample(self.rng))
        return list(found.values())

    def _add(self, found: dict[str, Architecture], draw: Callable[[], Architecture]) -> None:
        with suppress(ArchitectureError):  # nothing else is allowed, as far as can be seen
            if self.new(drawn := draw()):
                found.setdefault(self.domain.canonical(drawn).id, drawn)


def path_encoding(ways: Sequence[Collection[Way]], judged: int, most: int) -> Floats:
    """Ones for the paths that a network has, of the most frequent ones of the first `judged` networks.

    ways: of each network. Shape (networks, paths).
    """
    frequency = Counter(way for network in ways[:judged] for way in sorted(network))
    places = {way: place for place, (way, _) in enumerate(frequency.most_common(most))}
    encoded = np.zeros((len(ways), len(places)), np.float32)
    for row, network in zip(encoded, ways, strict=True):
        row[[places[way] for way in network if way in places]] = 1
    return encoded


def thompson(predicted: Floats, rng: np.random.Generator) -> list[int]:
    """Independent Thompson sampling: of each candidate one draw from the normal distribution that the ensemble's
    predictions, shape (networks, candidates), have; the candidates' indices, the largest draw first."""
    drawn = rng.normal(predicted.mean(0), predicted.std(0))
    return [int(index) for index in np.argsort(-drawn, kind="stable")]


class Ensemble:
    """Fully connected networks of one shape, trained side by side: all of them with one matrix product a layer.

    By hand and not by torch's autograd, which takes three times as long for networks so small.
    """

    def __init__(self, inputs: int, networks: int, layers: int, width: int, rng: np.random.Generator) -> None:
        """`layers` hidden ones of so many units, rectified; weights as by Glorot and Bengio 2010, biases zero."""
        sizes = [inputs, *[width] * layers, 1]
        self.count = networks
        shapes = [shape for a, b in pairwise(sizes) for shape in ((networks, a, b), (networks, 1, b))]
        self.flat, self.gradient = (np.zeros(sum(map(math.prod, shapes)), np.float32) for _ in range(2))
        self._parts, self._gradients = (_views(flat, shapes) for flat in (self.flat, self.gradient))
        for weight, _ in self._parts:
            bound = math.sqrt(6 / sum(weight.shape[1:]))
            weight[:] = rng.uniform(-bound, bound, weight.shape)

    def _forward(self, x: Floats) -> list[Floats]:
        """x: (networks, n, inputs). All layers' outputs, x first."""
        states = [x]
        for index, (weight, bias) in enumerate(self._parts, 1):
            state = states[-1] @ weight
            state += bias
            states.append(state if index == len(self._parts) else np.maximum(state, 0, out=state))
        return states

    def predict(self, x: Floats) -> Floats:
        """(n, inputs) → (networks, n)."""
        return self._forward(np.broadcast_to(x, (self.count, *x.shape)))[-1][:, :, 0]

    def backward(self, x: Floats, y: Floats) -> None:
        """The gradient of each network's mean absolute error. x: (networks, n, inputs), y: (networks, n)."""
        states = self._forward(x)
        error = np.sign(states[-1] - y[:, :, None]) / np.float32(y.shape[1])
        for index in reversed(range(len(self._parts))):
            weight, bias = self._gradients[index]
            np.matmul(states[index].swapaxes(1, 2), error, out=weight)
            np.sum(error, 1, keepdims=True, out=bias)
            if index:
                error = error @ self._parts[index][0].swapaxes(1, 2)
                error *= states[index] > 0

    def fit(self, x: Floats, y: Floats, epochs: int, learning_rate: float, rng: np.random.Generator) -> None:
        """Adam with the betas of the authors' code; each network has the examples in an order of its own."""
        mean, square, step = np.zeros_like(self.flat), np.zeros_like(self.flat), 0
        for _ in range(epochs):
            order = rng.random((self.count, len(x))).argsort(1)
            for first in range(0, len(x), BATCH):
                batch = order[:, first : first + BATCH]
                self.backward(x[batch], y[batch])
                step += 1
                mean += np.float32(0.1) * (self.gradient - mean)
                square += np.float32(0.01) * (self.gradient**2 - square)
                rate = np.float32(learning_rate / (1 - 0.9**step))
                self.flat -= rate * mean / (np.sqrt(square / np.float32(1 - 0.99**step)) + np.float32(1e-7))


def _views(flat: Floats, shapes: Sequence[tuple[int, ...]]) -> list[tuple[Floats, Floats]]:
    parts, start = [], 0
    for shape in shapes:
        parts.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return list(zip(parts[::2], parts[1::2], strict=True))
