"""The parts of adversarial networks: the game, its players, and the layers that change an image's size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from nasengine import One, SpaceError, mask_channels

from .chain import Nothing

LOSSES = ("non_saturating", "minimax", "least_squares", "hinge", "wgan_gp")
GAMES = ("two_player", "mad_gan", "dropout_gan")
REGULARISERS = ("none", "spectral", "r1")
CONDITIONINGS = ("projection", "concat")
BATCH_NORMS = ("plain", "conditional")


class Game(nn.Module):
    """What the players play for; it has no weights. The task reads its attributes, and computes the losses.

    loss: of `LOSSES`. regulariser: of the discriminator, `none`, `spectral` (its weights are normalised) or `r1`.
    generators, discriminators: how many there are. With several generators the discriminator has one score more than
    there are of them (MAD-GAN); with several discriminators it has a score for each, and a generator hears each of them
    with probability 1 − feedback_dropout, at least one (Dropout-GAN).
    """

    def __init__(
        self,
        loss: str,
        regulariser: str = "none",
        generators: int = 1,
        discriminators: int = 1,
        feedback_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.loss, self.regulariser = loss, regulariser
        self.generators, self.discriminators = generators, discriminators
        self.feedback_dropout = feedback_dropout


class Adversaries(nn.Module):
    """A generator and a discriminator. Called with latents it gives what the generator makes of them."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, game: Game) -> None:
        super().__init__()
        self.generator, self.discriminator, self.game = generator, discriminator, game

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents)  # type: ignore[no-any-return]


