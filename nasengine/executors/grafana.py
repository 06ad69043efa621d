"""A Grafana dashboard of the metrics that a run on Ray exports, made from the list of them."""

from __future__ import annotations

from typing import Any

from .metrics import METRICS, Metric

COLUMNS = 24  # Grafana's grid
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it: it asks for the data source, and offers the runs to choose from."""
    return {
        "uid": "nasengine",
        "title": "Neural architecture search",
        "description": "Runs of nasengine on Ray",
        "tags": ["nasengine"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _runs()]},
        "annotations": {"list": []},
        "panels": [_panel(index, metric) for index, metric in enumerate(METRICS)],
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _runs() -> dict[str, Any]:
    """The runs that export anything: the budget is there from a run's first moment."""
    query = "label_values(ray_nas_trials_budget, run)"
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "runs"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 2,
    }


def _panel(index: int, metric: Metric) -> dict[str, Any]:
    """Two panels a row."""
    width = COLUMNS // 2
    place = {"x": index % 2 * width, "y": index // 2 * HEIGHT, "w": width, "h": HEIGHT}
    targets = [
        {"refId": chr(ord("A") + n), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for n, (query, legend) in enumerate(metric.queries.items())
    ]
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": metric.title,
        "description": metric.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": metric.unit, "custom": {"lineWidth": 2}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
