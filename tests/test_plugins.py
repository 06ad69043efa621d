"""Plugins of strangers: installed, named by import path or by file, and broken in the ways in which plugins are."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import ConfigError, Observer, PluginError, RunError
from nasengine.families import family_of
from nasengine.registry import installed, load, make, split

ROOT = Path(__file__).resolve().parents[1]
HILLCLIMB = ROOT / "plugins" / "nasengine-hillclimb"
CHEAP = f"{ROOT / 'tests' / 'parts' / 'cheap.py'}:Cheap"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"

STRATEGY = """
from nasengine import Strategy

class Mine(Strategy):
    def ask(self):
        return self.evaluate(self.domain.sample(self.rng))

    def tell(self, trial):
        pass
"""

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nas(nas: Nas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nas:
    """Runs `nas` in a folder beside those that the tests make."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return nas


class Site:
    """A folder on the path into which distributions are put, as pip would leave them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        folder.mkdir()

    def add(self, distribution: str, version: str, entry_points: str, **modules: str) -> None:
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
            self._monkeypatch.delitem(sys.modules, name, raising=False)
        information = self.folder / f"{distribution}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (information / "entry_points.txt").write_text(f"[nasengine.strategies]\n{entry_points}\n")
        self._monkeypatch.syspath_prepend(self.folder)  # makes importlib look again


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path / "site", monkeypatch)


# The example in plugins/, built and installed


@pytest.fixture(scope="module")
def hillclimb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `source`, a copy of the plugin's, and `site`, what pip installs from it."""
    folder = tmp_path_factory.mktemp("hillclimb")
    shutil.copytree(HILLCLIMB, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, "--target", str(folder / "site"), str(folder / "source")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


def beside(site: Path, arguments: list[str], cwd: Path) -> str:
    """What Python prints, in a process that finds what is installed in `site`."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def readme(language: str) -> list[str]:
    text = (HILLCLIMB / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in readme("bash") for line in block.splitlines() if not line.startswith("pip install ")]


def test_the_readme_runs_searches_in_all_three_ways_and_the_tests() -> None:
    ways = [line for line in COMMANDS if line.startswith("nas run")]
    assert len([line for line in ways if "--strategy hillclimb" in line]) == 1
    assert len([line for line in ways if "--strategy nasengine_hillclimb:HillClimb" in line]) == 1
    assert len([line for line in ways if "--strategy src/nasengine_hillclimb/__init__.py:HillClimb" in line]) == 1
    assert "python -m pytest" in COMMANDS
    assert [line for block in readme("bash") for line in block.splitlines() if line.startswith("pip")] == [
        "pip install .",
        'pip install ".[test]"',
    ]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("warm_python")
def test_every_command_of_its_readme_works(command: str, hillclimb: Path) -> None:
    program, *arguments = shlex.split(command)
    arguments = {"nas": ["-m", "nasengine", *arguments], "python": arguments}[program]
    out = beside(hillclimb / "site", arguments, hillclimb / "source")
    if command.startswith("nas run"):
        assert "Architecture found" in out
    if command == "python -m pytest":
        assert re.search(r"\d+ passed", out)
        assert not re.search(r"failed|error|skipped", out)


@pytest.mark.usefixtures("warm_python")
def test_the_python_of_its_readme_works(hillclimb: Path) -> None:
    (block,) = readme("python")
    assert 0 < float(beside(hillclimb / "site", ["-c", block], hillclimb / "source")) <= 1


@pytest.mark.usefixtures("warm_python")
def test_it_is_listed_and_shown_with_its_distribution_version_and_options(hillclimb: Path, tmp_path: Path) -> None:
    listed = beside(hillclimb / "site", ["-m", "nasengine", "list"], tmp_path)
    assert re.search(r"^strategy +hillclimb +nasengine-hillclimb 0\.1\.0$", listed, re.MULTILINE)
    assert re.search(r"^strategy +darts +nasengine 0\.1\.0$", listed, re.MULTILINE)
    shown = beside(hillclimb / "site", ["-m", "nasengine", "show", "strategy", "hillclimb"], tmp_path)
    assert shown.startswith("strategy hillclimb (nasengine-hillclimb 0.1.0)\n\nFirst-choice hill climbing")
    assert "patience (int, default 30)\n      how many results in a row" in shown


def test_by_name_by_import_path_and_by_file_it_searches_the_same(
    hillclimb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(hillclimb / "site")
    file = hillclimb / "source" / "src" / "nasengine_hillclimb" / "__init__.py"
    searched = []
    for number, name in enumerate(("hillclimb", "nasengine_hillclimb:HillClimb", f"{file}:HillClimb")):
        run = nasengine.search(
            CHAIN, f"{name}:patience=3", evaluator=CHEAP, trials=8, baseline=0, out=tmp_path / str(number)
        )
        assert run.config.strategy.options == {"patience": 3}
        searched.append([trial.architecture for trial in run.all_trials])
    assert searched[0] == searched[1] == searched[2]
    assert len(set(searched[0])) > 4


def test_a_later_version_of_a_plugin_is_refused_by_a_run_of_the_earlier_one(site: Site, tmp_path: Path) -> None:
    class Stops(Observer):
        def ended(self, trial: object) -> None:
            raise KeyboardInterrupt

    site.add("stranger", "1.0", "mine = stranger_mine:Mine", stranger_mine=STRATEGY)
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "mine", evaluator=CHEAP, trials=3, out=tmp_path / "run", observer=Stops())
    shutil.rmtree(site.folder / "stranger-1.0.dist-info")
    site.add("stranger", "1.1", "mine = stranger_mine:Mine")
    with pytest.raises(RunError, match=r"the strategy 'mine' of stranger 1\.0, and stranger 1\.1 is here now"):
        nasengine.resume(tmp_path / "run")


# Broken ones

BROKEN = {
    "raises": ("broken_raises:Mine", "raise RuntimeError('built for another release')"),
    "leaves": ("broken_leaves:Mine", "import sys\nsys.exit('no licence found')"),
    "misspelt": ("broken_misspelt:Nime", STRATEGY),
    "nowhere": ("broken_no_such_module:Mine", None),
    "alien": ("broken_alien:Mine", "class Mine: pass"),
    "module": ("broken_module", STRATEGY),
    "partial": ("broken_partial:Mine", STRATEGY[: STRATEGY.index("    def tell")]),
}
SAYS = {
    "raises": "cannot be loaded: RuntimeError: built for another release",
    "leaves": "cannot be loaded: SystemExit: no licence found",
    "misspelt": "cannot be loaded: AttributeError: module 'broken_misspelt' has no attribute 'Nime'",
    "nowhere": "cannot be loaded: ModuleNotFoundError: No module named 'broken_no_such_module'",
    "alien": "expected a subclass of nasengine.Strategy, got <class 'broken_alien.Mine'>",
    "module": "expected a subclass of nasengine.Strategy, got <module 'broken_module'",
    "partial": "is not complete: it does not define tell",
}


@pytest.fixture
def broken(site: Site) -> Site:
    """Each way of being broken as a distribution of its own."""
    for number, (name, (target, source)) in enumerate(BROKEN.items()):
        modules = {} if source is None else {target.partition(":")[0]: source}
        site.add(f"broken_{name}", f"1.{number}", f"{name} = {target}", **modules)
    return site


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_an_error_that_names_it_and_says_what_is_wrong(name: str, broken: Site, nas: Nas) -> None:
    for arguments in (["run", "--space", CHAIN, "--strategy", name], ["show", "strategy", name]):
        code, out, err = nas(*arguments)
        assert code == 2
        assert out == ""
        assert err.startswith("nas: ")
        assert len(err.splitlines()) == 1
        assert repr(name) in err
        assert SAYS[name] in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["raises", "leaves", "misspelt", "nowhere", "alien", "module", "partial"])
def test_the_error_of_a_broken_plugin_names_its_distribution_and_version(name: str, broken: Site) -> None:
    with pytest.raises(PluginError, match=rf"\(of broken_{name} 1\.{list(BROKEN).index(name)}\)"):
        load("strategy", name)


def test_broken_plugins_are_listed_and_everything_else_works(broken: Site, nas: Nas) -> None:
    code, out, _ = nas("list", "strategies", "--json")
    assert code == 0
    listed = {plugin["name"]: plugin for plugin in json.loads(out)}
    for number, (name, (target, _)) in enumerate(BROKEN.items()):
        expected = {"target": target, "distribution": f"broken_{name}", "version": f"1.{number}"}
        assert expected.items() <= listed[name].items()
    arguments = ["--space", CHAIN, "--strategy", "random", "--evaluator", CHEAP, "--trials", "1", "--baseline", "0"]
    code, out, _ = nas("run", *arguments, "-q")
    assert code == 0
    assert "Architecture found" in out


def test_listing_imports_no_plugin(broken: Site, nas: Nas) -> None:
    nas("list")
    assert not [file.stem for file in broken.folder.glob("*.py") if file.stem in sys.modules]


def test_a_name_that_two_distributions_claim_is_an_error_that_names_both(site: Site, nas: Nas) -> None:
    site.add("first", "1.0", "mine = first_mine:Mine", first_mine=STRATEGY)
    site.add("second", "2.0", "mine = second_mine:Mine", second_mine=STRATEGY)
    code, _, err = nas("show", "strategy", "mine")
    assert code == 2
    assert "the strategy 'mine' is claimed by first 1.0 and second 2.0" in err
    assert load("strategy", "second_mine:Mine").__module__ == "second_mine"  # the way out that it names
    assert [plugin.distribution for plugin in installed("strategy") if plugin.name == "mine"] == ["first", "second"]


def test_nobody_takes_the_name_of_a_builtin_unnoticed(site: Site) -> None:
    site.add("impostor", "6.6", "darts = impostor_darts:Mine", impostor_darts=STRATEGY)
    with pytest.raises(PluginError, match=r"'darts' is claimed by impostor 6\.6 and nasengine \d"):
        load("strategy", "darts")
    assert load("strategy", "random").__module__ == "nasengine.strategies.random"
    assert load("strategy", "nasengine.strategies.darts:DARTS").__name__ == "DARTS"


def test_an_unknown_name_is_answered_with_the_nearest_one_also_of_a_plugin(site: Site) -> None:
    site.add("stranger", "1.0", "tabu_search = stranger_tabu:Mine", stranger_tabu=STRATEGY)
    with pytest.raises(PluginError, match=r"no strategy named 'tabusearch'\. Did you mean 'tabu_search'"):
        load("strategy", "tabusearch")
    with pytest.raises(PluginError, match=r"no strategy named 'simulated_annealing'\. See: nas list strategies"):
        load("strategy", "simulated_annealing")


# Named by file


def test_a_file_that_is_not_there_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=re.escape(f"no file {tmp_path / 'mine.py'} to load a strategy from")):
        load("strategy", "./mine.py:Mine")


def test_a_class_that_is_not_in_the_file_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STRATEGY)
    with pytest.raises(PluginError, match=r"has no class 'Mime'\. Did you mean 'Mine'"):
        load("strategy", f"{tmp_path / 'mine.py'}:Mime")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys\nsys.exit(3)", "cannot be loaded: SystemExit: 3"),
        ("class Mine(", "cannot be loaded: SyntaxError: '(' was never closed"),
        ("raise OSError('no network')", "cannot be loaded: OSError: no network"),
        ("from nasengine import Strategy\nclass Mine(Strategy): pass", "it does not define ask, tell"),
        ("Mine = 3", "expected a subclass of nasengine.Strategy, got 3"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source)
    for _ in range(2):  # a file that failed is read again
        with pytest.raises(PluginError) as caught:
            load("strategy", f"{tmp_path / 'mine.py'}:Mine")
        assert says in str(caught.value)
        assert "mine.py" in str(caught.value)


# Options

OPTIONS = """
from __future__ import annotations

from pathlib import Path
from nasengine import ConfigError, Strategy

class Mine(Strategy):
    def __init__(self, *, depth: int, rate: float = 0.1, label: str = "", sizes: tuple[int, ...] = (), C: int = 4):
        self.options = {"depth": depth, "rate": rate, "label": label, "sizes": sizes, "C": C}
        if depth > 100:
            raise ValueError(f"depth = {depth} is deeper than anything")

    def ask(self):
        return None

    def tell(self, trial):
        pass
"""


def made(text: str, site: Site) -> Any:
    """The plugin's options, as it was given them."""
    site.add("stranger", "1.0", "mine = stranger_options:Mine", stranger_options=OPTIONS)
    plugin: Any = make("strategy", *split(text))
    return plugin.options


def test_options_arrive_in_the_types_of_the_constructor(site: Site) -> None:
    options = made("mine:depth=3,rate=1e-3,label=a,b and c,sizes=[1, 2],C=16", site)
    assert options == {"depth": 3, "rate": 0.001, "label": "a,b and c", "sizes": (1, 2), "C": 16}
    assert type(options["sizes"]) is tuple


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            "depth=1,raet=0.5",
            "the strategy 'mine' has no option 'raet'. Did you mean 'rate'? It has: depth, rate, label, ",
        ),
        ("depth=1,zzz=0.5", "the strategy 'mine' has no option 'zzz'. It has: depth, rate"),
        ("depth=deep", "the option 'depth' of the strategy 'mine' is 'deep'; expected int"),
        ("depth=1.5", "the option 'depth' of the strategy 'mine' is 1.5; expected int"),
        ("depth=yes", "the option 'depth' of the strategy 'mine' is 'yes'; expected int"),
        ("depth=[1,2]", "the option 'depth' of the strategy 'mine' is [1, 2]; expected int"),
        ("depth=1,sizes=3", "the option 'sizes' of the strategy 'mine' is 3; expected tuple[int, ...]"),
        ("depth=1,sizes=[3,x]", "the option 'sizes' of the strategy 'mine' is [3, 'x']; expected tuple[int, ...]"),
        ("rate=0.5", "the strategy 'mine' needs the option 'depth': mine:depth=…"),
        ("depth", "'depth' is no option; write options as NAME:option=value,option=value"),
        ("depth=101", "the strategy 'mine' does not accept its options: ValueError: depth = 101 is deeper"),
    ],
)
def test_a_mistake_in_the_options_names_the_option_and_what_was_expected(options: str, says: str, site: Site) -> None:
    with pytest.raises(ConfigError) as caught:
        made(f"mine:{options}", site)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("none", "none"), ("no", "no"), ("nan", "nan"), ("1e-3", 1e-3), ("7", 7), ("true", True), ("[3, 5]", [3, 5])],
)
def test_an_options_text_is_taken_as_it_was_meant(text: str, value: object) -> None:
    from nasengine.registry import split

    assert split(f"mine:option={text}") == ("mine", {"option": value})


def test_an_option_of_one_capital_letter_is_an_option_and_no_class(site: Site) -> None:
    assert made("mine:C=16,depth=1", site)["C"] == 16


def test_the_family_that_a_listing_reads_is_that_of_the_class() -> None:
    for kind in ("space", "task"):
        for listed in installed(kind):
            assert family_of(listed.target) == load(kind, listed.name).family, listed.name  # type: ignore[attr-defined]
    assert family_of("nasengine.strategies.darts:DARTS") == family_of("no.such:Thing") == ""
