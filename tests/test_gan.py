"""The space of adversarial networks, the task of generation, and what their players lose."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Fidelity,
    SearchSpace,
    SpaceError,
    Task,
    TrainingDiverged,
    inherit,
)
from nasengine.evaluators.tasks.adversarial import LOSSES, Players
from nasengine.evaluators.tasks.features import feature_network
from nasengine.evaluators.tasks.generation import Generation
from nasengine.search_spaces.gan import GANSpace
from nasengine.search_spaces.operations.gan import ConditionalBatchNorm, Told
from nasengine.standalone import standalone_source
from nasengine.testing import SpaceContract, TaskContract

CPU = torch.device("cpu")
SMALL: Mapping[str, Any] = {"layers": 2, "widths": (4, 8), "kernels": (3, 5), "units": (8, 16)}
OPEN: Mapping[str, Any] = {
    "games": ("two_player", "mad_gan", "dropout_gan"),
    "losses": ("non_saturating", "minimax", "least_squares", "hinge", "wgan_gp"),
    "regularisers": ("none", "spectral", "r1"),
}


def space(**options: Any) -> GANSpace:
    made = GANSpace(**{**SMALL, **options})
    made.known_as = "gan"
    return made


class Judge(nn.Linear):
    def forward(self, examples: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(examples)


class Plain(nn.Module):
    """Two players of one layer each, for points."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(latents, 2), Judge(2, 1)

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents)


class TestGANSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return GANSpace(**SMALL)

    def task(self) -> Task:
        return Generation()


class TestGANSpaceOfPoints(SpaceContract):
    def make(self) -> SearchSpace:
        return space()

    def task(self) -> Task:
        return Generation(data="ring")


class TestConditionalMADGAN(SpaceContract):
    def make(self) -> SearchSpace:
        return space(games=("mad_gan",), generators=(3,), layers=1, conditionings=("concat",))

    def task(self) -> Task:
        return Generation(conditional=True)


class TestConditionalBatchNorms(SpaceContract):
    """Of images, beside plain ones and other kinds of normalisation, in a supernet as well."""

    def make(self) -> SearchSpace:
        return space(batch_norms=("plain", "conditional"), layers=1)

    def task(self) -> Task:
        return Generation(conditional=True)


class TestConditionalBatchNormsOfPoints(SpaceContract):
    def make(self) -> SearchSpace:
        return space(batch_norms=("conditional",), generator_norms=("batch",))

    def task(self) -> Task:
        return Generation(data="ring", conditional=True)


class TestOpenGame(SpaceContract):
    """Without a supernet."""

    def make(self) -> SearchSpace:
        return space(layers=1, **OPEN)

    def task(self) -> Task:
        return Generation(data="grid")


class Generates(TaskContract):
    """An example is what a model is called with: latents, not an image."""

    def test_shapes_are_as_said(self) -> None:
        task: Any = self.ready()
        examples, latents = next(task.train_batches(4, torch.Generator().manual_seed(0)))
        assert examples.shape == (4, *task.input_shape)
        assert latents.shape == (4, task.latents + task.labels)
        assert task.example().shape == (2, task.latents + task.labels)
        assert task.description()["input_shape"] == [task.latents + task.labels]

    def model(self, task: Any) -> nn.Module:
        return space().model(space().domain(task).complete({}), task)


class TestGenerationOfDigits(Generates):
    def make(self) -> Task:
        return Generation(samples=100)


class TestConditionalGeneration(Generates):
    def make(self) -> Task:
        return Generation(samples=100, conditional=True)


class TestGenerationOfPoints(Generates):
    def make(self) -> Task:
        return Generation(data="ring", samples=200)


def sampled(task: Task, seed: int = 0, **options: Any) -> nn.Module:
    made = space(**options)
    return made.model(made.domain(task).sample(np.random.default_rng(seed)), task)


def batch_of(task: Task, size: int = 16) -> tuple[Tensor, Tensor]:
    return next(iter(task.train_batches(size, torch.Generator().manual_seed(1))))


