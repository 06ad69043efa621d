"""What classifiers of graphs and nodes are worth: accuracy, macro F1 and cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

METRICS = ("accuracy", "macro_f1", "loss")


def classification_metrics(scores: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """scores: (N, classes). labels: (N,).

    `macro_f1` is the mean over the classes of 2 TP / (2 TP + FP + FN), of those that are met or foretold.
    """
    from torchmetrics.functional.classification import multiclass_f1_score

    hits = scores.argmax(1) == labels
    f1 = multiclass_f1_score(scores, labels, classes, average="macro", validate_args=False)
    loss = functional.cross_entropy(scores, labels)
    accuracy, macro, mean = torch.stack([hits.float().mean(), f1, loss]).tolist()
    return {"accuracy": accuracy, "macro_f1": macro, "loss": mean}
