"""The space of generative adversarial networks: a generator, a discriminator, and the game that they play.

Radford, Metz, Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (DCGAN), ICLR, is a point of it. Gong, Chang, Jiang, Wang 2019, "AutoGAN", ICCV, section 3.1: the generator's
blocks of pre- and post-activation convolutions, and how they enlarge the image. Gao, Chen, Liu, Tan, Shen 2020,
"AdversarialNAS", CVPR, section 3.2: that the discriminator is searched too, and how it makes the image smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, SpaceError, Task

from .operations import gan as parts
from .operations.gan_network import GANNetwork
from .operations.gan_picks import describe, graph

if TYPE_CHECKING:
    import networkx as nx
    from torch import nn

    from nasengine import Supernet

UPS = ("transposed", "nearest", "bilinear")
DOWNS = ("strided", "average", "max")
CONVOLUTIONS = ("convolution", "separable", "grouped")
GENERATOR_NORMS = ("batch", "instance", "none")
DISCRIMINATOR_NORMS = ("batch", "layer", "instance", "none")
ACTIVATIONS = ("relu", "leaky_relu", "swish", "gelu")
OUTPUTS = ("direct", "convolution")
SHORTCUTS = ("none", "projection")
SMALLEST = 8


class GANSpace(SearchSpace):
    """Generators and discriminators of images, as blocks that double or halve the image, or of points in a plane.

    The game between them is DCGAN's unless you open it: `gan:losses=[hinge, wgan_gp]`. While the game is open
    there is no supernet.

    Options:
        blocks: of each player; the generator begins with an image 2 to that power times smaller.
        layers: the largest number of convolutions of a block.
        widths: the numbers of channels that a block may have.
        units: the widths of fully connected layers, for points.
        kernels: the sizes of convolutions, odd ones.
        convolutions: of convolution, separable, grouped.
        ups: how the generator enlarges the image, of transposed (a convolution of 4×4), nearest, bilinear.
        downs: how the discriminator makes it smaller, of strided (a convolution of 4×4), average, max.
        generator_norms: of batch, instance, none; for points instance is left out.
        discriminator_norms: of batch, layer, instance, none; batch not with the loss wgan_gp, instance not for points.
        activations: of relu, leaky_relu (its slope is 0.2), swish, gelu.
        orders: of the generator's layers, post (normalisation and activation behind the convolution) or pre.
        outputs: how the generator ends: direct (its last block gives the image) or convolution (one behind it does).
        shortcuts: around a block, none or projection.
        games: of two_player, mad_gan (several generators, and the discriminator names the one), dropout_gan (several
            discriminators, of which a generator hears some).
        losses: of non_saturating, minimax, least_squares, hinge, wgan_gp. That of mad_gan is its own.
        regularisers: of the discriminator: none, spectral (normalisation of its weights), r1 (a penalty on its gradient
            at real examples; not with wgan_gp, which has its own).
        generators: how many, in mad_gan.
        discriminators, feedback_dropouts: how many, and how often one of them is not heard, in dropout_gan.
        conditionings: how the discriminator is told a label, where the task has labels: projection or concat.
        batch_norms: of the generator, where the task has labels: plain, or conditional (a scale and a shift for each
            class); decided only where the generator's norm is batch.
    """

    family = "GAN"

    def __init__(
        self,
        *,
        blocks: int = 2,
        layers: int = 2,
        widths: tuple[int, ...] = (16, 32, 64),
        units: tuple[int, ...] = (32, 64, 128),
        kernels: tuple[int, ...] = (3, 5),
        convolutions: tuple[str, ...] = CONVOLUTIONS,
        ups: tuple[str, ...] = UPS,
        downs: tuple[str, ...] = DOWNS,
        generator_norms: tuple[str, ...] = GENERATOR_NORMS,
        discriminator_norms: tuple[str, ...] = DISCRIMINATOR_NORMS,
        activations: tuple[str, ...] = ACTIVATIONS,
        orders: tuple[str, ...] = ("post", "pre"),
        outputs: tuple[str, ...] = OUTPUTS,
        shortcuts: tuple[str, ...] = SHORTCUTS,
        games: tuple[str, ...] = ("two_player",),
        losses: tuple[str, ...] = ("non_saturating",),
        regularisers: tuple[str, ...] = ("none",),
        generators: tuple[int, ...] = (2, 4, 8),
        discriminators: tuple[int, ...] = (2, 4),
        feedback_dropouts: tuple[float, ...] = (0.2, 0.5),
        conditionings: tuple[str, ...] = ("projection",),
        batch_norms: tuple[str, ...] = ("plain",),
    ) -> None:
        if not 1 <= blocks <= 6 or layers < 1:
            raise ConfigError(
                f"the space 'gan' has blocks = {blocks}, layers = {layers}; expected 1 to 6, and 1 or more"
            )
        self.blocks, self.layers = blocks, layers
        self.widths, self.units = _numbers("widths", widths, 1), _numbers("units", units, 1)
        self.kernels = _numbers("kernels", kernels, 1)
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise ConfigError(f"the space 'gan' has a kernel of {even[0]}; expected odd ones")
        self.convolutions = _names("convolutions", convolutions, CONVOLUTIONS)
        self.ups, self.downs = _names("ups", ups, UPS), _names("downs", downs, DOWNS)
        self.generator_norms = _names("generator_norms", generator_norms, GENERATOR_NORMS)
        self.discriminator_norms = _names("discriminator_norms", discriminator_norms, DISCRIMINATOR_NORMS)
        self.activations = _names("activations", activations, ACTIVATIONS)
        self.orders = _names("orders", orders, ("post", "pre"))
        self.outputs, self.shortcuts = _names("outputs", outputs, OUTPUTS), _names("shortcuts", shortcuts, SHORTCUTS)
        self.games, self.losses = _names("games", games, parts.GAMES), _names("losses", losses, parts.LOSSES)
        self.regularisers = _names("regularisers", regularisers, parts.REGULARISERS)
        self.generators = _numbers("generators", generators, 2)
        self.discriminators = _numbers("discriminators", discriminators, 2)
        self.feedback_dropouts = tuple(feedback_dropouts)
        if not feedback_dropouts or not all(0 <= rate < 1 for rate in feedback_dropouts):
            raise ConfigError(
                f"the space 'gan' has feedback_dropouts = {list(feedback_dropouts)}; expected rates from 0 to below 1"
            )
        self.conditionings = _names("conditionings", conditionings, parts.CONDITIONINGS)
        self.batch_norms = _names("batch_norms", batch_norms, parts.BATCH_NORMS)
        if not self.norms_of("discriminator"):
            raise ConfigError("the space 'gan' has the loss wgan_gp and no norm but batch, which that does not allow")

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """DCGAN at a small scale, for images, and fully connected players of two layers each, for points."""
        space = cls()
        image: dict[str, Any] = {
            "generator.stem.width": 64, "generator.norm": "batch", "generator.activation": "relu",
            "generator.block0.width": 32, "generator.block0.order": "post", "generator.block0.up": "transposed",
            "generator.block0.more": 0, "generator.block0.shortcut": "none", "generator.output": "direct",
            "generator.last.up": "transposed", "discriminator.activation": "leaky_relu",
            "discriminator.norm": "batch",
        }  # fmt: skip
        for index, width in enumerate((32, 64)):
            block = {"width": width, "down": "strided", "more": 0, "shortcut": "none"}
            image |= {f"discriminator.block{index}.{name}": pick for name, pick in block.items()}
        points: dict[str, Any] = {}
        for player, norm in (("generator", "batch"), ("discriminator", "none")):
            picks = {"units": 128, "depth": 2, "norm": norm, "activation": "relu"}
            points |= {f"{player}.{name}": pick for name, pick in picks.items()}
        return {
            name: Architecture("gan", space.recorded_settings(), picks)
            for name, picks in (("dcgan", image), ("mlp_gan", points))
        }

    def norms_of(self, player: str) -> tuple[str, ...]:
        """A critic's gradient is penalised example by example, which batch normalisation would undo (WGAN-GP)."""
        if player == "generator":
            return self.generator_norms
        only = self.losses == ("wgan_gp",) and self.games == ("two_player",)
        return tuple(norm for norm in self.discriminator_norms if norm != "batch" or not only)

    def check(self, task: Task) -> None:
        super().check(task)
        shape = tuple(task.input_shape)
        if len(shape) not in (1, 3) or (len(shape) == 3 and min(shape[1:]) < SMALLEST):
            raise SpaceError(
                f"the task {task.known_as!r} has examples of the shape {shape}; the space {self.known_as!r} is for "
                f"images of at least {SMALLEST}×{SMALLEST} pixels, and for points"
            )
        if self.batch_norms == ("conditional",) and not getattr(task, "labels", 0):
            raise SpaceError(
                f"the space {self.known_as!r} has batch_norms = conditional, and the task {task.known_as!r} has no "
                f"labels; take one that has, such as generation:conditional=true"
            )
        if "mad_gan" in self.games and getattr(task, "latents", 2) < 2:
            raise SpaceError(
                f"MAD-GAN needs two latents or more, and the task {task.known_as!r} has latents = 1: the first says "
                f"which generator makes an example"
            )

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return GANNetwork(self, choose, task).build()

    def violation(self, architecture: Architecture) -> float:
        """1 for a critic of WGAN-GP with batch normalisation: which norms are open may not depend on the loss."""
        picks = architecture.picks
        losses = self.losses if self.games == ("two_player",) else ()
        loss = picks.get("loss", losses[0] if len(losses) == 1 else None)
        norm = picks.get("discriminator.norm", self.discriminator_norms[0])
        return float(loss == "wgan_gp" and norm == "batch")

    def check_supernet(self, task: Task) -> None:
        self._check_game(task)
        super().check_supernet(task)

    def supernet(self, task: Task) -> Supernet:
        self._check_game(task)
        return super().supernet(task)

    def _check_game(self, task: Task) -> None:
        """Players learn from the game, so that what several games share would learn from none of them."""
        of_game = {"mad_gan": ["generators"], "dropout_gan": ["losses", "discriminators", "feedback_dropouts"]}
        open_ = ["games", "regularisers", *of_game.get(self.games[0], ["losses"])]
        open_ += ["conditionings"] if getattr(task, "labels", 0) else []
        several = [name for name in open_ if len(getattr(self, name)) > 1]
        if several:
            raise SpaceError(
                f"the space {self.known_as!r} has no supernet while the game is open ({', '.join(several)}); fix it, "
                f"as with losses=[hinge], or use a strategy that trains one candidate at a time"
            )
        if self.regularisers == ("spectral",) and len(self.widths) + len(self.kernels) > 2:
            raise SpaceError(
                f"the space {self.known_as!r} has no supernet with spectral normalisation and several widths or "
                f"kernels, whose weights would be normalised as one; fix these, or take regularisers=[r1]"
            )

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """Generator and discriminator as two parts, layer by layer."""
        return graph(self.at(architecture.options), architecture)

    def describe(self, architecture: Architecture) -> str:
        """A line for each player, and one for the game."""
        return describe(self.at(architecture.options), architecture)


def _numbers(name: str, values: Sequence[int], least: int) -> tuple[int, ...]:
    if not values or min(values) < least or len(set(values)) != len(values):
        raise ConfigError(
            f"the space 'gan' has {name} = {list(values)}; expected different numbers of at least {least}"
        )
    return tuple(values)


def _names(name: str, values: Sequence[str], allowed: Iterable[str]) -> tuple[str, ...]:
    known = list(allowed)
    if not values or len(set(values)) != len(values) or not set(values) <= set(known):
        raise ConfigError(f"the space 'gan' has {name} = {', '.join(values)}; expected different ones of {known}")
    return tuple(values)