GAMES: list[dict[str, Any]] = [
    *({"losses": (loss,)} for loss in LOSSES),
    {"regularisers": ("r1",)},
    {"regularisers": ("spectral",)},
    {"games": ("mad_gan",), "generators": (2,)},
    {"games": ("dropout_gan",), "discriminators": (3,), "feedback_dropouts": (0.5,)},
]


@pytest.mark.parametrize("game", GAMES, ids=lambda game: "-".join(str(value[0]) for value in game.values()))
def test_each_players_gradient_of_the_joint_loss_is_that_of_its_own_loss(game: dict[str, Any]) -> None:
    """Against two backward passes: of the discriminator's loss, and of the generator's."""
    task = Generation(data="ring")
    model: Any = sampled(task, **game)
    real, latents = batch_of(task)
    other = copy.deepcopy(model)
    torch.manual_seed(0)
    task.loss(model, (real, latents)).backward()

    players = Players(other)
    torch.manual_seed(0)
    made, _ = players.make(latents, None)
    judged = players.discriminator(made, None)
    of_critic = players.discriminator_loss(players.discriminator(real, None), judged)
    of_painter = players.generator_loss(judged)
    of_critic = of_critic + players.penalty(real, made, None)
    critics, painters = list(players.discriminator.parameters()), list(players.generator.parameters())
    wanted = torch.autograd.grad(of_critic, critics, retain_graph=True, allow_unused=True)
    wanted += torch.autograd.grad(of_painter, painters, allow_unused=True)
    found = [weight.grad for part in (Players(model).discriminator, model.generator) for weight in part.parameters()]
    assert len(found) == len(wanted) > 4
    for one, two in zip(found, wanted, strict=True):
        assert torch.allclose(
            torch.zeros(()) if one is None else one, torch.zeros(()) if two is None else two, atol=1e-6
        )
    assert sum(float(one.abs().sum()) for one in found if one is not None) > 0


@pytest.mark.parametrize("data", ["ring", "digits"])
def test_the_gates_of_each_player_learn_from_its_own_loss(data: Any) -> None:
    """Against the differences of each loss when a gate's weight is changed a little, in double precision."""
    task: Any = Generation(data=data)
    net = space(layers=1, widths=(4,), kernels=(3,), units=(8, 16)).supernet(task).double()
    real, latents = (part.double() for part in batch_of(task, 8))
    players = Players(net)

    def losses() -> tuple[Tensor, Tensor]:
        made = net(latents)
        judged = players.discriminator(made, None)
        critic = players.discriminator_loss(players.discriminator(real, None), judged)
        return critic, players.generator_loss(judged)

    checked = 0
    for name, gate in net.gates.items():
        player = name.partition(".")[0]
        if not name.endswith((".activation", ".units", ".output", ".up", "block0.down", ".depth")):
            continue
        count = len(gate.decision.options)
        weights = torch.full((count,), 1 / count, dtype=torch.float64, requires_grad=True)
        gate.set(weights)
        (gradient,) = torch.autograd.grad(task.loss(net, (real, latents)), weights)
        numbers = []
        for sign in (1, -1):
            moved = weights.detach().clone()
            moved[0] += sign * 1e-5
            gate.set(moved)
            with torch.no_grad():
                numbers.append(losses()[player == "generator"])
        gate.open()
        assert float(gradient[0]) == pytest.approx(float(numbers[0] - numbers[1]) / 2e-5, rel=2e-3, abs=1e-7), name
        checked += player == "generator" or player == "discriminator"
    assert checked >= 4


def test_the_losses_are_those_of_their_papers() -> None:
    real, made = torch.tensor([0.5]), torch.tensor([-2.0])
    sigmoid = torch.sigmoid
    entropy = -torch.log(sigmoid(real)) - torch.log(1 - sigmoid(made))
    wanted = {
        "minimax": (entropy, torch.log(1 - sigmoid(made))),
        "non_saturating": (entropy, -torch.log(sigmoid(made))),
        "least_squares": (0.5 * (real - 1) ** 2 + 0.5 * made**2, 0.5 * (made - 1) ** 2),
        "hinge": (torch.tensor([0.5]), torch.tensor([2.0])),
        "wgan_gp": (made - real, -made),
    }
    for name, (critic, painter) in wanted.items():
        assert torch.allclose(LOSSES[name].discriminator(real, made), critic), name
        assert torch.allclose(LOSSES[name].generator(made), painter), name


