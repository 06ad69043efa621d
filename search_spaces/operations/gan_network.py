"""The players of an adversarial game being built: generator, discriminator, and what the game between them is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from nasengine import Chooser, One, Task, mask_channels

from .chain import ACTIVATIONS, CONVOLUTIONS, POOLS, Bias, Nothing, group_of, norms
from .gan import (
    Adversaries,
    Cell,
    ConditionalBatchNorm,
    Discriminator,
    Discriminators,
    Game,
    Generators,
    Size,
    Told,
    enlarged,
    halved,
    normalised_spectrally,
    strided,
    transposed,
)

if TYPE_CHECKING:
    from ..gan import GANSpace

Value = TypeVar("Value", int, float, str)
LATENTS = 32
"""Where the task does not say how many it draws."""


class GANNetwork:
    """One use of `build`: the space's settings, the chooser, the task's shapes."""

    def __init__(self, space: GANSpace, choose: Chooser, task: Task) -> None:
        self.space, self.choose = space, choose
        self.shape = tuple(task.input_shape)
        self.labels = int(getattr(task, "labels", 0))
        self.latents = int(getattr(task, "latents", LATENTS)) + self.labels
        self.group = group_of(space.widths)
        sizes = [self.shape[1:]] if len(self.shape) == 3 else []
        while sizes and len(sizes) <= space.blocks:
            sizes.append(halved(sizes[-1]))
        self.sizes: list[Size] = sizes[::-1]
        """Of an image, from the smallest that the generator begins with."""

    def build(self) -> Adversaries:
        game = picked(self.one("game", {kind: partial(self._kind, kind) for kind in self.space.games}))
        conditioning = self.value("conditioning", self.space.conditionings) if self.labels else "none"
        self.latents -= game.generators > 1  # the first of them says which generator it is
        generators = [self.generator() for _ in range(game.generators)]
        scores = game.generators + 1 if game.generators > 1 else 1
        discriminators = [self.discriminator(scores, conditioning) for _ in range(game.discriminators)]
        judge = Discriminators(discriminators) if len(discriminators) > 1 else discriminators[0]
        return Adversaries(
            Generators(generators) if len(generators) > 1 else generators[0],
            normalised_spectrally(judge) if game.regulariser == "spectral" else judge,
            game,
        )

    def _kind(self, kind: str) -> nn.Module:
        """The rules of a game. A decision that only some games have is taken here, and depends on the game."""
        space = self.space
        if kind == "mad_gan":
            return Game("non_saturating", generators=self.value("generators", space.generators))
        if kind == "dropout_gan":
            count = self.value("discriminators", space.discriminators)
            dropout = self.value("feedback_dropout", space.feedback_dropouts)
            losses = [loss for loss in space.losses if loss != "wgan_gp"] or ["non_saturating"]
            return self._rules("dropout_gan.loss", losses, discriminators=count, feedback_dropout=dropout)
        return self._rules("loss", space.losses)

    def _rules(self, name: str, losses: Sequence[str], **settings: Any) -> nn.Module:
        def of(loss: str) -> Game:
            kept = [kind for kind in self.space.regularisers if kind != "r1" or loss != "wgan_gp"] or ["none"]
            return Game(
                loss, self.value("regulariser" + ("_of_wgan_gp" if loss == "wgan_gp" else ""), kept), **settings
            )

        return self.one(name, {loss: partial(of, loss) for loss in losses})

    def generator(self) -> nn.Module:
        """Told the labels, which are the last of its latents."""
        if self.sizes:
            return Told(self._painter(), self.labels)
        layers, width = self._point_layers("generator", self.latents)
        return Told(OrderedDict(layers=layers, output=nn.Linear(width, self.shape[0])), self.labels)

    def discriminator(self, scores: int, conditioning: str) -> nn.Module:
        before = self.shape[0] + (self.labels if conditioning == "concat" else 0)
        if not self.sizes:
            layers, features = self._point_layers("discriminator", before)
        else:
            layers, features = self._critic(before)
        return Discriminator(layers, features, scores, self.labels, conditioning)

    def _painter(self) -> OrderedDict[str, nn.Module]:
        """From latents to images between −1 and 1."""
        space, sizes = self.space, self.sizes
        width = self.value("generator.stem.width", space.widths)
        flat = sizes[0][0] * sizes[0][1]
        parts: OrderedDict[str, nn.Module] = OrderedDict({
            "project": nn.Linear(self.latents, width * flat, bias=False),
            "reshape": nn.Unflatten(1, (int(width), *sizes[0])),
            "norm": self.norm("generator", width),
            "activation": self.activation("generator"),
            "mask": mask_channels(width),
        })  # fmt: skip
        for index in range(space.blocks - 1):
            parts[f"block{index}"], width = self._up(index, width)
        last = {"direct": partial(self._direct, width), "convolution": partial(self._indirect, width)}
        parts["output"] = self.one("generator.output", {how: last[how] for how in space.outputs})
        parts["limit"] = nn.Tanh()
        return parts

    def _direct(self, before: int) -> nn.Module:
        """The image at once, as DCGAN: the last layer is the one that enlarges it, without normalisation."""
        index = self.space.blocks - 1
        return self._enlarging("generator.last", before, self.shape[0], index)

    def _indirect(self, before: int) -> nn.Module:
        """One more block, and a 3×3 convolution to the image, as AutoGAN."""
        block, width = self._up(self.space.blocks - 1, before)
        return nn.Sequential(OrderedDict(block=block, convolution=nn.Conv2d(width, self.shape[0], 3, padding=1)))

    def _up(self, index: int, before: int) -> tuple[nn.Module, int]:
        """A block of the generator, twice as large as what it is given, and its width."""
        name = f"generator.block{index}"
        width = self.value(f"{name}.width", self.space.widths)
        enlarging = partial(self._enlarging, name, before, width, index)
        ways: dict[str, Callable[[], nn.Module]] = {
            "none": Nothing,
            "projection": lambda: nn.Sequential(
                enlarged("nearest", self.sizes[index + 1]), nn.Conv2d(before, width, 1, bias=False)
            ),
        }
        first = self._ordered(name, "generator", before, width, enlarging)
        more = self._more(name, "generator", width)
        return Cell(
            first, more, self.one(f"{name}.shortcut", {way: ways[way] for way in self.space.shortcuts}), width
        ), width

    def _enlarging(self, name: str, before: int, width: int, index: int) -> nn.Module:
        size, larger = self.sizes[index], self.sizes[index + 1]

        def up(mode: str) -> nn.Module:
            if mode == "transposed":
                return transposed(before, width, size, larger)
            convolution = self._convolution(name, before, width)
            return nn.Sequential(OrderedDict(enlarge=enlarged(mode, larger), convolution=convolution))

        return self.one(f"{name}.up", {mode: partial(up, mode) for mode in self.space.ups})

    def _critic(self, before: int) -> tuple[nn.Module, int]:
        """From images to a vector, and its length. No normalisation at the input: DCGAN's rule."""
        parts: dict[str, nn.Module] = {}
        for index in range(self.space.blocks):
            parts[f"block{index}"], before = self._down(index, before)
        flat = self.sizes[0][0] * self.sizes[0][1]
        return nn.Sequential(OrderedDict(parts, flatten=nn.Flatten())), before * flat

    def _down(self, index: int, before: int) -> tuple[nn.Module, int]:
        name, size = f"discriminator.block{index}", self.sizes[len(self.sizes) - 1 - index]
        width = self.value(f"{name}.width", self.space.widths)

        def down(how: str) -> nn.Module:
            if how == "strided":
                return strided(before, width, size)
            pool = POOLS[f"{how}_pool"]()
            return nn.Sequential(OrderedDict(convolution=self._convolution(name, before, width), pool=pool))

        ways: dict[str, Callable[[], nn.Module]] = {
            "none": Nothing,
            "projection": lambda: nn.Sequential(POOLS["average_pool"](), nn.Conv2d(before, width, 1, bias=False)),
        }
        norm = self.norm("discriminator", width) if index else Bias(width)
        first = nn.Sequential(OrderedDict(
            down=self.one(f"{name}.down", {how: partial(down, how) for how in self.space.downs}), norm=norm,
            activation=self.activation("discriminator"), mask=mask_channels(width),
        ))  # fmt: skip
        more = self._more(name, "discriminator", width)
        return Cell(
            first, more, self.one(f"{name}.shortcut", {way: ways[way] for way in self.space.shortcuts}), width
        ), width

    def _more(self, name: str, player: str, width: int) -> nn.Module:
        """Further layers of the same size and width."""
        convolution = partial(self._convolution, name, width, width)
        layer = partial(self._ordered, name, player, width, width, convolution)
        layers = [layer] * (self.space.layers - 1)
        return self.choose.depth(f"{name}.more", layers, at_least=0) if layers else nn.Identity()

    def _ordered(self, name: str, player: str, before: int, width: int, make: Callable[[], nn.Module]) -> nn.Module:
        """A layer with its normalisation and activation behind it, or before it (AutoGAN's two kinds of block)."""

        def post() -> nn.Module:
            return nn.Sequential(OrderedDict(
                layer=make(), norm=self.norm(player, width), activation=self.activation(player),
                mask=mask_channels(width),
            ))  # fmt: skip

        def pre() -> nn.Module:
            return nn.Sequential(OrderedDict(
                norm=self.norm(player, before), activation=self.activation(player), mask=mask_channels(before),
                layer=make(), mask_after=mask_channels(width),
            ))  # fmt: skip

        kinds = {"post": post, "pre": pre}
        orders = self.space.orders if player == "generator" else ("post",)
        return self.one(f"{name}.order", {order: kinds[order] for order in orders})

    def _convolution(self, name: str, before: int, width: int) -> nn.Module:
        kernel = self.value(f"{name}.kernel", self.space.kernels)
        kinds = self.space.convolutions
        if name == "generator.last":  # an image's channels do not come in groups
            kinds = tuple(kind for kind in kinds if kind != "grouped") or ("convolution",)
        made = {kind: partial(CONVOLUTIONS[kind], before, width, kernel, 1, self.group) for kind in kinds}
        return self.one(f"{name}.convolution", made)

    def _point_layers(self, player: str, before: int) -> tuple[nn.Module, int]:
        """Fully connected layers of one width, and the width. The discriminator's first has no normalisation. Weights,
        and biases where there is no normalisation, begin as those of `nn.Linear`."""
        width = self.value(f"{player}.units", self.space.units)

        def layer(index: int) -> nn.Module:
            own = player == "generator" or index
            inputs = width if index else before
            return nn.Sequential(OrderedDict(
                linear=nn.Linear(inputs, width, bias=False),
                norm=self.norm(player, width, inputs) if own else Bias(width, True, inputs),
                activation=self.activation(player), mask=mask_channels(width),
            ))  # fmt: skip

        return self.choose.depth(f"{player}.depth", [partial(layer, index) for index in range(3)]), width

    def norm(self, player: str, width: int, inputs: int | None = None) -> nn.Module:
        """One kind for all of a player's layers. inputs: of a fully connected layer, for its bias (see `Bias`)."""
        vectors = not self.sizes
        known = norms(width, self.group, mask_channels(width), vectors)
        known["none"] = partial(Bias, width, vectors, inputs)
        if player == "generator" and self.labels:
            ways: dict[str, Callable[[], nn.Module]] = {
                "plain": known["batch"], "conditional": partial(ConditionalBatchNorm, width, self.labels, vectors),
            }  # fmt: skip
            kept = {way: ways[way] for way in self.space.batch_norms}
            known["batch"] = partial(self.one, "generator.batch_norm", kept)
        kinds = [kind for kind in self.space.norms_of(player) if kind != "instance" or not vectors]
        return self.one(f"{player}.norm", {kind: known[kind] for kind in kinds})

    def activation(self, player: str) -> nn.Module:
        known: dict[str, Callable[[], nn.Module]] = {**ACTIVATIONS, "leaky_relu": partial(nn.LeakyReLU, 0.2)}
        return self.one(f"{player}.activation", {kind: known[kind] for kind in self.space.activations})

    def one(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        """The only option, or a choice."""
        return next(iter(options.values()))() if len(options) == 1 else self.choose.one(name, options)

    def value(self, name: str, values: Sequence[Value]) -> Value:
        return values[0] if len(values) == 1 else self.choose.value(name, values)


def picked(module: nn.Module) -> Game:
    """The game that was picked; of several that are kept, the first."""
    while isinstance(module, One):
        module = module.option(module.active[0])
    return module  # type: ignore[return-value]
