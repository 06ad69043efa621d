"""How two players learn in turns: Goodfellow et al. 2014, "Generative Adversarial Nets", NeurIPS, algorithm 1.

Adam as Radford, Metz, Chintala 2016 (DCGAN), section 4, or as the game's own paper says. The generator that is judged
is a moving average (Yazıcı et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training", ICLR).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nasengine import Average, ConfigError, Context, Fidelity, Recipe, TrainingDiverged, learning_rate

from .adversarial import Players

if TYPE_CHECKING:
    from .generation import Generation

PLAIN = {
    "optimizer": "adam", "label_smoothing": 0.0, "auxiliary": 0.0, "drop_path": 0.0, "precision": "float32",
    "compile": False,
}  # fmt: skip
"""What a recipe may not have otherwise."""


def trained(
    task: Generation, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Recipe
) -> Iterator[Mapping[str, float]]:
    """Yields after each epoch what the players lost, the averaged generator in place. Raises ConfigError for a recipe
    that cannot be, TrainingDiverged where a loss is not finite."""
    check(recipe)
    epochs, players = fidelity.epochs or recipe.epochs, Players(model)
    adam = players.adam
    own = adam.rate if recipe.learning_rate == task.recipe.learning_rate else 1.0
    betas = adam.betas if adam.betas and recipe.momentum == task.recipe.momentum else (recipe.momentum, 0.999)
    critic, painter = (
        torch.optim.Adam(part.parameters(), betas=betas, weight_decay=recipe.weight_decay)
        for part in (players.discriminator, players.generator)
    )
    average = Average(players.generator, recipe.ema)
    context.keep(model=model, critic=critic, painter=painter, average=average)
    turns = Turns(task, players, critic, painter, average, recipe.gradient_clip)
    for epoch in context.epochs(epochs):
        for group in (*critic.param_groups, *painter.param_groups):
            group["lr"] = own * learning_rate(recipe, epoch, epochs)
        average.swap()
        model.train()
        turns.begin(context.device)
        while turns.number < task.steps:
            for batch in task.train_batches(recipe.batch_size, context.generator, part=(0.0, fidelity.data)):
                turns.take(batch)
        average.swap()
        losses = turns.means()
        if not math.isfinite(losses["train_loss"]):
            raise TrainingDiverged(f"the players' loss is {losses['train_loss']} in epoch {epoch + 1}")
        yield losses


def check(recipe: Recipe) -> None:
    """Raises ConfigError for what this training does not do."""
    for name, only in PLAIN.items():
        if getattr(recipe, name) != only:
            raise ConfigError(
                f"the recipe has {name} = {getattr(recipe, name)!r}; the task 'generation' trains its two players with "
                f"Adam, in float32, without labels to smooth: expected {only!r}"
            )
    if recipe.augment not in ("auto", "none"):
        raise ConfigError(f"the recipe has augment = {recipe.augment!r}; the task 'generation' augments nothing")


@dataclass(slots=True)
class Turns:
    """The steps of an epoch: how many there were, and what was lost in them."""

    task: Generation
    players: Players
    critic: torch.optim.Adam
    painter: torch.optim.Adam
    average: Average
    clip: float
    number: int = 0
    totals: Tensor = field(default_factory=lambda: torch.zeros(2))

    def begin(self, device: torch.device) -> None:
        self.number, self.totals = 0, torch.zeros(2, device=device)

    def take(self, batch: tuple[Tensor, Tensor]) -> None:
        """One of the discriminator's; and, as often as the game says, one of the generator's on the same latents."""
        (real, latents), players = batch, self.players
        labels = self.task.told(latents)
        last = (self.number + 1) % players.adam.critic == 0
        with torch.set_grad_enabled(last):
            made, labels_of_made = players.make(latents, labels)
        given = made.detach()
        scores, judged = players.discriminator(real, labels), players.discriminator(given, labels_of_made)
        loss = players.discriminator_loss(scores, judged) + players.penalty(real, given, labels)
        self._descend(self.critic, loss)
        self.number += 1
        self.totals[0] += loss.detach()
        if last:
            loss = players.generator_loss(players.discriminator(made, labels_of_made))
            self._descend(self.painter, loss)
            self.average.update()
            self.totals[1] += players.adam.critic * loss.detach()

    def _descend(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip:
            nn.utils.clip_grad_norm_([weight for group in adam.param_groups for weight in group["params"]], self.clip)
        adam.step()

    def means(self) -> dict[str, float]:
        critic, painter = (self.totals / self.number).tolist()
        return {"train_loss": critic + painter, "discriminator_loss": critic, "generator_loss": painter}
