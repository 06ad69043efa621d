"""`nas dissect`: what each unit of a found generator draws, and what becomes of the images without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .machine import Device
from .profile import Progress
from .resume import RunFolder
from .run import Json, Quiet

FEWEST = 20
"""Images: an interval of fewer than ten says nothing."""

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..dissection import Dissection, Effect, Segmenter
    from ..report.dissected import Found
    from ..run import Run


def dissect(
    folder: RunFolder,
    layer: Annotated[list[str] | None, typer.Option(metavar="PATH", help="A layer, by its path within the generator; once for each.  [default: the generator's blocks]")] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="FILE:NAME", help="A function that says what is where in images, as `./mine.py:segments` or `module:function`.  [default: the task's]")] = None,
    samples: Annotated[int, typer.Option(metavar="N", help="Images that the generator makes: half to choose thresholds by, half to measure on.")] = 1000,
    units: Annotated[int, typer.Option(metavar="N", help="How many units are switched off and on, and drawn: those that agree best.")] = 8,
    together: Annotated[int, typer.Option(metavar="N", help="Look also for up to so many units of a layer that move a segment most together; this takes long.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where table and pictures go.  [default: RUN/dissection]")] = None,
    device: Device = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other images.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Take the generator of a finished run apart: which unit draws what.

    Each unit's map is cut at the threshold that says most of a segment, and held against it: intersection over union
    (IoU). A unit agrees with a segment where that is more than 0.05, and more than the segment's share of the images,
    which is the IoU of a unit that is always on. The units that are most above it are set to 0, and to what they are
    where the segment is: the difference in the segment's share is the unit's effect, with a 95 % bootstrap interval.
    Written are a table of all units and segments (CSV), and for each of the best units a sheet: the images in which it
    is most active, without it, and with it everywhere. (Bau et al. 2018, "GAN Dissection".)
    """
    import json as encoder

    from ..errors import ConfigError
    from ..run import Run

    for name, number, least in (("samples", samples, FEWEST), ("units", units, 1), ("together", together, 0)):
        if number < least:
            raise ConfigError(f"--{name} is {number}; expected {least} or more")
    run = Run(folder)
    with Progress(quiet, "batches") as progress:
        work = Work(run, segmenter, samples, device, seed, progress)
        dissections = work.dissections(layer)
        found = work.found(dissections, units)
        sets = work.sets(found, units, together) if together else []
    written = write(out or folder / "dissection", dissections, found)
    if json:
        typer.echo(encoder.dumps(_json(dissections, found, sets, written), indent=2))
    else:
        typer.echo("\n".join(_lines(samples, dissections, found, sets, written)))


class Work:
    """What is to be computed, and how far it is."""

    def __init__(
        self, run: Run, segmenter: str | None, samples: int, device: str | None, seed: int, progress: Progress
    ) -> None:
        import torch

        from ..device import pick_device

        picked = pick_device(device or "auto")
        self.segment = function_named(segmenter) if segmenter else run.task.segments
        self.generator = generator_of(run).to(picked)
        self.inputs = run.task.inputs(samples, torch.Generator().manual_seed(seed)).to(picked)
        self.samples, self.seed, self.progress = samples, seed, progress
        self.done = self.total = 0

    def dissections(self, paths: list[str] | None) -> list[Dissection]:
        """A dissection of each layer, with what agrees with what."""
        from ..dissection import Dissection
        from ..maps import layers

        made = [
            Dissection(self.generator, self.inputs, self.segment, path, seed=self.seed, step=self.step)
            for path in paths or layers(self.generator, [self.inputs[:64]])
        ]
        self.expect(sum(one.batches("first") + one.batches("second") for one in made))
        for one in made:
            one.matches()
        return made

    def found(self, dissections: list[Dissection], units: int) -> list[Found]:
        """The units that agree best, with their effects."""
        from ..report.dissected import Found

        matched = [(one, match) for one in dissections for match in one.matches()]
        best = sorted(matched, key=lambda pair: pair[1].share - pair[1].iou)[:units]
        self.expect(sum(one.batches("second") for one, _ in best))
        return [Found(one, match, one.effect([match.unit], match.segment)) for one, match in best]

    def sets(self, found: list[Found], units: int, most: int) -> list[tuple[str, Effect]]:
        """For each segment, in the layer of the unit that agrees best, which units move it together; with the layer."""
        sets = []
        for segment in dict.fromkeys(one.match.segment for one in found):
            layer = next(one.dissection for one in found if one.match.segment == segment)
            agreeing = layer.chosen.iou[:, layer.segments.index(segment)].argsort(descending=True)[:units].tolist()
            rounds = sum(len(agreeing) - taken for taken in range(min(most, len(agreeing))))
            self.expect(rounds * layer.batches("first") + layer.batches("second"))
            expected = self.total
            sets.append((layer.tap.path, layer.together(segment, agreeing, most)))
            self.done = expected  # fewer rounds than there might have been
        return sets

    def expect(self, batches: int) -> None:
        self.total += batches
        if not self.done:
            self.progress.step(0, self.total)

    def step(self) -> None:
        self.done += 1
        self.progress.step(self.done, self.total)


