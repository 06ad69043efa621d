"""The README and the book: every block of code on every page runs, in order, and every link leads somewhere.

A page is read from top to bottom, in an empty folder:

- a block whose first line is `# NAME.ext` is a file of that name, and is written;
- a python block runs, all of a page's in one namespace;
- a bash block runs under `set -e`; of a console block, the lines behind `$ ` do;
- a `text output` block must stand in what the block before it printed, `…` for anything within a line, and a line of
  `…` alone for any number of lines; other text is for the reader.

A block marked `norun` is only shown; each of its lines must be among those that SHOWN_ONLY gives a reason for.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

SLOW = {
    "cheap-judgements.md", "cnn.md", "evaluators.md", "gan.md", "gnn.md", "hardware.md", "many-workers.md",
    "reports.md", "search-spaces.md",
}  # fmt: skip
"""Pages that begin one Ray after the other, or whose commands take long together."""

SHOWN_ONLY = {
    r"nas compare .+ --seeds 100": "takes minutes, and a benchmark's table; docs/comparing.md runs a smaller one",
    r"nas run --space chain --strategy \"asha:sampler=\{.+\} .+|nas run .+--trials 100": "takes long",
    r"nas run .+ --funnel zero_cost:1000,.+": "takes long; docs/evaluators.md runs a smaller one",
    r"pip install .+": "installs",
    r"git clone .+|cd \S+": "fetches the source",
    r"python3? -m venv \S+|(source|\.) \S+/bin/activate": "makes an environment",
    r"make( [\w-]+)*": "makes an environment, and runs its tests",
    r"(\S*/)?nas run --space cell --strategy darts": "run by tests/test_main_job.py",
    r"nas .+\b(DIR|RUN)\b.*": "stands for a folder of the reader's",
    r"python with_tune\.py": "run by tests/test_integrations_tune.py, where Ray is at hand",
    r'import nasengine|run = nasengine\.search\(|"chain.+ workers=2, .+|\)|sorted\(.+\)': "run by tests/test_ray.py",
    r".+ --device cuda(:\d+)?( .+)?": "needs a GPU",
}
"""What a `norun` block may hold, and why it is not run."""

RUN = {"python", "bash", "sh", "console"}
FILES = {"python": ".py", "yaml": ".yaml", "toml": ".toml", "json": ".json"}
SHOWN = {"text", "mermaid"}
PARSERS: dict[str, Callable[[str], object]] = {".toml": tomllib.loads, ".yaml": yaml.safe_load, ".json": json.loads}
SECONDS = 300  # for one command, on a slow machine


@dataclass(frozen=True)
class Block:
    """A fenced block: the first word of its info string, the others, its text, and the line where that begins."""

    language: str
    marks: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that the block is, if its first line names one."""
        named = re.match(r"# (\w[\w./-]*\.\w+)\n", self.text)
        return named[1] if named and self.language in FILES else None

    @property
    def commands(self) -> str:
        """What a shell is to run."""
        if self.language != "console":
            return self.text
        return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith("$ "))

    def check(self) -> None:
        """Fails where the page leaves open what the block is for."""
        if "norun" in self.marks:
            lines = [line.partition(" #")[0].strip() for line in self.commands.splitlines()]
            unknown = [line for line in lines if line and not any(re.fullmatch(shown, line) for shown in SHOWN_ONLY)]
            assert unknown == [], f"{self}: no reason is known for not running this"
        assert self.language in RUN | FILES.keys() | SHOWN, f"{self}: what is it? name its language"
        assert self.language in RUN | SHOWN or self.file, f"{self}: which file is it? say it in a comment on top"

    def __str__(self) -> str:
        return f"the {self.language or 'nameless'} block at line {self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    fenced = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^ *\2 *$", re.MULTILINE | re.DOTALL)
    for found in fenced.finditer(page):
        indent, _, info, text = found.groups()
        language, *marks = info.split() or [""]
        line = page.count("\n", 0, found.start(4)) + 1
        yield Block(language, tuple(marks), re.sub(rf"^{indent}", "", text, flags=re.MULTILINE), line)


