"""Well-known networks on MNIST, by `nas train`: the softmax regression with the recipe that is known for 92 %, LeNet-5.

The data is MNIST's four IDX files in a folder: the whole training part but a tenth, which is validated on, and the
official test part, read once by each training.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from report import machine, mean, parser, print_head, print_table, spread, versions

import nasengine

RECIPES = {
    "softmax_regression": "train:learning_rate=0.01,schedule=constant,epochs=10,batch_size=64,weight_decay=0",
    "lenet5": "train:learning_rate=0.05,epochs=12,batch_size=128",
}


def main() -> None:
    options = parser(__doc__, repetitions=3)
    options.add_argument("--path", required=True, help="the folder with MNIST's IDX files, gzipped or not")
    given = options.parse_args()
    repetitions = 1 if given.quick else given.repetitions
    print_head(
        "Well-known networks on MNIST",
        {
            "machine": machine(),
            "versions": versions(),
            "data": "MNIST, 54,000 training, 6,000 validation and 10,000 test images, standardised",
            "seeds": f"0 to {repetitions - 1}; accuracy as mean ± sd, time as median (min–max)",
        },
        given.markdown,
    )
    rows = []
    for name, evaluator in RECIPES.items():
        accuracies, times = [], []
        for seed in range(repetitions):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                run = nasengine.train(
                    name, f"images:path={given.path},valid=0.1", evaluator, out=Path(folder) / "run", seed=seed,
                    fidelity="epochs=1,data=0.05" if given.quick else None,
                )  # fmt: skip
            accuracies.append(100 * run.best.metrics["test_accuracy"])
            times.append(time.perf_counter() - started)
        rows.append([name, f"{run.best.metrics['parameters']:,.0f}", evaluator, mean(accuracies, 2), spread(times)])
    print_table(["network", "parameters", "evaluator", "test accuracy, %", "seconds"], rows, given.markdown)


if __name__ == "__main__":
    main()