@pytest.mark.parametrize(("loss", "regulariser"), [("wgan_gp", "none"), ("hinge", "r1"), ("hinge", "none")])
def test_the_penalties_of_a_linear_critic_are_known(loss: str, regulariser: str) -> None:
    """Its gradient is its weight everywhere: λ(‖w‖ − 1)², and γ/2 ‖w‖²."""
    model = Plain(3)
    model.game = SimpleNamespace(loss=loss, regulariser=regulariser)  # type: ignore[assignment]
    norm = float(model.discriminator.weight.detach().norm())
    wanted = {"wgan_gp": 10 * (norm - 1) ** 2, "r1": 10 / 2 * norm**2, "none": 0.0}
    found = Players(model).penalty(torch.randn(5, 2), torch.randn(5, 2), None)
    assert float(found.detach()) == pytest.approx(wanted[regulariser if loss == "hinge" else loss], abs=1e-5)


def test_a_generator_hears_at_least_one_discriminator_and_on_average_as_many_as_asked() -> None:
    task = Generation(data="ring")
    game: dict[str, Any] = {"games": ("dropout_gan",), "discriminators": (4,), "feedback_dropouts": (0.9,)}
    players = Players(sampled(task, **game))
    scores = torch.tensor([[1.0, 10.0, 100.0, 1000.0]]).requires_grad_()
    heard = []
    for _ in range(200):
        (gradient,) = torch.autograd.grad(players.generator_loss(-scores), scores)
        heard.append(int((gradient > 0).sum()))
    assert min(heard) == 1
    assert np.mean(heard) == pytest.approx(4 * 0.1 + 0.9**4, abs=0.15)
    players.discriminator.eval()
    (gradient,) = torch.autograd.grad(players.generator_loss(-scores), scores)
    assert (gradient > 0).all()


def test_the_first_latent_says_which_generator_of_mad_gan_and_each_makes_its_share() -> None:
    task = Generation(data="ring")
    model: Any = sampled(task, games=("mad_gan",), generators=(4,)).eval()
    latents = torch.randn(4000, task.latents, generator=torch.Generator().manual_seed(0))
    origins = model.generator.origins(latents)
    assert (torch.bincount(origins) > 900).all()
    with torch.no_grad():
        made = model(latents)
        for index, member in enumerate(model.generator.members):
            assert torch.allclose(made[origins == index], member(latents[origins == index, 1:]))
            # of all latents but the first each generator has all values, so that it learns to make what it is asked for
            assert latents[origins == index, 1:].mean(0).abs().max() < 0.15
            assert (latents[origins == index, 1:].std(0) - 1).abs().max() < 0.15


def test_each_generator_of_mad_gan_learns_from_a_whole_batch_and_is_named_by_the_discriminator() -> None:
    task: Any = Generation(conditional=True)
    model: Any = sampled(task, games=("mad_gan",), generators=(3,))
    _, latents = batch_of(task, 5)
    labels = task.told(latents)
    made, labels_of_made = Players(model).make(latents, labels)
    assert made.shape == (15, 1, 8, 8)
    assert torch.equal(labels_of_made, torch.cat([labels] * 3))
    for index, member in enumerate(model.generator.members):
        assert torch.allclose(made[5 * index : 5 * index + 5], member(latents[:, 1:]), atol=1e-5)

    players, named, real = Players(model), torch.zeros(6, 4), torch.zeros(2, 4)
    named[torch.arange(6), torch.tensor([0, 0, 1, 1, 2, 2])] = 50.0  # the discriminator is sure of every generator
    real[:, 3] = 50.0
    assert float(players.discriminator_loss(real, named)) == pytest.approx(0, abs=1e-6)
    assert float(players.discriminator_loss(real, named.roll(2, 0))) == pytest.approx(50, abs=1e-3)
    assert float(players.generator_loss(real.repeat(3, 1))) == pytest.approx(0, abs=1e-6)
    assert float(players.generator_loss(named)) == pytest.approx(3 * 50, abs=1e-3)  # the sum over the generators


