"""`nas show KIND NAME`: what a plugin is, where it comes from, its options, and a command that uses it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..plugin import Plugin
    from ..task import Task

SOURCE = re.compile(
    r"[A-Z][\w'-]+(?:(?:, and |, | and )[A-Z][\w'-]+)*(?: et al\.)? "  # whose
    r'(?:19|20)\d\d, "[^"]+"(?:, [A-Z][\w-]*(?: [\w-]+)*)?'  # year, title, and where it appeared
)
EXAMPLES = {
    "space": "nas run --space {} --strategy random",
    "strategy": "nas run --strategy {}",
    "evaluator": "nas run --strategy random --evaluator {}",
    "task": "nas run --strategy random --task {}",
    "stopper": "nas run --strategy random --stopper {}",
}
FIGURES = 12
"""From more figures on, a number is also written as a power of ten."""
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def plugin(kind: Any, given: str, task: Callable[[], Task]) -> dict[str, Any]:
    """The text, and the same as JSON values. given: a name, and options. task: for which a space's size is counted."""
    from ..options import check_options
    from ..registry import fingerprint_of, load, split

    name, chosen = split(given)
    cls = load(kind, name)
    if chosen:
        check_options(kind, name, cls, chosen)
    document = inspect.cleandoc(cls.__doc__ or "").partition("Options:")
    about = document[0].strip()
    sources, options = _sources(cls), _options(cls)
    lines = [f"{kind} {name} ({fingerprint_of(cls)})", "", about]
    lines += ["", *(f"From: {source}" for source in sources)] if sources else []
    found: dict[str, Any] = {"kind": kind, "name": name, "about": about, "sources": sources, "options": options}
    call = given if chosen else _call(kind, name, options)
    examples = [EXAMPLES[kind].format(call)]
    if kind == "task":
        examples = [examples[0] + _companion("space", cls.family, "cell")]  # type: ignore[attr-defined]
    if kind == "space":
        size = _size(given, task())
        lines += ["", *size.pop("lines")]
        examples = [examples[0] + size.pop("others"), f"nas draw {call} --seed 1 -o {name.rpartition(':')[2]}.png"]
        found |= size
    lines += ["", "For example:", *(f"  {example}" for example in examples)]
    found["examples"] = examples
    if options:
        lines += ["", f"Options, set as --{kind} {name}:{options[0]['name']}=…", ""]
    for entry in options:
        default = "required" if entry["required"] else f"default {entry['default']}"
        lines.append(f"  {entry['name']} ({entry['type']}, {default})")
        if entry["about"]:
            lines.append(f"      {entry['about']}")
    return {"text": "\n".join(lines), "json": found}


def _options(cls: type[Plugin]) -> list[dict[str, Any]]:
    from ..options import options_of, types_of

    types = types_of(cls)
    explained: dict[str, str] = {}
    for known in reversed(cls.__mro__):  # an option that is inherited is explained where it was defined
        explained |= explanations(inspect.cleandoc(known.__doc__ or "").partition("Options:")[2])
    options = []
    for option, parameter in options_of(cls).items():
        default = None if parameter.default is parameter.empty else parameter.default
        hint = "any" if parameter.annotation is parameter.empty else types.get(option, "any")
        required = parameter.default is parameter.empty
        options.append(
            {"name": option, "type": hint, "default": default, "required": required, "about": explained.get(option, "")}
        )
    return options


def _call(kind: Any, name: str, options: list[dict[str, Any]]) -> str:
    """The plugin as a command names it, with the options that it cannot do without, their values left open."""
    from ..errors import NasError
    from ..registry import make

    if needed := [option["name"] for option in options if option["required"]]:
        return f"{name}:{','.join(f'{option}=…' for option in needed)}"
    try:
        make(kind, name, {})
    except NasError:
        return f"{name}:…"
    return name


def _sources(cls: type[Plugin]) -> list[str]:
    """The papers that the documentation of the class and its module cite, each once: authors, year, title, place."""
    texts = (cls.__doc__, getattr(sys.modules.get(cls.__module__), "__doc__", None))
    return list(dict.fromkeys(source for text in texts for source in SOURCE.findall(re.sub(r"\s+", " ", text or ""))))


def _size(given: str, task: Task) -> dict[str, Any]:
    """How large a space is with its options on the task, or why that is not known; and what else a command names for it
    to work."""
    from ..errors import NasError, one_line
    from ..registry import make, split

    shape = "×".join(map(str, task.input_shape))
    data = f"for examples of {shape} and {task.classes:,} classes"
    try:
        space: Any = make("space", *split(given))
        domain = space.domain(task)
        architectures, decisions = domain.size, len(domain.decisions)
    except Exception as error:
        why = str(error) if isinstance(error, NasError) else one_line(error)
        lines = [f"Its size {data} is not known: {why}"]
        return {"lines": lines, "others": "", "architectures": None, "decisions": None}
    lines = [
        f"Its size {data}, isomorphic architectures counted apart:",
        f"  {'architectures':<16}{written(architectures)}",
        f"  {'decisions':<16}{decisions}",
    ]
    try:
        space.check(task)
        others = ""
    except NasError:
        others = _companion("task", space.family, task.known_as) or " --evaluator tabular:table=…"
    return {"lines": lines, "others": others, "architectures": architectures, "decisions": decisions}


def _companion(kind: Any, family: str, usual: str) -> str:
    """A space, or a task, as a command names it, that goes with plugins of the family and needs no options; nothing
    where the usual one does, or none is known."""
    from ..families import family_of
    from ..options import options_of
    from ..registry import installed, load

    known = {plugin.name: plugin for plugin in installed(kind)}
    if not family or (usual in known and family_of(known[usual].target) in ("", family)):
        return ""
    for name, plugin in sorted(known.items()):
        if family_of(plugin.target) == family:
            options = options_of(load(kind, name)).values()
            if all(option.default is not option.empty for option in options):
                return f" --{kind} {name}"
    return ""


def written(number: int) -> str:
    """`15,625`, or `9,119,789,245,425,254,400 (9.1 × 10¹⁸)`; of a number of over a hundred figures, the latter only."""
    if number < 10**FIGURES:
        return f"{number:,}"
    mantissa, _, power = f"{Decimal(number):.1e}".partition("e+")
    rounded = f"{mantissa} × 10{power.translate(SUPERSCRIPTS)}"
    return f"{number:,} ({rounded})" if number < 10**100 else f"about {rounded}"


def explanations(text: str) -> dict[str, str]:
    """The lines `name, name: what it is` of a docstring's options, by name; continued lines are indented further."""
    explained: dict[str, str] = {}
    for names, about in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
        for name in names.split(", "):
            explained[name] = re.sub(r"\s+", " ", about)
    return explained
