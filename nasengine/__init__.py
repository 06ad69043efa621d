"""nasengine: neural architecture search from spaces, strategies, evaluators and tasks that plug together."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .architecture import Architecture, Pick
from .decision import Decision
from .domain import Domain
from .errors import (
    ArchitectureError,
    ConfigError,
    DataError,
    ExportError,
    NasError,
    PluginError,
    RunError,
    RunFailed,
    SpaceError,
    TrainingDiverged,
)
from .evaluator import Evaluator, Fidelity, ForeseeingEvaluator, Metrics
from .reference import Shapes, build, reference, references
from .session import resume, search, train
from .space import Chooser, SearchSpace
from .stopper import Stopper
from .strategy import Derivation, OneShotStrategy, Strategy
from .task import Batch, Input, Recipe, Split, Task
from .trial import Evaluate, Learn, Objective, Request, Trial

__version__ = "0.1.0"

if _TYPE_CHECKING:
    from .comparing import Compared, compare
    from .context import Context
    from .cost import cost_of
    from .inputs import made_of, tensors_of
    from .paths import batch_statistics, fair_paths, recalibrate, train_paths
    from .plan import Observer
    from .prediction import Prediction, predict
    from .profiling import profile
    from .registry import evaluator_named, strategy_named
    from .run import Comparison, Run
    from .sharing import once, shared
    from .supernet import Depth, Gate, One, Several, Supernet, inherit
    from .training import Average, learning_rate, optimizer_of, supernet_recipe
    from .widths import conv2d, join, mask_channels, multiplied

_LATER = {
    "Average": "training",
    "Compared": "comparing",
    "Comparison": "run",
    "Context": "context",
    "Depth": "supernet",
    "Gate": "supernet",
    "Observer": "plan",
    "Prediction": "prediction",
    "One": "supernet",
    "Run": "run",
    "Several": "supernet",
    "Supernet": "supernet",
    "batch_statistics": "paths",
    "compare": "comparing",
    "conv2d": "widths",
    "cost_of": "cost",
    "evaluator_named": "registry",
    "fair_paths": "paths",
    "inherit": "supernet",
    "join": "widths",
    "learning_rate": "training",
    "made_of": "inputs",
    "mask_channels": "widths",
    "multiplied": "widths",
    "once": "sharing",
    "optimizer_of": "training",
    "predict": "prediction",
    "profile": "profiling",
    "recalibrate": "paths",
    "shared": "sharing",
    "strategy_named": "registry",
    "supernet_recipe": "training",
    "tensors_of": "inputs",
    "train_paths": "paths",
}
"""Names whose modules import torch or pydantic: fetched when first used, so that `import nasengine` stays light."""

__all__ = [
    "Architecture", "ArchitectureError", "Average", "Batch", "Chooser", "Compared", "Comparison", "ConfigError",
    "Context", "DataError", "Decision", "Depth", "Derivation", "Domain", "Evaluate", "Evaluator", "ExportError",
    "Fidelity", "ForeseeingEvaluator", "Gate", "Input", "Learn", "Metrics", "NasError", "Objective", "Observer", "One",
    "OneShotStrategy", "Pick", "PluginError", "Prediction", "Recipe", "Request", "Run", "RunError", "RunFailed",
    "SearchSpace", "Several", "Shapes", "SpaceError", "Split", "Stopper", "Strategy", "Supernet", "Task",
    "TrainingDiverged", "Trial", "batch_statistics", "build", "compare", "conv2d", "cost_of", "evaluator_named",
    "fair_paths", "inherit", "join", "learning_rate", "made_of", "mask_channels", "multiplied", "once", "optimizer_of",
    "predict", "profile", "recalibrate", "reference", "references", "resume", "search", "shared", "strategy_named",
    "supernet_recipe", "tensors_of", "train", "train_paths",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(_import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module 'nasengine' has no attribute {name!r}")
