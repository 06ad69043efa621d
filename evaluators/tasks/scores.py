"""What classifiers of graphs and nodes are worth: accuracy, macro F1 and cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def classification_metrics(scores: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """scores: (N, classes). labels: (N,).

    `macro_f1` is the mean over the classes of 2 TP / (2 TP + FP + FN), of those that are met or foretold.
    """
    foretold = scores.argmax(1)
    met, told = (torch.bincount(values, minlength=classes) for values in (labels, foretold))
    hits = torch.bincount(labels[foretold == labels], minlength=classes)
    either = met + told
    f1 = (2 * hits / either.clamp(min=1))[either > 0].double().mean()
    loss = functional.cross_entropy(scores, labels)
    accuracy, macro, mean = torch.stack([hits.sum() / len(labels), f1, loss]).tolist()
    return {"accuracy": accuracy, "macro_f1": macro, "loss": mean}