class Generators(nn.Module):
    """Several generators; the first latent, a standard normal number, says which of them makes an example.

    No generator is given that latent: of what it is made for it would see a part of all values only. Ghosh, Kulharia,
    Namboodiri, Torr, Dokania 2018, "Multi-Agent Diverse Generative Adversarial Networks", CVPR; here they share no
    weights.
    """

    bounds: Tensor

    def __init__(self, generators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(generators)
        count = len(generators)
        quantiles = [NormalDist().inv_cdf(index / count) for index in range(1, count)]
        self.register_buffer("bounds", torch.tensor(quantiles), persistent=False)

    def origins(self, latents: Tensor) -> Tensor:
        """The number of each example's generator, shape (N,)."""
        return (latents[:, :1] > self.bounds).sum(1)

    def each(self, latents: Tensor) -> Tensor:
        """What every generator makes of all the latents, one generator after the other: (generators × N, …)."""
        return torch.cat([member(latents[:, 1:]) for member in self.members])

    def forward(self, latents: Tensor) -> Tensor:
        origins, rest = self.origins(latents), latents[:, 1:]
        total: Tensor | None = None
        for index, member in enumerate(self.members):
            made = (member(rest).transpose(0, -1) * (origins == index)).transpose(0, -1)
            total = made if total is None else total + made
        return total  # type: ignore[return-value]


class Discriminators(nn.Module):
    """Several discriminators of one score each: (N, how many)."""

    def __init__(self, discriminators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(discriminators)

    def forward(self, examples: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.cat([member(examples, labels) for member in self.members], dim=1)


class Discriminator(nn.Module):
    """Layers that give a vector, and the scores, (N, scores), that are read off it.

    labels: one-hot, (N, classes), where it is conditional: joined to the input as constant channels (`concat`; Mirza,
    Osindero 2014), or multiplied with the vector (`projection`; Miyato, Koyama 2018, equation 4).
    """

    def __init__(self, layers: nn.Module, features: int, scores: int, labels: int, conditioning: str) -> None:
        super().__init__()
        self.layers, self.head = layers, nn.Linear(features, scores)
        self.conditioning = conditioning if labels else "none"
        self.projection = nn.Linear(labels, features, bias=False) if self.conditioning == "projection" else None

    def forward(self, examples: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.conditioning == "concat" and labels is not None:
            maps = labels.to(examples.dtype).reshape([*labels.shape, *[1] * (examples.dim() - 2)])
            examples = torch.cat([examples, maps.expand(-1, -1, *examples.shape[2:])], dim=1)
        features = self.layers(examples)
        scores: Tensor = self.head(features)
        if self.projection is not None and labels is not None:
            scores = scores + (self.projection(labels.to(features.dtype)) * features).sum(1, keepdim=True)
        return scores


class Cell(nn.Module):
    """Layers that change the image's size, more that do not, and a shortcut around all of them."""

    def __init__(self, first: nn.Module, more: nn.Module, shortcut: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.more, self.mask = first, more, mask_channels(width)
        self.shortcut = None if _is_nothing(shortcut) else shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.more(self.first(x))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.mask(y)  # type: ignore[no-any-return]


def _is_nothing(module: nn.Module) -> bool:
    options = list(module.children()) if isinstance(module, One) else [module]
    return all(isinstance(option, Nothing) for option in options)


class Crop(nn.Module):
    """The upper left of an image, height × width."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : self.height, : self.width]


_told: ContextVar[Tensor | None] = ContextVar("the one-hot labels of what is being made", default=None)


class Told(nn.Sequential):
    """A generator's layers. While they make something, its labels, the last of the latents, are there to be read by
    conditional normalisations, however deep these lie."""

    def __init__(self, layers: OrderedDict[str, nn.Module], labels: int) -> None:
        super().__init__(layers)
        self.labels = labels

    def forward(self, latents: Tensor) -> Tensor:
        token = _told.set(latents[:, -self.labels :] if self.labels else None)
        try:
            return super().forward(latents)  # type: ignore[no-any-return, no-untyped-call]
        finally:
            _told.reset(token)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a scale and a shift for each class: (N, channels, …) → the same.

    de Vries, Strub, Mary, Larochelle, Pietquin, Courville 2017, "Modulating early visual processing by language",
    NeurIPS, section 2.2; in the generator as Miyato, Koyama 2018, "cGANs with Projection Discriminator", ICLR.
    """

    def __init__(self, channels: int, labels: int, vectors: bool) -> None:
        super().__init__()
        self.vectors = vectors
        self.norm = (nn.BatchNorm1d if vectors else nn.BatchNorm2d)(channels, affine=False)
        self.scale, self.shift = (nn.Linear(labels, channels, bias=False) for _ in range(2))
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor) -> Tensor:
        labels = _told.get()
        if labels is None:
            raise SpaceError("a conditional normalisation stands where no generator is told labels")
        scale, shift = self.scale(labels), self.shift(labels)
        if not self.vectors:
            scale, shift = scale[:, :, None, None], shift[:, :, None, None]
        return self.norm(x) * scale + shift  # type: ignore[no-any-return]


Size = tuple[int, int]


def transposed(before: int, width: int, size: Size, larger: Size) -> nn.Module:
    """DCGAN's: a transposed 4×4 convolution of stride 2."""
    layer = nn.ConvTranspose2d(before, width, 4, 2, 1, bias=False)
    return layer if larger == (2 * size[0], 2 * size[1]) else nn.Sequential(layer, Crop(*larger))


def strided(before: int, width: int, size: Size) -> nn.Module:
    """DCGAN's: a 4×4 convolution of stride 2; odd sides are rounded up."""
    layer = nn.Conv2d(before, width, 4, 2, 1, bias=False)
    odd = (size[0] % 2, size[1] % 2)
    return nn.Sequential(nn.ZeroPad2d((0, odd[1], 0, odd[0])), layer) if any(odd) else layer


def enlarged(mode: str, larger: Size) -> nn.Module:
    """`nearest` or `bilinear`."""
    return nn.Upsample(size=larger, mode=mode, **({} if mode == "nearest" else {"align_corners": False}))


class Spectral(nn.Module):
    """A weight divided by its largest singular value, by one step of a power iteration each time it learns (Miyato,
    Kataoka, Koyama, Yoshida 2018, "Spectral Normalization for Generative Adversarial Networks", ICLR, algorithm 1).
    Not torch's, whose fifteen steps at the beginning take longer than building the network."""

    u: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("u", torch.randn(rows))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.no_grad():
            u = self.u
            v = functional.normalize(matrix.T @ u, dim=0)
            if self.training:
                u = functional.normalize(matrix @ v, dim=0)
                self.u.copy_(u)
            else:
                u = functional.normalize(u, dim=0)
        return weight / torch.dot(u, matrix @ v)


def normalised_spectrally(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            register_parametrization(layer, "weight", Spectral(layer.weight.shape[0]), unsafe=True)
    return module


def halved(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2
