"""PC-DARTS: DARTS in which a part of the channels passes the mixed operations, and edges have weights of their own.

Xu, Xie, Zhang, Chen, Qi, Tian, Xiong 2020, "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture
Search", ICLR: section 3.2 (partial channels), 3.3 (edge normalisation, equation 4), 4.2 (settings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nasengine import Context, Recipe, Supernet, Task

from .bilevel import Bilevel
from .relaxation import Relaxation, narrowed


@dataclass(kw_only=True, eq=False)
class PCDARTS(Bilevel):
    """Partially connected DARTS: faster and in less memory, and less drawn to skip connections (Xu et al. 2020).

    1/partial of a choice's channels pass its options, the others go by (pooled where the options halve the image), and
    all are shuffled; where a choice's options have no such part, all channels pass. A k-of-n choice of edges that hold
    choices of their own has weights β, a softmax over its edges; an edge's strength is β times its best operation. In
    a space without such choices there is nothing to normalise.

    Options:
        partial: the paper's K.
        learning_rate: of w's optimiser; with SGD 0.1 unless you say.
        warmup: the share of the epochs, at the beginning, in which w learns alone: 15 of 50 in the paper.
    """

    batch_size: int = 256
    alpha_learning_rate: float = 6e-4
    warmup: float = 0.3
    partial: int = 4

    paper: ClassVar[Recipe] = Recipe(learning_rate=0.1, weight_decay=3e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partial < 1:
            raise self.refused(f"has partial = {self.partial}; expected at least 1")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        note = narrowed(supernet, self.partial, task, context)
        relaxation = Relaxation(supernet, context, edges=True)
        relaxation.note = note
        return relaxation
