"""What is shipped: one package with every room in it, nothing beside it, and nothing heavy imported before its time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nasengine

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]
NEVER_TOP_LEVEL = ("search_spaces", "strategies", "evaluators", "plugins", "tests", "benchmarks", "docs")
CHEAP = f"{ROOT / 'tests' / 'parts' / 'cheap.py'}:Cheap"
TINY_RUN = [
    "run", "--space", "chain:stages=1,layers=2,widths=[4,8]", "--strategy", "random", "--evaluator", "train:epochs=1",
    "--fidelity", "data=0.2", "--trials", "2", "--baseline", "0", "--out", "run",
]  # fmt: skip
BUILT_IN = {
    f"{name} nasengine {nasengine.__version__}"
    for group in PYPROJECT["project"]["entry-points"].values()
    for name in group
}


def run(python: str | Path, *arguments: str, cwd: Path) -> str:
    """What a Python prints that is told nothing by its surroundings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(*arguments: str | Path, python: str | Path = sys.executable) -> None:
    run(python, "-m", "pip", *map(str, arguments), "--quiet", "--disable-pip-version-check", cwd=ROOT.parent)


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))


def without_pip(folder: Path) -> Path:
    venv.EnvBuilder(symlinks=os.name != "nt").create(folder)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is in the repository, so that nothing built before gets in and nothing built now is left."""
    folder = tmp_path_factory.mktemp("repository")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # else deleted, and not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, repository)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own that holds the wheel, and borrows its dependencies from the one that runs the tests.

    It borrows by a .pth line, which adds a folder to the path but does not read that folder's own .pth files: so an
    editable installation there stays out of sight.
    """
    environment = without_pip(tmp_path_factory.mktemp("installed") / "venv")
    site = site_packages(environment)
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return environment


