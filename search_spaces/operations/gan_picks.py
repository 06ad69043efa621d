"""The picks of an adversarial network read again: its players layer by layer, as text and as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasengine import Architecture

if TYPE_CHECKING:
    import networkx as nx

    from ..gan import GANSpace

PLAYERS = ("generator", "discriminator")
SAME = ("generators", "discriminators")
"""Decisions that are named as the space's option of their values."""


class Picks:
    """What was picked, or is the space's only option."""

    def __init__(self, space: GANSpace, architecture: Architecture) -> None:
        self.space, self.picks = space, architecture.picks
        self.points = f"{PLAYERS[0]}.depth" in self.picks

    def of(self, name: str) -> str:
        if name in self.picks:
            return str(self.picks[name])
        player, _, what = name.rpartition(".")
        if what == "norm":
            return self.space.norms_of(player.partition(".")[0])[0]
        return str(getattr(self.space, what if what in SAME else f"{what}s")[0])

    def layers(self, player: str) -> list[tuple[str, str]]:
        """Each layer's label, and the group that it is drawn as one of."""
        if self.points:
            label = f"linear {self.of(f'{player}.units')}"
            return [(label, "linear")] * int(self.of(f"{player}.depth"))
        return self._generator() if player == "generator" else self._discriminator()

    def _generator(self) -> list[tuple[str, str]]:
        last = self.space.blocks - 1
        whole = range(self.space.blocks if self.of("generator.output") == "convolution" else last)
        found = [(f"project, {self.of('generator.stem.width')}", "linear")]
        for index in whole:
            name = f"generator.block{index}"
            how = self.of(f"{name}.up")
            found.append((self._label(name, f"{how} ×2", how != "transposed", self.of(f"{name}.order")), how))
        if len(whole) <= last:
            name, how = "generator.last", self.of("generator.last.up")
            kind = "" if how == "transposed" else f", {self._convolution(name)}"
            return [*found, (f"{how} ×2{kind}\nto the image", how)]
        return [*found, ("convolution 3×3\nto the image", "convolution")]

    def _discriminator(self) -> list[tuple[str, str]]:
        found = []
        for index in range(self.space.blocks):
            name = f"discriminator.block{index}"
            how = self.of(f"{name}.down")
            found.append((self._label(name, f"{how} ÷2", how != "strided", "post"), how))
        return found

    def _label(self, name: str, size: str, convolves: bool, order: str) -> str:
        """A block in up to three lines."""
        more = int(self.of(f"{name}.more")) if self.space.layers > 1 else 0
        lines = [f"{size}, {self.of(f'{name}.width')}"]
        if count := convolves + more:
            lines.append(
                ("" if convolves else "then ") + (f"{count} × " if count > 1 else "") + self._convolution(name)
            )
        shortcut = self.of(f"{name}.shortcut") == "projection"
        rest = ["pre-activated"] * (order == "pre") + ["shortcut"] * shortcut
        return "\n".join([*lines, *([", ".join(rest)] if rest else [])])

    def _convolution(self, name: str) -> str:
        kernel = self.of(f"{name}.kernel")
        return f"{self.of(f'{name}.convolution')} {kernel}×{kernel}"

    def around(self, player: str) -> str:
        """What stands around a player's layers."""
        norm, activation = self.of(f"{player}.norm"), self.of(f"{player}.activation")
        if (player, norm) == ("generator", "batch") and self.of("generator.batch_norm") == "conditional":
            norm = "conditional batch"
        return f"{'no' if norm == 'none' else norm} norm, {activation.replace('_', ' ')}"

    def game(self) -> str:
        game, picks, space = self.of("game"), self.picks, self.space
        loss = str(picks.get("loss", picks.get("dropout_gan.loss", space.losses[0])))
        regulariser = str(picks.get("regulariser", picks.get("regulariser_of_wgan_gp", space.regularisers[0])))
        parts = [f"{loss.replace('_', ' ')} loss"] if game != "mad_gan" else []
        if game == "mad_gan":
            parts.append(f"{self.of('generators')} generators, which the discriminator names")
        if game == "dropout_gan":
            rate = float(self.of("feedback_dropout"))
            parts.append(f"{self.of('discriminators')} discriminators, each unheard with probability {rate:g}")
        if game != "mad_gan" and regulariser != "none" and not (loss == "wgan_gp" and regulariser == "r1"):
            parts.append({"spectral": "spectral normalisation"}.get(regulariser, regulariser.upper()))
        if "conditioning" in picks:
            parts.append(f"labels by {picks['conditioning']}")
        return ", ".join(parts)


def describe(space: GANSpace, architecture: Architecture) -> str:
    picks = Picks(space, architecture)
    lines = []
    for player in PLAYERS:
        layers = [label.replace("\n", ", ") for label, _ in picks.layers(player)]
        lines.append(f"{player} ({picks.around(player)}): {' → '.join(layers)}")
    return "\n".join([*lines, f"game: {picks.game()}"])


def graph(space: GANSpace, architecture: Architecture) -> nx.DiGraph:
    import networkx as nx

    picks, drawn = Picks(space, architecture), nx.DiGraph()
    ends = {"generator": ("latents", "made"), "discriminator": ("real or made", picks.game().replace(", ", "\n", 1))}
    for player in PLAYERS:
        first, last = ends[player]
        labels = [(first, None), *picks.layers(player), (last, None)]
        part = f"{player}: {picks.around(player)}"
        for index, (label, group) in enumerate(labels):
            drawn.add_node(f"{player} {index}", label=label, part=part, **({"group": group} if group else {}))
            if index:
                drawn.add_edge(f"{player} {index - 1}", f"{player} {index}")
    return drawn