def test_several_generators_need_a_latent_more_than_the_one_that_tells_them_apart() -> None:
    with pytest.raises(SpaceError, match=r"MAD-GAN needs two latents or more, and the task .* has latents = 1"):
        space(games=("two_player", "mad_gan")).check(Generation(data="ring", latents=1))


def test_a_spectrally_normalised_weight_has_the_largest_singular_value_one() -> None:
    model: Any = sampled(Generation(data="ring"), regularisers=("spectral",))
    for _ in range(200):
        model.discriminator(torch.randn(4, 2))
    layers = [module for module in model.discriminator.modules() if isinstance(module, nn.Linear)]
    assert len(layers) >= 2
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=1e-3)
    assert not any("parametrizations" in name for name, _ in model.generator.named_parameters())


def test_dcgan_is_built_as_its_paper_says() -> None:
    found: Any = nasengine.build("dcgan", (1, 28, 28), 1)
    convolutions = [m for m in found.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (64, 32, (4, 4), (2, 2)), (32, 1, (4, 4), (2, 2)),
    ]  # fmt: skip
    critics = [m for m in found.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride) for m in critics] == [(1, 32, (2, 2)), (32, 64, (2, 2))]
    norms = [
        sum(isinstance(m, nn.BatchNorm2d) for m in part.modules()) for part in (found.generator, found.discriminator)
    ]
    assert norms == [2, 1]  # none at the generator's output, none at the discriminator's input
    generator = 32 * 64 * 49 + 2 * 64 + 64 * 32 * 16 + 2 * 32 + 32 * 16
    discriminator = 32 * 16 + 32 + 32 * 64 * 16 + 2 * 64 + 64 * 49 + 1
    assert sum(weight.numel() for weight in found.parameters()) == generator + discriminator < 200_000
    assert found(torch.randn(3, 32)).shape == (3, 1, 28, 28)
    assert found(torch.randn(3, 32)).abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (3, 32, 32), (2,)])
def test_networks_give_examples_of_any_shape_and_score_them(shape: tuple[int, ...]) -> None:
    task, made = nasengine.Shapes(shape, 1), space(**OPEN)
    domain, rng = made.domain(task), np.random.default_rng(0)
    for _ in range(12):
        model: Any = made.model(domain.sample(rng), task)
        examples = model(torch.randn(3, 32))
        assert examples.shape == (3, *shape)
        scores = model.discriminator(examples)
        game = model.game
        assert scores.shape == (3, game.discriminators if game.generators == 1 else game.generators + 1)


def test_a_discriminator_equals_the_supernets() -> None:
    task, made = Generation(), space()
    domain, rng, net = made.domain(Generation()), np.random.default_rng(0), made.supernet(Generation())
    images = batch_of(task)[0]
    for _ in range(8):
        architecture = domain.sample(rng)
        model: Any = made.model(architecture, task)
        net.pick(architecture)
        inherit(model, net)
        with torch.no_grad():
            one, two = model.eval().discriminator(images), net.eval().module.discriminator(images)
        assert torch.allclose(one, two, atol=1e-5)


def test_layers_of_points_without_normalisation_begin_as_torchs_linear_layers() -> None:
    made = GANSpace(units=(128,), activations=("relu",), generator_norms=("none",), discriminator_norms=("none",))
    two = Architecture("gan", {}, {"generator.depth": 2, "discriminator.depth": 2})
    model = made.model(two, Generation(data="ring"))
    for player, inputs in ((model.generator, (32, 128)), (model.discriminator, (2, 128))):
        for layer, before in zip(player.layers.children(), inputs, strict=True):
            for numbers in (layer.linear.weight, layer.norm.bias):  # uniform in ±1/√before
                assert 0.9 < numbers.abs().max() * before**0.5 <= 1
                assert 0.8 < numbers.std() * (3 * before) ** 0.5 < 1.2


