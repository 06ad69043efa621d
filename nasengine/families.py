"""Which family of models an installed plugin is for, read from its source: a listing runs nobody's code."""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from pathlib import Path


def family_of(target: str) -> str:
    """The literal that the class gives its attribute `family`; nothing where it gives none, or cannot be read.

    target: `package.module:Class`, as an entry point has it.
    """
    module, _, name = target.partition(":")
    with suppress(Exception):  # an installed file may hold anything, and finders are anybody's
        file = _file_of(module)
        for statement in ast.parse(file.read_text(encoding="utf-8")).body if file else ():
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                return _literal(statement)
    return ""


def _file_of(module: str) -> Path | None:
    """Where the module would be imported from; unlike `importlib.util.find_spec`, without importing its parents."""
    spec, places = None, None
    parts = module.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        spec = next((found for finder in sys.meta_path if (found := finder.find_spec(name, places))), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin else None


def _literal(of: ast.ClassDef) -> str:
    for statement in of.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "family" for target in targets):
                return str(statement.value.value)
    return ""
