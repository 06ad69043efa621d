"""What a run found, as JSON values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .architecture import Architecture
from .calibration import as_json
from .plan import rank

if TYPE_CHECKING:
    from .run import Run


def summary(run: Run) -> dict[str, Any]:
    judged = any(trial.purpose == "final" and trial.state == "done" for trial in run.all_trials)
    best = run.best if judged or rank(run.all_trials, run.by_stage) else None
    architecture: Architecture | None = best.architecture if best else None
    comparison = run.comparison()
    return {
        "folder": str(run.folder),
        "finished": run.finished,
        "seconds": round(run.seconds, 1),
        "simulated_seconds": round(run.simulated, 1),
        "trials": len(run.all_trials),
        "states": {s: sum(t.state == s for t in run.all_trials) for s in {t.state for t in run.all_trials}},
        "best": {
            "number": best.number,
            "metrics": dict(best.metrics),
            "architecture": json.loads(architecture.to_json()) if architecture else None,
        }
        if best
        else None,
        "comparison": {
            "metric": comparison.metric,
            "found": comparison.found,
            "baseline": list(comparison.baseline),
            "gain": comparison.gain,
            "spread": comparison.spread,
        }
        if comparison
        else None,
        **({"calibration": as_json(run.calibration())} if len(run.stages) > 1 else {}),
    }