def test_a_critic_of_wgan_gp_has_no_batch_normalisation() -> None:
    task, made = nasengine.Shapes((1, 8, 8), 1), space(losses=("hinge", "wgan_gp"))
    domain, rng = made.domain(task), np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        picks = domain.sample(rng).picks
        seen.add((picks["loss"], picks["discriminator.norm"]))
    assert ("wgan_gp", "batch") not in seen
    assert {("hinge", "batch"), ("wgan_gp", "layer"), ("wgan_gp", "none")} <= seen
    only = space(losses=("wgan_gp",)).domain(task).decisions["discriminator.norm"]
    assert only.options == ("layer", "instance", "none")


def test_what_belongs_to_a_game_is_chosen_in_that_game_alone() -> None:
    made = space(**OPEN, conditionings=("projection", "concat"))
    task = nasengine.Shapes((1, 8, 8), 1)
    domain, rng = made.domain(task), np.random.default_rng(0)
    assert "conditioning" not in domain.decisions  # without labels
    assert "conditioning" in made.domain(Generation(conditional=True)).decisions
    for _ in range(40):
        picks = domain.sample(rng).picks
        game = picks["game"]
        assert ("generators" in picks) == (game == "mad_gan")
        assert ("discriminators" in picks) == ("feedback_dropout" in picks) == (game == "dropout_gan")
        assert ("loss" in picks) == (game == "two_player")
        if picks.get("loss") == "wgan_gp":
            assert picks["regulariser_of_wgan_gp"] in ("none", "spectral")


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_a_conditional_discriminator_looks_at_the_label(conditioning: str) -> None:
    task: Any = Generation(conditional=True)
    model: Any = sampled(task, conditionings=(conditioning,)).eval()
    images, latents = batch_of(task)
    labels = task.told(latents)
    assert labels.shape == (16, 10)
    assert (labels.sum(1) == 1).all()
    with torch.no_grad():
        right, wrong = (model.discriminator(images, given) for given in (labels, labels.roll(1, 1)))
        others = torch.cat([latents[:, : task.latents], labels.roll(1, 1)], 1)
        assert (model(latents) - model(others)).abs().max() > 1e-4
    assert (right - wrong).abs().max() > 1e-4


@pytest.mark.parametrize("data", ["digits", "ring"])
def test_a_conditional_batch_normalisation_has_a_scale_and_a_shift_for_each_class(data: Any) -> None:
    task: Any = Generation(data=data, conditional=True)
    made = space(batch_norms=("conditional",), generator_norms=("batch",))
    architecture = made.domain(task).sample(np.random.default_rng(0))
    assert "conditional batch norm" in made.describe(architecture)
    model: Any = made.model(architecture, task)
    norms = [module for module in model.generator.modules() if isinstance(module, ConditionalBatchNorm)]
    assert norms
    assert not any(isinstance(module, ConditionalBatchNorm) for module in model.discriminator.modules())
    channels, labels = norms[0].scale.weight.shape[0], nn.functional.one_hot(torch.tensor([2, 5, 2]), task.labels)
    shape = (3, channels) if data == "ring" else (3, channels, 2, 2)
    x = torch.randn(shape)
    with torch.no_grad():
        nn.init.normal_(norms[0].scale.weight)
        nn.init.normal_(norms[0].shift.weight)
        wanted = nn.functional.batch_norm(x, None, None, training=True)
        for index, label in enumerate((2, 5, 2)):
            of_class = [
                part.weight[:, label].reshape(-1, *[1] * (len(shape) - 2)) for part in (norms[0].scale, norms[0].shift)
            ]
            wanted[index] = wanted[index] * of_class[0] + of_class[1]
        found = Told(OrderedDict(given=Given(x), norm=norms[0]), task.labels)(labels.float())
    assert torch.allclose(found, wanted, atol=1e-5)
    with pytest.raises(SpaceError, match="where no generator is told labels"):
        norms[0](x)


