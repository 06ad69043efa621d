"""The rules of the house that a reader of the code can check: who imports whom, what is packaged, sizes and names."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine.registry import GROUPS, load

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("search_spaces", "strategies", "evaluators")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

LINES = 350
LONGER = {"nasengine/testing.py": 520}  # the five contracts, which a plugin's tests import from one place
NAMELESS = {"base", "common", "helper", "manager", "misc", "util"}


@dataclass(frozen=True)
class Import:
    """`import base`, or `from base import name`; base is absolute."""

    base: str
    name: str | None
    relative: bool
    line: int

    def reaches(self, package: str) -> bool:
        """Whether the package, or something in it, is imported."""
        targets = (self.base, f"{self.base}.{self.name}")
        return any(target == package or target.startswith(f"{package}.") for target in targets)

    @property
    def public(self) -> bool:
        return self.base == "nasengine" and self.name in nasengine.__all__

    def __str__(self) -> str:
        return f"line {self.line}: {self.name or 'all'} of {self.base}"


def imports(tree: ast.AST, package: str) -> Iterator[Import]:
    """Every import of a module of `package`, wherever it stands, and what it names to `import_module` and its like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, False, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (Import(base, alias.name, node.level > 0, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str) and named.value[:1] != ".":
                yield Import(named.value, None, False, node.lineno)


def forbidden(found: Import, package: str, testing: bool = False) -> bool:
    """Whether a module of `package` may not import this. testing: whether it is a test of a plugin."""
    if found.base.split(".")[0] in (*ROOMS, "plugins"):
        return True
    own = ".".join(package.split(".")[:2]) if package.startswith("nasengine.") else package.split(".")[0]
    if own.removeprefix("nasengine.") not in ROOMS and own.split(".")[0] == "nasengine":
        return any(found.reaches(f"nasengine.{room}") for room in ROOMS)
    if found.relative:
        return found.base != own and not found.base.startswith(f"{own}.")
    if testing and found.base == "nasengine.testing":
        return False
    return found.reaches("nasengine") and not found.public


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not {"build", "__pycache__"} & set(path.parts))


def package_of(path: Path) -> str:
    """The package that a module of ours is in, by the name it is imported by."""
    parts = path.relative_to(ROOT).parent.parts
    if parts[0] == "plugins":
        return ".".join(parts[3:])  # plugins/NAME/src/PACKAGE
    return ".".join(parts if parts[0] == "nasengine" else ("nasengine", *parts))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SHIPPED = [path for top in ("nasengine", *ROOMS) for path in modules(ROOT / top)]
PLUGINS = [path for source in sorted(ROOT.glob("plugins/*/src")) for path in modules(source)]
PLUGIN_TESTS = [path for tests in sorted(ROOT.glob("plugins/*/tests")) for path in modules(tests)]
TREES = {path: ast.parse(path.read_bytes(), str(path)) for path in [*SHIPPED, *PLUGINS, *PLUGIN_TESTS]}


def test_there_is_something_to_check() -> None:
    assert len(SHIPPED) > 40
    assert PLUGINS
    assert PLUGIN_TESTS
    assert {package_of(path).split(".")[1] for path in SHIPPED if "." in package_of(path)} >= set(ROOMS)


def test_nobody_imports_what_the_table_of_imports_forbids() -> None:
    wrong = [
        f"{shown(path)}, {found}"
        for path in [*SHIPPED, *PLUGINS]
        for found in imports(TREES[path], package_of(path))
        if forbidden(found, package_of(path))
    ]
    assert wrong == []


