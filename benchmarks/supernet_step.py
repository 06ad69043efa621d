"""A step of DARTS in nasengine's supernet, against the same step written plainly (benchmarks/plain_darts.py).

The supernet is the paper's: 16 channels, 8 layers, images of 3×32×32. The plain one has one module an edge and
operation, all of them computed, lies in memory as NCHW, and takes gradients in everything. A first-order step is the
gradient of α on one batch and that of w on another; a second-order step unrolls one step of w for α's. Both compute the
same: that is checked first, in float64, on the CPU. Every repetition is a fresh process, so that its peak of memory is
its own. On a GPU (--device cuda) seconds pass by the clock, and the peak is that of the device's memory. In mixed
precision (--precision bf16) both are computed under torch's autocast, in first order alone: second order takes small
differences.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from plain_darts import EDGES, PlainDARTS
from report import by_turns, machine, parser, print_head, print_table, ratios, spread, versions
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nasengine import Context, Shapes
from nasengine.device import pick_device
from nasengine.errors import ConfigError
from nasengine.search_spaces.cell import CellSpace
from nasengine.strategies.bilevel import gradients
from nasengine.strategies.darts import unrolled_gradient
from nasengine.strategies.relaxation import Relaxation

PLAIN, OURS = "plain", "nasengine"
ORDERS = {"first": 1, "second": 2}
TOLERANCE = 1e-12
RATE, WEIGHT_DECAY = 0.025, 3e-4
TASK = Shapes((3, 32, 32), 10)
Loss = Callable[[int], Tensor]
"""Of the training batch (0) or the validation batch (1)."""


def ours(
    channels: int, layers: int, dtype: torch.dtype, device: str = "cpu"
) -> tuple[nn.Module, Relaxation, list[Tensor]]:
    """The supernet, α, and the weights that learn."""
    context = Context(CellSpace(channels=channels, layers=layers), TASK, torch.device(device), seed=0)
    net = context.supernet().to(dtype)
    net.freeze_affine()
    relaxation = Relaxation(net, context)
    relaxation.alpha = relaxation.alpha.detach().to(dtype).requires_grad_()
    return net, relaxation, [weight for weight in net.parameters() if weight.requires_grad]


def plain(channels: int, layers: int, dtype: torch.dtype, device: str = "cpu") -> tuple[PlainDARTS, list[Tensor]]:
    net = PlainDARTS(channels, layers).to(device, dtype)
    return net, [weight for weight in net.parameters() if weight is not net.alpha]


def batches(size: int, dtype: torch.dtype, device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """One to train with, one to validate with."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, size, *TASK.input_shape, generator=generator).to(device, dtype)
    return list(zip(images, torch.randint(10, (2, size), generator=generator).to(device), strict=True))


def loss_of_ours(net: nn.Module, relaxation: Relaxation, given: list[tuple[Tensor, Tensor]]) -> Loss:
    laid_out = [(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in given]

    def loss(which: int) -> Tensor:
        relaxation.apply()
        images, labels = laid_out[which]
        return cross_entropy(net(images), labels)

    return loss


def loss_of_plain(net: nn.Module, given: list[tuple[Tensor, Tensor]]) -> Loss:
    return lambda which: cross_entropy(net(given[which][0]), given[which][1])


def in_precision(loss: Loss, device: str, precision: str) -> Loss:
    """The loss as a training in that precision computes it."""

    def rounded(which: int) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            return loss(which)

    return rounded


def everything(loss: Loss, which: int, alpha: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The gradients in α and in all weights, whichever are wanted."""
    found = torch.autograd.grad(loss(which), [alpha, *weights])
    return found[0], list(found[1:])


def plain_step(order: int, loss: Loss, alpha: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """Gradients in α and in w: algorithm 1, and equations 7 and 8 written out."""
    if order == 1:
        of_alpha, _ = everything(loss, 1, alpha, weights)
        return [of_alpha, *everything(loss, 0, alpha, weights)[1]]
    _, grads = everything(loss, 0, alpha, weights)
    before = [weight.detach().clone() for weight in weights]

    def move(to: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(weights, to, strict=True):
                weight.copy_(value)

    move([w - RATE * (g + WEIGHT_DECAY * w) for w, g in zip(before, grads, strict=True)])
    direct, vector = everything(loss, 1, alpha, weights)
    epsilon = 0.01 / torch.cat([v.flatten() for v in vector]).norm()
    sides = []
    for sign in (1, -1):
        move([w + sign * epsilon * v for w, v in zip(before, vector, strict=True)])
        sides.append(everything(loss, 0, alpha, weights)[0])
    move(before)
    of_alpha = direct - RATE * (sides[0] - sides[1]) / (2 * epsilon)
    return [of_alpha, *everything(loss, 0, alpha, weights)[1]]


def our_step(order: int, loss: Loss, alpha: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The same as the strategy takes them."""
    if order == 1:
        _, (of_alpha,) = gradients(partial(loss, 1), [alpha])
    else:
        _, of_alpha = unrolled_gradient(
            partial(loss, 0), partial(loss, 1), weights, alpha, [None] * len(weights), RATE, 0.9, WEIGHT_DECAY
        )
    return [of_alpha, *gradients(partial(loss, 0), weights)[1]]


def largest_difference(order: int, channels: int, layers: int, size: int) -> float:
    """Between all gradients of both, in float64, relative to the largest number in each tensor."""
    net, relaxation, weights = ours(channels, layers, torch.float64)
    other, others = plain(channels, layers, torch.float64)
    state = net.module.state_dict()  # type: ignore[union-attr]
    names = [name for name in other.state_dict() if name != "alpha"]
    other.load_state_dict({name: state[name] for name in names} | {"alpha": other.alpha})
    with torch.no_grad():
        for kind, rows in zip(("normal", "reduce"), other.alpha, strict=True):
            for (node, source), row in zip(EDGES, rows, strict=True):
                row.copy_(relaxation.alpha[relaxation.slices[f"{kind}.node{node}.from{source}"]])
    given = batches(size, torch.float64)
    mine = our_step(order, loss_of_ours(net, relaxation, given), relaxation.alpha, weights)
    theirs = plain_step(order, loss_of_plain(other, given), other.alpha, others)
    places = [
        relaxation.slices[f"{kind}.node{node}.from{source}"] for kind in ("normal", "reduce") for node, source in EDGES
    ]
    mine[0] = torch.stack([mine[0][place] for place in places])
    theirs[0] = theirs[0].flatten(0, 1)
    of_name = dict(zip([id(weight) for weight in weights], mine[1:], strict=True))
    tensors = dict(net.module.named_parameters())  # type: ignore[union-attr]
    ordered = [of_name[id(tensors[name])] for name, _ in other.named_parameters() if name != "alpha"]
    pairs = zip([mine[0], *ordered], theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-6)) for a, b in pairs)


