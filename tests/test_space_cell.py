"""The cell space's supernet on real data; what else it promises is its contract, in test_contracts.py."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import torch

from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.cell import CellSpace


def test_the_supernet_learns_digits() -> None:
    task = Digits()
    task.to(torch.device("cpu"))
    torch.manual_seed(0)
    supernet = CellSpace(layers=3, channels=4, nodes=2).supernet(task)
    batch = next(task.train_batches(64, torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(supernet.parameters(), 0.02)
    losses = []
    for _ in range(7):
        optimizer.zero_grad()
        loss = task.loss(supernet, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
