"""Neighbour sampling: small graphs around a few nodes, for graphs that do not fit, in plain torch.

Hamilton, Ying, Leskovec 2017, "Inductive Representation Learning on Large Graphs" (GraphSAGE), NeurIPS, section 3.1 and
appendix A, algorithm 2; neighbours are drawn without replacement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Neighbourhoods:
    """Draws from a graph of N nodes, edges (2, E)."""

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        order = edge_index[1].argsort(stable=True)
        self.nodes, self.source = nodes, edge_index[0][order]
        self.degree = torch.bincount(edge_index[1], minlength=nodes)
        self.start = self.degree.cumsum(0) - self.degree

    def around(self, seeds: Tensor, most: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The seeds and what was drawn around them: nodes (n,), seeds first, and edges between their places, (2, e).

        most: for each step outwards, how many neighbours of a node at most.
        """
        place = torch.full((self.nodes,), -1)
        place[seeds] = torch.arange(len(seeds))
        nodes, outermost, edges = seeds, seeds, []
        for count in most:
            source, target = self._drawn(outermost, count, generator)
            edges.append(torch.stack([source, target]))
            outermost = torch.unique(source[place[source] < 0])
            place[outermost] = torch.arange(len(nodes), len(nodes) + len(outermost))
            nodes = torch.cat([nodes, outermost])
        return nodes, place[torch.cat(edges, dim=1)]

    def _drawn(self, targets: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Up to so many of each target's neighbours, and the target of each."""
        degree = self.degree[targets]
        owner = torch.repeat_interleave(torch.arange(len(targets)), degree)
        rank = torch.arange(len(owner)) - (degree.cumsum(0) - degree)[owner]
        keys = owner + torch.rand(len(owner), generator=generator, dtype=torch.double)
        edge = (self.start[targets][owner] + rank)[keys.argsort()]  # shuffled among those of one target
        kept = rank < count
        return self.source[edge[kept]], targets[owner[kept]]
