"""GDAS: for each batch one architecture is drawn, and α learns through the draw.

Dong and Yang 2019, "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR: section 3.2, equations 3–6
(hard Gumbel-softmax with straight-through gradients). The constants are those of the authors' code for NAS-Bench-201.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from nasengine import Context, Recipe, Supernet, Task

from .bilevel import Bilevel
from .relaxation import Relaxation
from .snas import Concrete


class Hard(Concrete):
    """One option of each decision (k of a k-of-n choice) is computed; α's gradient is that of the soft weights."""

    def apply(self) -> None:
        drawn = self.drawn()
        values = drawn.detach().cpu()
        for name, part in self.slices.items():
            k = self.kept(name)
            chosen = values[part].topk(k).indices.sort().values
            soft = drawn[part].softmax(0)
            hard = torch.zeros_like(soft).index_fill(0, chosen.to(soft.device), 1.0)
            self.gates[name].set(hard + k * (soft - soft.detach()), chosen.tolist())


@dataclass(kw_only=True, eq=False)
class GDAS(Bilevel):
    """Gradient-based search by a differentiable sampler (Dong and Yang 2019): about as fast as training one network.

    For each batch, of α's as of w's, one architecture is drawn by Gumbel noise and computed alone.

    Options:
        weight_decay: of w's optimiser; with SGD 5e-4 unless you say.
        tau_max, tau_min: the temperature in the first and in the last epoch, falling linearly (250 epochs).
    """

    tau_max: float = 10.0
    tau_min: float = 0.1

    paper: ClassVar[Recipe] = Recipe(learning_rate=0.025, weight_decay=5e-4)
    nesterov: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.tau_max, self.tau_min) <= 0:
            raise self.refused(f"has tau_max = {self.tau_max} and tau_min = {self.tau_min}; expected more than 0")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        return Hard(supernet, context, self.tau_max, self.tau_min)
