"""Plugin: what spaces, strategies, evaluators, tasks and stoppers have in common: they remember how they were made."""

from __future__ import annotations

import inspect
import json
from typing import Any, Self


class Plugin:
    """The root of the five kinds of plugin.

    A plugin's options are the keyword arguments of its constructor; `settings` holds them, defaults filled in, so that
    a run can be recorded and made again. Subclasses need not pass anything on.
    """

    settings: dict[str, Any]
    known_as: str
    """What the plugin was asked for by: an entry point's name, or `module:Class`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        settings: dict[str, Any] = {}
        if cls.__init__ is not object.__init__:
            try:
                bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
            except TypeError:
                return self  # __init__ itself is about to say what is wrong
            bound.apply_defaults()
            settings = dict(list(bound.arguments.items())[1:])
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "known_as", f"{cls.__module__}:{cls.__qualname__}")
        return self

    def recorded_settings(self) -> dict[str, Any]:
        """The settings as JSON values; what JSON cannot hold is named by its type, so that it reads the same twice."""
        return {
            name: value if is_json(value) else f"<{type(value).__qualname__}>" for name, value in self.settings.items()
        }


def is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
