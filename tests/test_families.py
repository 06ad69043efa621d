"""The README's table of families: every command in it runs, at a small size."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nasengine import Objective, Run
from nasengine.families import family_of
from nasengine.registry import installed

Nas = Callable[..., tuple[int, str, str]]
README = Path(__file__).parents[1] / "README.md"
FAMILIES = ("CNN", "GNN", "GAN")
SMALL = {
    "cell": "cell:layers=2,channels=4",
    "mobile": "mobile:widths=[[8],[8]],layers=1,expansions=[2,3],kernels=[3]",
    "nasbench201": "nasbench201:cells=1,channels=4",
    "gnn": "gnn:hidden=[8,16]",
    "graphnas": "graphnas:hidden=[4,8]",
    "generation:data=ring": "generation:data=ring,steps=4",
    "generation:data=digits": "generation:data=digits,steps=2",
    "darts": "darts:epochs=1,hessian=false",
    "weight_sharing": "weight_sharing:epochs=1",
}
"""The same plugins, with less to do."""
QUICKLY = ["--trials", "2", "--baseline", "0", "--fidelity", "epochs=1", "--final-fidelity", "epochs=1", "-q"]


def rows() -> Iterator[tuple[str, list[str]]]:
    """The table's rows: what stands first, and a cell for each family."""
    section = README.read_text(encoding="utf-8").partition("## Three families of models")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            yield first.strip(), cells


def commands() -> Iterator[object]:
    for _, cells in rows():
        for family, cell in zip(FAMILIES, cells, strict=True):
            if cell.startswith("`nas "):
                yield pytest.param(family, cell.strip("`"), id=cell.strip("`").removeprefix("nas "))


@pytest.mark.parametrize(("family", "command"), list(commands()))
def test_every_cell_is_a_command_that_runs(family: str, command: str, nas: Nas, tmp_path: Path) -> None:
    words = [SMALL.get(word, word) for word in shlex.split(command)[1:]]
    quickly = QUICKLY if words[0] == "run" else ["--fidelity", "epochs=1", "-q"]
    code, _, err = nas(*words, *quickly, "--threads", "1", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    run = Run(tmp_path / "run")
    assert run.finished
    assert run.space.family == run.task.family == family
    assert run.best.metrics[f"test_{Objective.parse(run.task.objectives[0]).metric}"] is not None


def test_the_table_names_every_space_and_every_task() -> None:
    named = {
        (first, family): set(re.findall(r"`(\w+)`", cell))
        for first, cells in rows()
        for family, cell in zip(FAMILIES, cells, strict=True)
    }
    for row, kind in (("spaces", "space"), ("tasks", "task")):
        for family in FAMILIES:
            ours = {
                plugin.name for plugin in installed(kind)  # type: ignore[arg-type]
                if plugin.distribution == "nasengine" and family_of(plugin.target) == family
            }  # fmt: skip
            assert named[row, family] == ours