def measured(
    which: str, device: str, precision: str, order: int, channels: int, layers: int, size: int, steps: int
) -> dict[str, float]:
    """Seconds a step, after one that is not counted, and the peak of memory, MiB: of the processor's time and the
    process's memory on a CPU, of the clock's time and the device's memory on a GPU."""
    torch.set_num_threads(1)
    given = batches(size, torch.float32, device)
    if which == OURS:
        net, relaxation, weights = ours(channels, layers, torch.float32, device)
        loss = in_precision(loss_of_ours(net, relaxation, given), device, precision)
        step = partial(our_step, order, loss, relaxation.alpha, weights)
    else:
        other, weights = plain(channels, layers, torch.float32, device)
        loss = in_precision(loss_of_plain(other, given), device, precision)
        step = partial(plain_step, order, loss, other.alpha, weights)
    step()
    started = now(device)
    for _ in range(steps):
        step()
    seconds = (now(device) - started) / steps
    most = peak() * 1024 if device == "cpu" else torch.cuda.max_memory_allocated(device)
    return {"seconds": seconds, "mebibytes": most / 2**20}


def now(device: str) -> float:
    """Seconds: of this process on a CPU; by the clock, when the GPU has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak() -> int:
    """The most memory that this process ever had, KiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage counts what the parent had when it started this process
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def gpu(device: str) -> str:
    """Its name, and what its float32 is: torch lets convolutions use TF32 unless it is told otherwise."""
    tf32 = "in TF32" if torch.backends.cudnn.allow_tf32 else "without TF32"
    return f"{torch.cuda.get_device_name(device)}; convolutions of float32 {tf32}"


def in_fresh_process(case: list[str], _: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--measure", *case], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        which, device, precision, *numbers = sys.argv[2:]
        print(json.dumps(measured(which, device, precision, *map(int, numbers))))
        return
    options = parser(__doc__, repetitions=3)
    options.add_argument("--batch-size", type=int, default=64, help="images a batch (default: %(default)s)")
    options.add_argument("--steps", type=int, default=1, help="counted in each repetition (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    options.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="(default: %(default)s)")
    given = options.parse_args()
    try:
        device = pick_device(given.device)
    except ConfigError as error:
        options.error(str(error))
    orders = ORDERS if given.precision == "float32" else {"first": 1}
    on_gpu = device != "cpu"
    channels, layers, size, repetitions = (4, 3, 2, 1) if given.quick else (16, 8, given.batch_size, given.repetitions)
    checked = 2 if given.quick else 4
    torch.set_num_threads(1)
    differences = {name: largest_difference(order, channels, layers, checked) for name, order in orders.items()}
    if max(differences.values()) > TOLERANCE:
        sys.exit(f"the two do not compute the same: their gradients differ by {differences}")
    facts = {
        "machine": machine(),
        "versions": versions(),
        "supernet": f"cell space, {channels} channels, {layers} layers, 3×32×32 images, 10 classes",
        **({"device": gpu(device)} if on_gpu else {}),
        "batches": f"of {size}, of random numbers; 1 thread; {given.precision}",
        "seeds": "0",
        "repetitions": f"{repetitions}, by turns, each a fresh process of {given.steps} + 1 steps; median (min–max)",
        "equality": ", ".join(f"{name} order {found:.0e}" for name, found in differences.items())
        + f": largest difference of a gradient in float64, relative, in batches of {checked}",
    }
    print_head("A step of DARTS: nasengine's supernet against a plain one", facts, given.markdown)
    rows = []
    for name, order in orders.items():
        sizes = [str(value) for value in (device, given.precision, order, channels, layers, size, given.steps)]
        results = by_turns({which: partial(in_fresh_process, [which, *sizes]) for which in (PLAIN, OURS)}, repetitions)
        seconds = {which: [found["seconds"] for found in results[which]] for which in results}
        peaks = {which: [found["mebibytes"] for found in results[which]] for which in results}
        for which in results:
            faster = spread(ratios(seconds[PLAIN], seconds[which]))
            rows.append([name, which, spread(seconds[which]), faster, spread(peaks[which])])
    seconds_are, peak_is = ("seconds", "peak on the GPU, MiB") if on_gpu else ("processor seconds", "peak, MiB")
    print_table(["order", "supernet", f"{seconds_are} a step", "times as fast", peak_is], rows, given.markdown)


if __name__ == "__main__":
    main()