def test_tests_of_plugins_use_public_names_and_the_contracts_only() -> None:
    wrong = [
        f"{shown(path)}, {found}"
        for path in PLUGIN_TESTS
        for found in imports(TREES[path], "tests")
        if forbidden(found, "tests", testing=True)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "code", "refused"),
    [
        ("nasengine", "from .strategy import Strategy", False),
        ("nasengine", "from .evaluator import Evaluator", False),
        ("nasengine", "from .strategies.darts import DARTS", True),
        ("nasengine", "from . import search_spaces", True),
        ("nasengine", "import nasengine.evaluators.train", True),
        ("nasengine", "def f():\n    from nasengine.strategies import darts", True),
        ("nasengine", "import strategies", True),
        ("nasengine.cli", "from ..strategies import random", True),
        ("nasengine.cli", "from ..strategy import Strategy", False),
        ("nasengine.cli", "import importlib\nimportlib.import_module('nasengine.strategies.darts')", True),
        ("nasengine.strategies", "from nasengine import Strategy", False),
        ("nasengine.strategies", "from nasengine import Strategy, engine", True),
        ("nasengine.strategies", "from nasengine.strategy import Strategy", True),
        ("nasengine.strategies", "import nasengine", True),
        ("nasengine.strategies", "from .random import RandomSearch", False),
        ("nasengine.strategies", "from ..strategy import Strategy", True),
        ("nasengine.strategies", "from ..search_spaces.cell import CellSpace", True),
        ("nasengine.strategies", "from nasengine.search_spaces.cell import CellSpace", True),
        ("nasengine.strategies", "from nasengine.strategies.random import RandomSearch", True),
        ("nasengine.strategies", "from strategies.random import RandomSearch", True),
        ("nasengine.evaluators.tasks", "from ..data.images import Images", False),
        ("nasengine.evaluators.tasks", "from ...task import Task", True),
        ("nasengine.evaluators.tasks", "from ... import strategies", True),
        ("nasengine.strategies", "import torch, optuna", False),
        ("mine", "from nasengine import Strategy", False),
        ("mine", "from nasengine import registry", True),
        ("mine", "from nasengine.strategies.random import RandomSearch", True),
        ("mine", "from nasengine.testing import TinySpace", True),
        ("mine", "from mine.climb import Climb", False),
        ("mine", "from .climb import Climb", False),
    ],
)
def test_the_check_of_imports_tells_right_from_wrong(package: str, code: str, refused: bool) -> None:
    assert any(forbidden(found, package) for found in imports(ast.parse(code), package)) == refused


def test_every_folder_of_code_is_a_package_that_is_installed_under_its_name() -> None:
    folders = {package_of(path): path.parent.relative_to(ROOT).as_posix() for path in SHIPPED}
    assert [folder for folder in folders.values() if not (ROOT / folder / "__init__.py").is_file()] == []
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == folders
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_every_room_is_banned_as_a_top_level_import() -> None:
    assert set(PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == {*ROOMS, "plugins"}


def test_files_stay_short_enough_to_be_read_in_one_go() -> None:
    lengths = {shown(path): len(path.read_bytes().splitlines()) for path in [*SHIPPED, *PLUGINS]}
    assert {name: n for name, n in lengths.items() if n > LONGER.get(name, LINES)} == {}
    assert [name for name in LONGER if lengths.get(name, 0) <= LINES] == [], "an exception that is none any more"


def test_shipped_code_asserts_nothing_and_swallows_nothing() -> None:
    wrong = [
        f"{shown(path)}, line {node.lineno}: {'assert' if isinstance(node, ast.Assert) else 'a bare except'}"
        for path in [*SHIPPED, *PLUGINS]
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and node.type is None)
    ]
    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {shown(path): set(path.relative_to(ROOT).with_suffix("").parts) for path in [*SHIPPED, *PLUGINS]}
    nameless = NAMELESS | {f"{name}s" for name in NAMELESS}
    assert [name for name, words in names.items() if words & nameless] == []


def test_every_entry_point_loads_as_a_complete_plugin_of_its_kind() -> None:
    kinds = {group: kind for kind, group in GROUPS.items()}
    groups = PYPROJECT["project"]["entry-points"]
    assert set(groups) <= set(kinds)
    for group, points in groups.items():
        for name, target in points.items():
            cls = load(kinds[group], target)
            assert f"{cls.__module__}:{cls.__qualname__}" == target, name


def test_every_public_name_exists_and_is_named_once() -> None:
    assert [name for name in nasengine.__all__ if not hasattr(nasengine, name)] == []
    assert len(nasengine.__all__) == len(set(nasengine.__all__))