def test_the_wheel_holds_one_package_with_every_file_of_every_room(wheel: Path, repository: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    information = f"nasengine-{nasengine.__version__}.dist-info"
    assert {name.partition("/")[0] for name in packed} == {"nasengine", information}
    expected = {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in FOLDERS.items()
        for path in (repository / folder).iterdir()
        if path.is_file()
    }
    assert {name for name in packed if not name.startswith(information)} == expected
    assert "nasengine/py.typed" in packed
    assert {"nasengine/strategies/darts.py", "nasengine/search_spaces/operations/darts.py"} <= packed
    assert f"{information}/licenses/LICENSE" in packed


def test_no_folder_of_the_repository_is_packed_as_itself(wheel: Path) -> None:
    packed = zipfile.ZipFile(wheel).namelist()
    words = {word for name in packed for word in name.split("/")[:-1]}
    assert not words & {"plugins", "tests", "benchmarks", "docs"}
    assert not {name.split("/")[0] for name in packed} & set(NEVER_TOP_LEVEL)


def listed(python: Path, cwd: Path) -> set[str]:
    """The lines of `nas list`, without the kind."""
    lines = run(python, "-m", "nasengine", "list", cwd=cwd).splitlines()
    return {" ".join(line.split()[1:]) for line in lines}


def findable(python: str | Path, cwd: Path) -> list[str]:
    """Which of our folders Python would import under their own names."""
    rooms = [name for name in NEVER_TOP_LEVEL if name not in ("tests", "docs", "benchmarks")]  # others ship these
    code = f"from importlib.util import find_spec; print([name for name in {rooms} if find_spec(name)])"
    return list(filter(None, run(python, "-c", code, cwd=cwd).strip("[]\n").split(", ")))


def test_from_the_wheel_the_builtins_are_listed_and_no_folder_takes_a_users_name(
    installed: Path, tmp_path: Path
) -> None:
    python = python_of(installed)
    where = run(python, "-c", "import nasengine; print(nasengine.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site_packages(installed))
    assert listed(python, tmp_path) >= BUILT_IN
    assert findable(python, tmp_path) == []


def test_a_users_own_folder_may_be_called_strategies(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").write_text("mine = True\n")
    code = "import strategies, nasengine.strategies; print(strategies.mine, hasattr(nasengine.strategies, 'mine'))"
    assert run(python_of(installed), "-c", code, cwd=tmp_path) == "True False\n"


def test_a_search_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "Architecture found" in run(python_of(installed), "-m", "nasengine", *TINY_RUN, cwd=tmp_path)
    assert (tmp_path / "run" / "ledger.sqlite").is_file()


def test_from_the_editable_installation_rooms_are_imported_as_parts_of_nasengine_only(tmp_path: Path) -> None:
    code = "import nasengine.strategies.darts as room; print(room.__file__)"
    where = Path(run(sys.executable, "-c", code, cwd=tmp_path).strip())
    assert where.parts[-2:] == ("strategies", "darts.py")
    assert findable(sys.executable, tmp_path) == []


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment_with_its_light_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    """Downloads: what `nas list` needs of the dependencies, and no torch."""
    venv.EnvBuilder(with_pip=True).create(tmp_path / "venv")
    python = python_of(tmp_path / "venv")
    light = ("typer", "rich", "pydantic", "PyYAML", "numpy")
    pip("install", "-c", ROOT / "constraints.txt", *light, python=python)
    pip("install", "--no-deps", "--no-index", wheel, python=python)
    assert listed(python, tmp_path) == BUILT_IN
    assert findable(python, tmp_path) == []
    scripts = [path.stem for path in python.parent.iterdir()]
    assert "nas" in scripts
    assert "nasengine" in run(python.parent / "nas", "--version", cwd=tmp_path)


# What is imported when

HEAVY = ("torch", "torch._dynamo", "sympy", "ray", "optuna", "pandas", "sklearn", "PIL")


def heavy_after(code: str, cwd: Path) -> set[str]:
    """Which heavy packages a process has imported when `code` is done."""
    report = f"import sys; print('heavy:', *(name for name in {HEAVY} if name in sys.modules))"
    return set(run(sys.executable, "-c", f"{code}\n{report}", cwd=cwd).splitlines()[-1].split()[1:])


def command(*arguments: object) -> str:
    arguments = tuple(map(str, arguments))
    return (
        f"import sys\nfrom nasengine.cli import main\nsys.argv = ['nas', *{arguments}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended"
    )


@pytest.mark.parametrize(
    "code",
    ["import nasengine", command("--help"), command("list"), command("run", "--help")],
    ids=["import nasengine", "nas --help", "nas list", "nas run --help"],
)
def test_what_does_not_train_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert heavy_after(code, tmp_path) == set()


def test_showing_a_finished_run_imports_nothing_heavy_but_torch(tmp_path: Path) -> None:
    """Torch, because it describes the architecture found, which only the space can: its module defines layers."""
    nasengine.search("chain:stages=1,layers=2", "random", evaluator=CHEAP, trials=2, baseline=0, out=tmp_path / "run")
    assert heavy_after(command("show", tmp_path / "run"), tmp_path) <= {"torch"}


@pytest.mark.parametrize("space", ["chain", "cell", "mobile"])
def test_a_search_that_trains_nothing_imports_nothing_heavy_but_torch(space: str, tmp_path: Path) -> None:
    """Torch alone, not the half of it that compiles networks: that takes as long again."""
    searched = command(
        "run", "--space", space, "--strategy", "random", "--evaluator", CHEAP, "--trials", 1, "--baseline", 0, "--quiet"
    )
    assert heavy_after(searched, tmp_path) <= {"torch"}


def test_these_checks_see_what_they_look_for(tmp_path: Path) -> None:
    assert heavy_after("import optuna", tmp_path) >= {"optuna"}
    assert findable(sys.executable, ROOT) == ["'search_spaces'", "'strategies'", "'evaluators'", "'plugins'"]
