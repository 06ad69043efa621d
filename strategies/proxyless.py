"""ProxylessNAS: binary gates of which two paths at most are computed at a time.

Cai, Zhu, Han 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", ICLR: section 3.2.1
(binary gates, equations 2–4; two sampled paths, whose probability together stays as it was). The constants are those of
the authors' code for ImageNet. Its loss for the latency (section 3.3) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from nasengine import Context, Recipe, Supernet, Task

from .bilevel import Bilevel
from .relaxation import Relaxation
from .snas import gumbel


class BinaryGates(Relaxation):
    """For w one path of each decision, drawn by its probability; for α two, one of them open.

    A k-of-n choice has k paths for w, and for α k + 1, k of them open.
    """

    def __init__(self, supernet: Supernet, context: Context) -> None:
        super().__init__(supernet, context)
        self.before = self.alpha.detach().clone()
        self.sampled: dict[str, list[int]] = {}

    def apply(self) -> None:
        self.before = self.alpha.detach().clone()
        drawn, again = self._drawn(), self._drawn()
        for name, part in self.slices.items():
            k = self.kept(name)
            chosen = drawn[part].topk(min(k + 1, len(drawn[part]))).indices
            open_ = chosen[again[part][chosen].topk(k).indices]
            soft = k * self.alpha[part][chosen.to(self.alpha.device)].softmax(0)
            binary = torch.zeros(len(drawn[part])).index_fill(0, open_, 1.0).to(soft)
            gates = binary.index_add(0, chosen.to(soft.device), soft - soft.detach())
            self.sampled[name] = sorted(chosen.tolist())
            self.gates[name].set(gates, self.sampled[name])

    def apply_for_weights(self) -> None:
        drawn = self._drawn()
        for name, part in self.slices.items():
            self.gates[name].set(None, sorted(drawn[part].topk(self.kept(name)).indices.tolist()))

    def stepped(self) -> None:
        """The sampled paths share what probability they had together: those of the others stay as they were."""
        with torch.no_grad():
            for name, part in self.slices.items():
                now, before = self.alpha[part], self.before[part]
                sampled = self.sampled[name]
                now[sampled] -= now[sampled].logsumexp(0) - before[sampled].logsumexp(0)

    def _drawn(self) -> torch.Tensor:
        """Perturbed α on the CPU: the largest entries of a decision's part are draws without replacement."""
        alpha = self.alpha.detach().cpu()
        return alpha + gumbel(alpha, self.generator)


@dataclass(kw_only=True, eq=False)
class ProxylessNAS(Bilevel):
    """Gradient-based search with binary gates, in the memory of one network (Cai et al. 2019).

    The guard's Hessian is taken of the whole supernet, in the memory of all its paths: hessian=false where that is too
    much. α learns from every pair of batches; in the authors' code from every fifth.

    Options:
        weight_decay: of w's optimiser; with SGD 4e-5 unless you say.
        warmup: the share of the epochs, at the beginning, in which w learns alone: 40 epochs, before 120 with α, in
            the authors' code.
    """

    batch_size: int = 256
    alpha_learning_rate: float = 1e-3
    alpha_weight_decay: float = 0.0
    warmup: float = 0.25

    paper: ClassVar[Recipe] = Recipe(learning_rate=0.025, weight_decay=4e-5)
    alpha_betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    nesterov: ClassVar[bool] = True

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        return BinaryGates(supernet, context)
