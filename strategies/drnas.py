"""DrNAS: a decision's weights are drawn from a Dirichlet distribution, whose concentrations learn.

Chen, Wang, Cheng, Tang, Hsieh 2021, "DrNAS: Dirichlet Neural Architecture Search", ICLR: section 3.1, equations 3–5;
concentrations elu(α) + 1 (section 4). Its progressive widening and pruning (section 3.3) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasengine import Context, Supernet, Task

from .bilevel import Bilevel
from .relaxation import Relaxation, narrowed


class Dirichlet(Relaxation):
    """Weights drawn from Dirichlet(elu(α) + 1), with gradients through the draw; their mean decides."""

    def concentrations(self) -> Tensor:
        """Of α's shape, more than 0."""
        return nn.functional.elu(self.alpha) + 1

    def probabilities(self, name: str) -> Tensor:
        part = self.concentrations()[self.slices[name]]
        return part / part.sum()

    def apply(self) -> None:
        drawn = gammas(self.concentrations(), self.generator)
        for name, part in self.slices.items():
            self.gates[name].set((self.kept(name) * drawn[part] / drawn[part].sum()).to(self.alpha))


def gammas(concentrations: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma(c, 1) draws, which divided by their sum are Dirichlet(c); gradients by implicit reparameterisation.

    In double precision: draws of small concentrations are tiny, and a sum must not be zero.
    """
    tiny = torch.finfo(torch.float64).tiny
    drawn = torch._standard_gamma(concentrations.double().clamp_min(1e-8).cpu(), generator=generator).clamp_min(tiny)
    return drawn.to(concentrations.device)


@dataclass(kw_only=True, eq=False)
class DrNAS(Bilevel):
    """Dirichlet neural architecture search (Chen et al. 2021): random weights explore, and even out sharp ones.

    Options:
        alpha_weight_decay: the paper's l2 regulariser, which draws the concentrations to 1, the uniform distribution.
        partial: 1/partial of the channels pass a choice's options, as in `pc_darts`; 1 is all of them. The paper
            begins with 4 in NAS-Bench-201's space and widens later, which is left out.
    """

    partial: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partial < 1:
            raise self.refused(f"has partial = {self.partial}; expected at least 1")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        note = narrowed(supernet, self.partial, task, context)
        relaxation = Dirichlet(supernet, context)
        relaxation.note = note
        return relaxation