class Reader:
    """Does what a page says, in a folder of its own."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""

    def read(self, block: Block) -> None:
        block.check()
        if "norun" in block.marks:
            return
        if block.language == "text":
            self.compare(block)
        elif block.file:
            self.write(block, self.folder / block.file)
        elif block.language == "python":
            self.run_python(block)
        elif block.language in RUN:
            self.run_commands(block)

    def compare(self, block: Block) -> None:
        if "output" in block.marks:
            printed = "".join(f"{line.rstrip()}\n" for line in self.printed.splitlines())
            assert re.search(as_pattern(block.text), printed, re.MULTILINE), (
                f"{block} of {self.page.name} is not what was printed:\n\n{block.text}\nwas expected in\n\n{printed}"
            )

    def write(self, block: Block, path: Path) -> None:
        if path.suffix in PARSERS:
            PARSERS[path.suffix](block.text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def run_python(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + block.text  # so that a traceback gives the page's lines
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(self.page), "exec", dont_inherit=True), self.namespace)  # noqa: S102
        self.printed = printed.getvalue()

    def run_commands(self, block: Block) -> None:
        ran = subprocess.run(
            ["bash", "-c", f"set -e\n{block.commands}"],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=SECONDS,
        )  # fmt: skip
        self.printed = ran.stdout
        assert ran.returncode == 0, (
            f"{block} of {self.page.name} exits with {ran.returncode}:\n\n{block.text}\n{ran.stdout}"
        )


def as_pattern(shown: str) -> str:
    """Output as a page shows it, as a regular expression for what was printed."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(map(re.escape, line.rstrip().split("…"))) + r"\n")
    return "^" + "".join(lines)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, as a user would: with this environment's commands, and nothing else set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    for name in ("NASENGINE_DATA", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):  # another page may have a file of the same name
        if Path(getattr(module, "__file__", None) or ROOT).is_relative_to(tmp_path):
            del sys.modules[name]


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.slow) if p.name in SLOW else p for p in PAGES], ids=shown
)
@pytest.mark.usefixtures("folder", "warm_python")
def test_every_block_of_a_page_runs_in_order(page: Path, folder: Path) -> None:
    if not page.exists():
        pytest.skip(f"{shown(page)} is not written yet")
    reader = Reader(page, folder)
    for block in blocks(page.read_text(encoding="utf-8")):
        reader.read(block)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    if not page.exists():
        pytest.skip(f"{shown(page)} is not written yet")
    assert broken_links(page) == []


def broken_links(page: Path) -> list[str]:
    """The links to files and headings that are not there."""
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    return broken


def links(text: str) -> list[str]:
    """What a page links to, other sites apart."""
    inline = r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)"
    reference, image = r"^\[[^\]]+\]:\s+(\S+)", r"<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\""
    found = re.findall(f"{inline}|{reference}|{image}", without_code(text), re.MULTILINE)
    targets = ["".join(groups) for groups in found]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    if page.suffix != ".md":
        return set()
    text = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.append(slug if slug not in names else f"{slug}-{sum(n.startswith(slug) for n in names)}")
    return set(names)


def without_code(text: str) -> str:
    fences = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^`].*?\1", "", fences)


def page_of(folder: Path, text: str) -> Reader:
    """A page read to its end."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    reader = Reader(page, folder)
    for block in blocks(text):
        reader.read(block)
    return reader


def test_the_blocks_of_a_page_share_a_folder_and_its_python_a_namespace(folder: Path) -> None:
    reader = page_of(
        folder,
        "```python\n# part.py\nNUMBER = 1\n```\n"
        "```python\nfrom part import NUMBER\n```\n"
        "- In a list:\n  ```bash\n  echo two > number.txt; pwd\n  ```\n"
        "```console\n$ cat number.txt\nnot a command\n```\n"
        "```text output\nt…o\n```\n"
        "```python\nprint(NUMBER + 1, open('number.txt').read())\n```\n",
    )
    assert reader.printed == "2 two\n\n"
    assert (folder / "part.py").read_text() == "# part.py\nNUMBER = 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```bash\nfalse\ntrue\n```\n", "exits with 1"),
        ("```bash\necho one\n```\n```text output\ntwo\n```\n", "is not what was printed"),
        ("```bash norun\nrm -r runs\n```\n", "no reason is known"),
        ("```\nwhat is this?\n```\n", "name its language"),
        ("```yaml\nspace: cell\n```\n", "which file is it"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(text: str, says: str, folder: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        page_of(folder, text)


def test_a_traceback_gives_the_line_of_the_page(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        page_of(folder, "# A page\n\n```python\none = 1\none / 0\n```\n")
    assert (raised.traceback[-1].path.name, raised.traceback[-1].lineno + 1) == ("page.md", 5)  # type: ignore[union-attr]


def test_shown_output_may_leave_out_parts_of_lines_and_lines() -> None:
    printed = "first 1.5 s\nsecond\nthird\nlast\n"
    assert re.search(as_pattern("first … s\n…\nlast\n"), printed)
    assert not re.search(as_pattern("first … s\nlast\n"), printed)


def test_links_to_files_and_headings_are_followed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The first, and only one\n[a](page.md) [b](#the-first-and-only-one) [c](https://a.site/x) `[d](none)`\n"
        "[e](none.md)\n[f](page.md#no-such) ![g](none.svg)\n```python\nx[0](h)\n```\n"
    )
    assert broken_links(page) == ["none.md", "page.md#no-such", "none.svg"]
