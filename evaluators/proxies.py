"""Zero-cost proxies: numbers that an untrained network gives on a batch or two of examples, the higher the better.

Collected by Abdelfattah, Mehrotra, Dudziak, Lane 2021, "Zero-Cost Proxies for Lightweight NAS", ICLR. As there, what
sums over weights sums over those of convolutions and linear layers: parameters of two dimensions or more, no biases, no
normalisation. Normalisation takes its statistics from the batch, as it does at the first step of a training; nothing is
dropped at random, so that the same weights and images always give the same number. A number that is not finite says
that the proxy can make nothing of the network.

Examples are images, the nodes of a graph that a batch asks for, or graphs: the task says which rows of its first tensor
are whose (`Task.rows`). What is said here of an image holds for its rows: of a node its own features, though others
depend on them, too; of a graph its nodes in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nasengine import Task, made_of, tensors_of

NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""What synflow leaves out; the first is batch and instance normalisation."""
ACTIVATIONS = frozenset(
    getattr(torch.ops.aten, name + end)
    for name in (
        "relu", "leaky_relu", "rrelu_with_noise", "elu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardtanh",
        "hardswish", "hardsigmoid",
    )
    for end in ("", "_")
) | {torch.ops.aten._prelu_kernel, torch.ops.aten.softplus}  # fmt: skip
"""Torch's own operations behind the activations, whether called by a module or as a function; ReLU6 is a hardtanh."""


class Subject:
    """An untrained model and batches of a task, each (what a model is called with, labels), where the model is.

    The model stays as it is: the proxies look at a copy. What several of them need is computed once.
    """

    def __init__(self, model: nn.Module, task: Task, batches: Sequence[Any]) -> None:
        self.task, self.batches = task, batches
        self.model = deepcopy(model).eval()
        for module in self.model.modules():
            if isinstance(module, _NormBase):
                module.train()
        self.weights = weights_of(self.model)

    @property
    def inputs(self) -> Tensor:
        """The first tensor that the model is called with: images, or the features of nodes."""
        return next(iter(tensors_of(self.batches[0][0]).values()))

    @cached_property
    def rows(self) -> Tensor:
        """(examples, most): which rows of the inputs are whose, −1 where an example has fewer."""
        return self.task.rows(self.batches[0])

    def given(self, inputs: Tensor) -> Any:
        """What the model is called with on the first batch, with these inputs."""
        like = self.batches[0][0]
        tensors = tensors_of(like)
        return made_of({**tensors, next(iter(tensors)): inputs}, like)

    @cached_property
    def gradients(self) -> Sequence[Tensor]:
        """The loss's, in the weights, on the first batch; zeros where the loss does not depend on a weight."""
        return self.gradients_on(self.batches[0])

    def gradients_on(self, batch: Any, differentiable: bool = False) -> Sequence[Tensor]:
        loss = self.task.loss(self.model, batch)
        return torch.autograd.grad(loss, self.weights, create_graph=differentiable, materialize_grads=True)


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() > 1 and parameter.requires_grad]


def grad_norm(subject: Subject) -> float:
    """Σ ‖g‖, a norm for each layer's weight."""
    return math.fsum(float(g.double().norm()) for g in subject.gradients)


def snip(subject: Subject) -> float:
    """Σ |θ g| (Lee, Ajanthan, Torr 2019, "SNIP", ICLR, before it is normalised)."""
    return _total((w * g).abs() for w, g in zip(subject.weights, subject.gradients, strict=True))


def plain(subject: Subject) -> float:
    """Σ θ g (Mozer and Smolensky 1989, "Skeletonization", NeurIPS; as an architecture's score: Abdelfattah 2021)."""
    return _total(w * g for w, g in zip(subject.weights, subject.gradients, strict=True))


def grasp(subject: Subject) -> float:
    """−Σ θ · Hg, H the loss's Hessian (Wang, Zhang, Grosse 2020, "Picking Winning Tickets Before Training by Preserving
    Gradient Flow", ICLR).

    When it prunes, GraSP keeps the weights whose −θ · Hg is smallest. As a score of architectures the sum is the better
    the larger: the sign is that of Abdelfattah 2021, who found accuracy to grow with it.
    """
    with HardSigmoid():
        gradients = subject.gradients_on(subject.batches[0], differentiable=True)
    product = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
    hessian_times_gradient = torch.autograd.grad(product, subject.weights, materialize_grads=True)
    return -_total(w * h for w, h in zip(subject.weights, hessian_times_gradient, strict=True))


