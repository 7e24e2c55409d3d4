"""Settings of language modelling that suit a text: those that it is begun with, and lighter ones of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LARGE_VOCABULARY, SAMPLED_WORDS = 8_000, 1024
"""From so many words on a fit draws so many of them for each step's loss (docs/language.md has the figures)."""
LIGHTER_COLUMNS, FEWER_WORDS = (16, 8), 120_000
"""Of a search for which time is short; so many words make some 200 steps of the fewest columns."""
_MOST_COLUMNS = 32
"""Of a search."""


def suited(words: int, vocabulary: int) -> Mapping[str, Any]:
    """A cell of 128 units that some minutes suffice for (`recipes/small/ptb.yaml`).

    Args:
        words: of the training text.
        vocabulary: different ones.
    """
    columns = _columns(words)
    few = min(1.0, LARGE_VOCABULARY / vocabulary)  # of the words that are measured: each costs as much
    return {
        "task": {
            "bias": "frequencies",
            "dropout": {"embedding": 0.1, "input": 0.1, "hidden": 0.1, "output": 0.3},
            "sampled_words": SAMPLED_WORDS if vocabulary >= LARGE_VOCABULARY else None,
        },
        "space": {"hidden": 128},
        "search": {
            "examples": min(200_000, words),
            "batch_size": min(_MOST_COLUMNS, columns),
            "alpha_start": 0.1,
            "weights": {"lr": 2.0, "lr_min": 0.2, "schedule": "cosine"},
            "gap": {"examples": round(20_000 * few)},
        },
        "train": {
            "channels": 128,
            "batch_size": columns,
            "average_after": None,
            "weights": {"lr": 20.0, "schedule": "cosine", "lr_min": 0.0},
        },
    }


def lighter(words: int) -> Sequence[Mapping[str, Any]]:
    """Fewer columns in a step of the search, fewer words to measure the gap on, at last fewer to search with."""
    gap, usual = {"examples": 2_000}, min(_MOST_COLUMNS, _columns(words))
    steps = [{"batch_size": count, "gap": gap} for count in LIGHTER_COLUMNS if count < usual]
    if steps and words > FEWER_WORDS:
        steps.append({**steps[-1], "examples": FEWER_WORDS})
    return [{"search": step} for step in steps]


def _columns(words: int) -> int:
    """Of a training: few words make few steps of many columns."""
    return next(size for least, size in ((500_000, 64), (50_000, 32), (5_000, 16), (0, 4)) if words >= least)
