"""Metrics of classifiers that give logits: NaN where the data leaves them undefined.

Shape legend: y_N, N examples; z_N1 logits of a yes-no question, z_NC of C classes.
"""

import math

import torch
from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of right answers, at logit 0 for z_N1 and at the largest for z_NC."""
    if outputs.shape[1] == 1:
        right = (outputs > 0) == (targets > 0.5)  # noqa: PLR2004 -- targets are 0 or 1
    else:
        right = outputs.argmax(dim=1) == targets
    return float(right.double().mean())


def roc_auc(outputs: Tensor, targets: Tensor) -> float:
    """Return how often an ill one scores above a healthy one, a tie counting half.

    The Mann-Whitney form of the area under the ROC curve. NaN where one class is absent.
    """
    ill, healthy = outputs[targets > 0.5], outputs[targets <= 0.5]  # noqa: PLR2004
    if not len(ill) or not len(healthy):
        return math.nan
    difference = ill.double()[:, None] - healthy.double()[None, :]
    wins = (difference > 0).double() + (difference == 0).double() / 2
    return float(torch.mean(wins))