class HardSigmoid(TorchFunctionMode):
    """Computes hard sigmoids by what torch can differentiate twice: its own it cannot."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.hardsigmoid:
            return functional.relu6(args[0] + 3) / 6
        return func(*args, **(kwargs or {}))


def fisher(subject: Subject) -> float:
    """Σ ½ mean((Σ a ∂L/∂a)²) over the channels of what convolutions and linear layers give (Theis, Korshunova, Tejani,
    Huszár 2018, "Faster gaze prediction with dense networks and Fisher pruning", arXiv:1801.05787).

    a ∂L/∂a is summed over a channel's pixels, the square averaged over the images, or over all nodes; L is the batch's
    mean loss.
    """
    outputs: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        outputs.append(output)
        return output.clone()  # what follows may write into it

    layers = [m for m in subject.model.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        loss = subject.task.loss(subject.model, subject.batches[0])
    finally:
        for hook in hooks:
            hook.remove()
    gradients = torch.autograd.grad(loss, outputs, materialize_grads=True)
    products = ((a * g).flatten(2).sum(2) if a.dim() > 2 else a * g for a, g in zip(outputs, gradients, strict=True))
    return _total(0.5 * product.double().square().mean(0) for product in products)


def zico(subject: Subject) -> float:
    """Σ log Σ mean(|g|) / std(g): mean and deviation over the batches, the inner sum over those of a layer's weights
    whose gradients differ (Li, Yang, Bhardwaj, Marculescu 2023, "ZiCo", ICLR)."""
    found = [subject.gradients, *(subject.gradients_on(batch) for batch in subject.batches[1:])]
    total = 0.0
    for gradients in zip(*found, strict=True):
        g = torch.stack(gradients).double()
        deviation = g.std(0, correction=0)
        differs = deviation > 0
        ratio = float((g.abs().mean(0)[differs] / deviation[differs]).sum())
        total += math.log(ratio) if ratio > 0 else 0.0
    return total


def synflow(subject: Subject) -> float:
    """log Σ θ · ∂R/∂θ, where R is the sum of what the network of the absolute weights, without normalisation, gives
    for one image of ones, or for the batch's graphs with features of ones (Tanaka, Kunin, Yamins, Ganguli 2020,
    "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS).

    Without the logarithm, and without float64, it overflows in deep networks. It sees no data: one image is enough.
    """
    model = deepcopy(subject.model).eval().double()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, NORMALISATIONS):
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    ones = torch.ones_like(subject.inputs, dtype=torch.float64)
    given = ones[:1] if isinstance(subject.batches[0][0], Tensor) else subject.given(ones)
    weights = weights_of(model)
    gradients = torch.autograd.grad(model(given).sum(), weights, materialize_grads=True)
    flow = _total(w * g for w, g in zip(weights, gradients, strict=True))
    return math.log(flow) if flow > 0 else -math.inf


def jacob_cov(subject: Subject) -> float:
    """−Σ log(λ + k) + 1 / (λ + k), k = 10⁻⁵, of the eigenvalues λ of the images' correlations: of the gradients of the
    summed outputs in each image (Mellor, Turner, Storkey, Crowley 2020, "Neural Architecture Search without Training",
    arXiv:2006.04647v1)."""
    inputs = subject.inputs.detach().clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(subject.model(subject.given(inputs)).sum(), inputs)
    correlations = torch.corrcoef(of_examples(jacobian.flatten(1).double(), subject.rows))
    if not correlations.isfinite().all():
        return -math.inf  # an image on which nothing depends
    shifted = torch.linalg.eigvalsh(correlations) + 1e-5
    return -float((shifted.log() + 1 / shifted).sum())


def naswot(subject: Subject) -> float:
    """log |K|, where K[i, j] counts the units that are on, or off, for the images i and j alike (Mellor, Turner,
    Storkey, Crowley 2021, "Neural Architecture Search without Training", ICML).

    A unit is an entry of what goes into an activation function, any kind of which counts, and on where that is above
    zero. Graphs of different sizes are held against each other in the nodes that both have.
    """
    agreements = Agreements(len(subject.inputs), subject.rows)
    with torch.no_grad(), agreements:
        subject.model(subject.given(subject.inputs))
    if not agreements.units:
        return -math.inf
    sign, logarithm = torch.linalg.slogdet(agreements.kernel)
    return float(logarithm) if sign > 0 else -math.inf


class Agreements(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the activations of a forward pass. kernel: (examples, examples), in how many units two examples agree.

    count: of rows. rows: which of them are whose, see Task.rows; by default each is an example. units: of a row.
    """

    def __init__(self, count: int, rows: Tensor | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = torch.arange(count).unsqueeze(1) if rows is None else rows
        self.count, self.units = count, 0
        self._products: Tensor | float = 0.0

    @property
    def kernel(self) -> Tensor:
        # the codes are ±1, so their product is the units that agree less those that do not
        there = (self.rows >= 0).double()
        return (self._products + self.units * (there @ there.T)) / 2

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in ACTIVATIONS and args[0].shape[:1] == (self.count,):
            values = args[0].movedim(1, -1) if args[0].dim() > 2 else args[0]  # no copy where channels come last
            codes = (values > 0).flatten(1).float().mul_(2).sub_(1)
            self.units += codes.shape[1]
            codes = of_examples(codes, self.rows)
            self._products = self._products + (codes @ codes.T).double()  # whole numbers below 2²⁴: exact
        return func(*args, **(kwargs or {}))


PROXIES: dict[str, Callable[[Subject], float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacob_cov": jacob_cov,
    "grad_norm": grad_norm,
    "snip": snip,
    "grasp": grasp,
    "fisher": fisher,
    "zico": zico,
    "plain": plain,
}


def of_examples(values: Tensor, rows: Tensor) -> Tensor:
    """(rows, units) → (examples, most · units): each example's rows one after the other, zeros where it has fewer."""
    return (values[rows] * (rows >= 0).unsqueeze(2)).flatten(1)


def _total(terms: Any) -> float:
    """The sum of all numbers in some tensors, in float64."""
    return math.fsum(float(term.detach().sum(dtype=torch.float64)) for term in terms)