def generator_of(run: Run) -> nn.Module:
    """The generator of the model found. Raises RunError where there is none."""
    from torch import nn

    from ..errors import RunError

    model = run.best_model()
    generator = getattr(model, "generator", None)
    if not isinstance(generator, nn.Module):
        raise RunError(
            f"the model of {run.folder} has no `generator` to dissect; runs of generators are those of "
            f"nas run --space gan --task generation, and of models of your own with such an attribute"
        )
    return generator


def function_named(name: str) -> Segmenter:
    """The function at `FILE.py:NAME` or `module:NAME`, whose own errors become sentences. Raises PluginError."""
    from ..errors import NasError, PluginError, near_miss, one_line
    from ..registry import module_named

    where, colon, attribute = name.rpartition(":")
    if not colon or not where:
        raise PluginError(
            f"the segmenter is {name!r}; expected a file or module and its function, as ./mine.py:segments"
        )
    module = module_named("segmenter", where)
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        hint = near_miss(attribute, [known for known, value in vars(module).items() if callable(value)])
        raise PluginError(f"{where} has no function {attribute!r}.{hint}")

    def segments(images: Tensor) -> Any:
        try:
            return function(images)
        except NasError:
            raise
        except Exception as error:
            raise PluginError(f"the segmenter {name!r} failed: {one_line(error)}") from error

    return segments


def write(folder: Path, dissections: list[Dissection], found: list[Found]) -> list[Path]:
    """The table and the sheets into a folder, which is made. Raises ExportError where that cannot be."""
    from ..errors import ExportError
    from ..report.dissected import as_csv, sheet
    from ..report.drawing import save
    from ..storage import write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "units.csv", as_csv(dissections, found).encode())
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}; choose another folder with --out") from None
    return [folder / "units.csv", *(save(sheet(one), folder / f"{one.layer}-{one.match.unit}.png") for one in found)]


def _json(
    dissections: list[Dissection], found: list[Found], sets: list[tuple[str, Effect]], written: list[Path]
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "layers": [{"path": one.tap.path, "units": one.tap.units, "size": list(one.tap.size)} for one in dissections],
        "segments": list(dissections[0].segments),
        "units": [
            {"layer": one.layer, **asdict(one.match), **_effect(one.effect), "sheet": str(path)}
            for one, path in zip(found, written[1:], strict=True)
        ],
        "together": [
            {"layer": layer, "units": list(effect.units), "segment": effect.segment, **_effect(effect)}
            for layer, effect in sets
        ],
        "written": [str(path) for path in written],
    }


def _effect(effect: Effect) -> dict[str, float]:
    return {name: getattr(effect, name) for name in ("inserted", "ablated", "ace", "low", "high")}


def _lines(
    samples: int, dissections: list[Dissection], found: list[Found], sets: list[tuple[str, Effect]],
    written: list[Path],
) -> list[str]:  # fmt: skip
    from collections import Counter

    from ..report.dissected import rows, together
    from .show import columns

    matches = [match for one in dissections for match in one.matches()]
    units = sum(one.tap.units for one in dissections)
    paths = ", ".join(one.tap.path for one in dissections)
    kinds = ", ".join(f"{name} {count}" for name, count in Counter(match.segment for match in matches).most_common())
    lines = [
        f"{samples:,} images, half of them to choose thresholds by; layers: {paths}",
        f"{len(matches)} of {units} units agree with a segment" + (f": {kinds}" if kinds else ""),
    ]
    if found:
        lines += ["", "Those that agree best, and what they do to their segment's share of the image:"]
        lines += [f"  {line}" for line in columns(rows(found))]
    if sets:
        lines += ["", "Units that together move a segment most:"]
        lines += [f"  {line}" for line in columns(together(sets))]
    sheets = f", and {len(found)} sheet{'s' if len(found) > 1 else ''} of pictures beside it" if found else ""
    return [*lines, "", f"Written: {written[0]}{sheets}"]