class Given(nn.Module):
    """The same, whatever it is called with."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.value


def test_conditional_batch_normalisation_is_chosen_where_the_norm_is_batch_and_the_task_has_labels() -> None:
    made = space(batch_norms=("plain", "conditional"))
    assert "generator.batch_norm" not in made.domain(Generation()).decisions
    domain, rng, seen = made.domain(Generation(conditional=True)), np.random.default_rng(0), set()
    for _ in range(30):
        picks = domain.sample(rng).picks
        assert ("generator.batch_norm" in picks) == (picks["generator.norm"] == "batch")
        seen.add(picks.get("generator.batch_norm"))
    assert seen == {"plain", "conditional", None}
    with pytest.raises(SpaceError, match="has no labels; take one that has, such as generation:conditional=true"):
        space(batch_norms=("conditional",)).check(Generation())


def test_the_graph_shows_both_players() -> None:
    made = space(**OPEN)
    for shape in ((1, 8, 8), (2,)):
        task = nasengine.Shapes(shape, 1)
        for seed in range(6):
            architecture = made.domain(task).sample(np.random.default_rng(seed))
            parts = {data["part"].partition(":")[0] for _, data in made.graph(architecture).nodes(data=True)}
            assert parts == {"generator", "discriminator"}
            assert [line.partition(" ")[0].rstrip(":") for line in made.describe(architecture).splitlines()] == [
                "generator", "discriminator", "game",
            ]  # fmt: skip


def fitted(task: Any, model: nn.Module, epochs: int, context: Context, **changes: Any) -> list[Mapping[str, float]]:
    return list(task.fit(model, Fidelity(epochs=epochs), context, replace(task.recipe, **changes)))


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been() -> None:
    task, made = Generation(data="ring", steps=4, samples=50), space()
    architecture = made.domain(task).sample(np.random.default_rng(0))
    context = Context(made, task, CPU, 0)
    curve, model = [], context.model(architecture)
    for epoch, metrics in enumerate(task.fit(model, Fidelity(epochs=3), context)):
        curve.append(metrics)
        if epoch == 0:
            checkpoint = copy.deepcopy(context.state())
    again = Context(made, task, CPU, 0, checkpoint=checkpoint)
    assert fitted(task, again.model(architecture), 3, again) == curve[1:]


def test_an_epoch_has_as_many_steps_as_asked_and_a_critic_takes_five_for_one(monkeypatch: Any) -> None:
    task = Generation(data="ring", steps=10, samples=50)
    steps: list[tuple[float, tuple[float, float]]] = []
    step = torch.optim.Adam.step

    def counted(self: torch.optim.Adam, *rest: Any) -> Any:
        steps.append((self.param_groups[0]["lr"], self.param_groups[0]["betas"]))
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    for loss, wanted in (("hinge", 32), ("wgan_gp", 16 + 16 // 5)):  # one pass through the data are 16 batches
        steps.clear()
        made = space(losses=(loss,))
        context = Context(made, task, CPU, 0)
        fitted(task, sampled(task, losses=(loss,)), 1, context)
        assert len(steps) == wanted
        assert set(steps) == {(1e-3, (0.5, 0.999)) if loss == "hinge" else (5e-4, (0.0, 0.9))}


def test_a_training_that_diverges_says_so() -> None:
    task, made = Generation(data="ring", steps=4, samples=50), space()
    model = sampled(task)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="the players' loss is nan in epoch 1"):
        fitted(task, model, 1, Context(made, task, CPU, 0))
    with pytest.raises(TrainingDiverged, match="not finite"):
        task.metrics(model, "valid")


def test_what_a_gan_cannot_be_trained_with_is_refused() -> None:
    task, made = Generation(data="ring"), space()
    for changes in ({"optimizer": "sgd"}, {"compile": True}, {"augment": "crop"}):
        with pytest.raises(ConfigError, match=f"the recipe has {next(iter(changes))}"):
            fitted(task, sampled(task), 1, Context(made, task, CPU, 0), **changes)
    with pytest.raises(
        ConfigError, match="has no module generator and no discriminator; take a space of the family GAN"
    ):
        task.loss(nn.Linear(2, 2), batch_of(task))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": "moons"}, "expected digits, ring or grid"),
        ({"latents": 0}, "latents = 0; expected 1 or more"),
        ({"data": "ring", "deviation": 0.0}, "deviation = 0.0; expected a positive number"),
        ({"deviation": 0.1}, "deviation = 0.1; expected a positive number, and only with data=ring or data=grid"),
        ({"samples": 3}, "samples = 3; expected 10 or more"),
    ],
)
def test_wrong_options_of_the_task_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Generation(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": 0}, "blocks = 0"),
        ({"kernels": (3, 4)}, "a kernel of 4; expected odd ones"),
        ({"losses": ("wasserstein",)}, "losses = wasserstein; expected different ones"),
        ({"generators": (1,)}, r"generators = \[1\]; expected different numbers of at least 2"),
        ({"feedback_dropouts": (1.0,)}, "expected rates from 0 to below 1"),
        ({"losses": ("wgan_gp",), "discriminator_norms": ("batch",)}, "no norm but batch"),
    ],
)
def test_wrong_options_of_the_space_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GANSpace(**options)


def test_points_are_as_far_from_their_gaussian_as_asked() -> None:
    for data, usual in (("ring", 0.01), ("grid", 0.0125)):
        for deviation in (None, 0.05):
            task = Generation(data=data, deviation=deviation)
            points, numbers = task.splits.train.pixels, task.splits.train.labels
            means = np.stack([points[numbers == number].mean(0) for number in range(numbers.max() + 1)])
            assert (points - means[numbers]).std() == pytest.approx(deviation or usual, rel=0.05)
            near = task.judged(torch.from_numpy(task.splits.test.pixels), "test")["near"]
            assert near == pytest.approx(1 - np.exp(-4.5), abs=0.015)


def test_most_networks_of_the_space_are_small() -> None:
    for shape in ((1, 8, 8), (3, 32, 32), (2,)):
        task, made = nasengine.Shapes(shape, 1), GANSpace()
        domain, rng = made.domain(task), np.random.default_rng(0)
        with torch.device("meta"):
            models = [made.model(domain.sample(rng), task) for _ in range(25)]
        assert np.mean([sum(weight.numel() for weight in model.parameters()) <= 200_000 for model in models]) > 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"batch_norms": ("conditional",), "generator_norms": ("batch",)},
        {"generator_norms": ("none",)},
        {"games": ("mad_gan",), "generators": (3,)},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("data", ["digits", "ring"])
def test_a_generator_can_be_written_as_one_file(data: Any, options: dict[str, Any]) -> None:
    task: Any = Generation(data=data, conditional=True)
    standalone_source(sampled(task, **options), task.example(), task.description())  # it is run, and compared


def test_an_open_game_has_no_supernet_and_says_why() -> None:
    task = Generation(data="ring")
    with pytest.raises(SpaceError, match=r"no supernet while the game is open \(losses\); fix it"):
        space(losses=("hinge", "minimax")).check_supernet(task)
    with pytest.raises(SpaceError, match="no supernet with spectral normalisation and several widths"):
        space(regularisers=("spectral",)).supernet(Generation())
    space(losses=("hinge",), regularisers=("r1",)).check_supernet(task)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(SpaceError, match="for images of at least 8×8 pixels, and for points"):
        space().check(nasengine.Shapes((1, 4, 4), 2))
    with pytest.raises(SpaceError, match=r"of the family GAN, and the task .* of the family CNN"):
        space().check(nasengine.registry.make("task", "digits", {}))


def test_own_images_are_generated_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 9, 11, 3), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=pixels, y=np.arange(60) % 3)
    task = Generation(path=str(tmp_path / "mine.npz"), samples=10, conditional=True)
    assert task.input_shape == (3, 9, 11)
    assert task.labels == 3
    images, _ = batch_of(task)
    assert float(images.min()) >= -1
    assert float(images.max()) <= 1
    assert task.description()["range"] == [0.0, 255.0]
    assert sampled(task)(task.example()).shape == (2, 3, 9, 11)


def test_the_classifier_of_the_features_is_kept_and_its_making_leaves_chance_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("nasengine.evaluators.tasks.features.STEPS", (3, 3))
    images, labels = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    before = torch.get_rng_state()
    first = feature_network(images, labels, 2)
    assert torch.equal(torch.get_rng_state(), before)
    (file,) = (tmp_path / "nasengine" / "features").glob("*.safetensors")
    written = file.stat().st_mtime_ns
    second = feature_network(images, labels, 2)
    assert file.stat().st_mtime_ns == written
    assert torch.equal(first.features(images), second.features(images))
    assert float(first.features(images).square().mean()) == pytest.approx(1, abs=1e-4)
    file.write_bytes(b"damaged")
    assert torch.equal(feature_network(images, labels, 2)(images), first(images))
    feature_network(images + 1, labels, 2)
    assert len(list(file.parent.iterdir())) == 2


def test_the_features_are_those_of_a_classifier_that_is_right_98_times_in_100() -> None:
    task = Generation()
    assert task.accuracy >= 0.98
    assert f"gets {task.accuracy:.1%} of the validation images" in task.found


def test_pictures_are_a_sheet_of_images_and_a_scatter_of_points() -> None:
    for data, wanted in (("digits", (6 * 52 + 4, 10 * 52 + 4)), ("ring", (450, 450, 3))):
        task: Any = Generation(data=data)
        pictures = task.pictures(sampled(task))
        assert pictures["samples"].shape == wanted
        assert pictures["samples"].dtype == np.uint8
        assert len(np.unique(pictures["samples"])) > 2


def reference_picks() -> Architecture:
    return nasengine.reference("mlp_gan")


def test_a_network_is_shown_for_a_task_of_its_family(nas: Any) -> None:
    code, shown, _ = nas("show", "dcgan", "--task", "generation")
    assert code == 0
    assert "75,361" in shown
    assert "generator (batch norm, relu): project, 64" in shown


@pytest.mark.slow
def test_a_small_gan_learns_a_ring_of_wide_gaussians() -> None:
    task = Generation(data="ring", deviation=0.05)
    made = GANSpace()
    context = Context(made, task, CPU, 0)
    curve = fitted(task, context.model(reference_picks()), 8, context)
    assert curve[-1]["modes"] == 8
    assert curve[-1]["frechet"] < curve[0]["frechet"] / 2


SMALLEST = "gan:layers=1,widths=[4,8],units=[8,16],kernels=[3],activations=[relu,swish],orders=[post]"


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "ring"])
@pytest.mark.parametrize(
    ("strategy", "evaluator"),
    [
        ("evolution", "train"),
        ("reinforce", "train"),
        ("darts:epochs=2", "train"),
        ("enas:epochs=2", "train"),
        ("spos:epochs=2", "train"),
        ("random", "weight_sharing:epochs=1"),
    ],
)
def test_strategies_search_for_a_gan(data: str, strategy: str, evaluator: str, tmp_path: Path) -> None:
    run = nasengine.search(
        SMALLEST, strategy, f"generation:data={data},steps=5,samples=100", evaluator, trials=3, baseline=1,
        fidelity="epochs=1", final_fidelity="epochs=2", out=tmp_path / "run", durable=False,
    )  # fmt: skip
    assert all(trial.state == "done" for trial in run.all_trials)
    assert np.isfinite(run.best.metrics["test_frechet"])
    assert run.best_model()(run.task.example()).shape == (2, *run.task.input_shape)


def test_dcgan_is_not_for_points_and_says_so(nas: Any) -> None:
    code, _, err = nas("train", "dcgan", "--task", "generation:data=ring", "--out", "run")
    assert code == 2
    assert "'dcgan' cannot be trained for the task 'generation': the space 'gan' has no decision" in err
    assert "leave --space out" not in err
