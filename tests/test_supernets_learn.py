"""Image spaces' supernets learn real data; `chain` and `nasbench101` have tests of their own, with more options."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import pytest
import torch

from nasengine import SearchSpace
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.mobile import MobileSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.search_spaces.nasbench_macro import NASBenchMacroSpace
from nasengine.search_spaces.nasnet import NASNetSpace


@pytest.mark.parametrize(
    ("space", "batch_size", "rate", "steps"),
    [
        pytest.param(CellSpace(layers=3, channels=4, nodes=2), 64, 0.02, 7, id="cell"),
        pytest.param(
            MobileSpace(layers=2, expansions=(2, 3), kernels=(3, 5), stem=8, head=32), 64, 0.01, 11, id="mobile"
        ),
        pytest.param(NASBench201Space(channels=4), 64, 0.01, 12, id="nasbench201"),
        pytest.param(NASBenchMacroSpace(channels=4), 64, 0.01, 11, id="nasbench_macro"),
        pytest.param(NASNetSpace(layers=1, channels=4, blocks=2), 32, 0.02, 8, id="nasnet"),
    ],
)
def test_the_supernet_learns_digits(space: SearchSpace, batch_size: int, rate: float, steps: int) -> None:
    task = Digits()
    task.to(torch.device("cpu"))
    torch.manual_seed(0)
    supernet = space.supernet(task)
    batch = next(task.train_batches(batch_size, torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(supernet.parameters(), rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(supernet, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
