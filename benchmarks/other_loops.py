"""How `orchestration.py` drives Ray Tune and Optuna: the same random picks, an accuracy from their digest, no more.

Tune writes as little as it can be asked to: no loggers, no callbacks, nothing printed; checkpoints at their defaults.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from loop_throughput import STAGES
from ray import tune

from nasengine import Domain

QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}


def accuracy(picks: Mapping[str, Any]) -> float:
    """As the engine's evaluator has it: a number from a digest."""
    return int(hashlib.sha256(repr(picks).encode()).hexdigest()[:8], 16) / 16**8


def result_of(config: Mapping[str, Any]) -> dict[str, Any]:
    time.sleep(config["seconds"])
    return {"accuracy": accuracy(config["picks"]), "at": time.time(), "worker": str(os.getpid())}


def function(config: dict[str, Any]) -> None:
    """A function trainable: a process of its own for every trial."""
    tune.report(result_of(config))


class Reusable(tune.Trainable):
    """A class trainable whose process takes one trial after the other."""

    def setup(self, config: dict[str, Any]) -> None:
        self.given = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.given = new_config
        return True

    def step(self) -> dict[str, Any]:
        return {**result_of(self.given), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is worth keeping."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing was kept."""


def tuned(
    trainable: Any, domain: Domain, workers: int, trials: int, seed: int, seconds: float = 0.0
) -> list[tuple[float, str]]:
    """When each trial's result was made, and by which process. seconds: how long a trial sleeps."""
    rng = np.random.default_rng(seed)
    space = {"picks": tune.sample_from(lambda _: dict(domain.sample(rng).picks)), "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(QUIET)
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=workers, reuse_actors=trainable is Reusable
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[], verbose=0),
        )
        results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"a trial of Ray Tune failed: {results.errors[0]}")
    metrics = [results[index].metrics or {} for index in range(len(results))]
    return [(found["at"], found["worker"]) for found in metrics]


def studied(in_sqlite: bool, domain: Domain, workers: int, trials: int, seed: int) -> float:
    """Seconds a trial of an Optuna study of `workers` threads that suggests every active decision."""

    options = {name: list(decision.options) for name, decision in domain.decisions.items()}

    def objective(trial: optuna.Trial) -> float:
        for stage in range(STAGES):
            depth = trial.suggest_categorical(f"stage{stage}.depth", options[f"stage{stage}.depth"])
            for name in (f"stage{stage}.layer{layer}" for layer in range(int(depth or 0))):
                for part in ("width", "operation"):
                    trial.suggest_categorical(f"{name}.{part}", options[f"{name}.{part}"])
        return accuracy(trial.params)

    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/optuna.sqlite" if in_sqlite else None
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed), direction="maximize")
        started = time.perf_counter()
        study.optimize(objective, n_trials=trials, n_jobs=workers)
        return (time.perf_counter() - started) / trials
