"""How even the classes of images are, and what uneven ones weigh in a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float32, Int64
from pydantic import BeforeValidator, Field
from torch import Tensor

from datanas.core.errors import ConfigError


def _known(value: object) -> object:
    """One message for what is neither a word that is known nor a list."""
    if value in ("none", "balanced") or isinstance(value, list | tuple):
        return value
    raise ValueError(f"must be none, balanced or a list of numbers, one a class, got {value!r}")


ClassWeights = Annotated[
    Literal["none", "balanced"] | tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...],
    BeforeValidator(_known),
]
CLASS_WEIGHTS = (
    "what an example of each class weighs in the loss: none, all the same; balanced, n / (classes * images of the "
    "class); or a list of numbers, one a class"
)
UNEVEN = 4.0
"""Classes are uneven where the largest has more than so many times the images of the smallest."""


def class_counts(labels: Int64[Tensor, " n"], classes: int) -> Int64[Tensor, " classes"]:
    """How many examples each class has."""
    return torch.bincount(labels.cpu(), minlength=classes)


def are_uneven(counts: Int64[Tensor, " classes"]) -> bool:
    """Whether the largest class has more than `UNEVEN` times the images of the smallest.

    >>> are_uneven(torch.tensor([9, 2])), are_uneven(torch.tensor([8, 2]))
    (True, False)
    """
    return int(counts.max()) > UNEVEN * int(counts.min())


def balanced(counts: Int64[Tensor, " classes"]) -> Float32[Tensor, " classes"]:
    """n / (k n_c), with n examples, k classes and n_c examples of class c; 1 on average over the examples.

    As scikit-learn's `class_weight="balanced"` (King and Zeng, Political Analysis 2001).

    >>> balanced(torch.tensor([6, 2]))
    tensor([0.6667, 2.0000])
    """
    return (counts.sum() / (len(counts) * counts.clamp_min(1))).float()


def class_weights(
    setting: ClassWeights, counts: Int64[Tensor, " classes"], classes: Sequence[str]
) -> Float32[Tensor, " classes"] | None:
    """The weight of each class; None where all are 1.

    Raises:
        ConfigError: not a weight a class, or none above 0.
    """
    if setting == "none":
        return None
    if setting == "balanced":
        return balanced(counts)
    if len(setting) != len(classes):
        some = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
        raise ConfigError(
            f"task.class_weights: {len(setting)} weights for {len(classes)} classes; give one each, in the order {some}"
        )
    if not any(setting):
        raise ConfigError("task.class_weights: all weights are 0; at least one class must count")
    return torch.tensor(setting)


def range_text(counts: Int64[Tensor, " classes"], classes: Sequence[str]) -> str:
    """The extremes, for people: "12 images of cat, 480 of dog"."""
    least, most = int(counts.argmin()), int(counts.argmax())
    return f"{int(counts[least]):,} images of {classes[least]}, {int(counts[most]):,} of {classes[most]}"


def balanced_accuracy(hits: Tensor, counts: Tensor) -> float:
    """The mean over classes of the share of their examples that are right; classes without examples do not count.

    scikit-learn's `balanced_accuracy_score` (Brodersen et al., ICPR 2010).

    Args:
        hits, counts: of each class (k,), examples that are right, and examples.
    """
    there = counts > 0
    return float((hits[there] / counts[there]).mean())
