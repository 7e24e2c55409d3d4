"""A task of which the lower score is the better one and no share, with a validation part of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import pytest

from datanas.tasks import tasks
from datanas.tasks.base import Model, Part
from datanas.tasks.classification import Classification, ImageBatch
from datanas.tasks.metric import Metric


class Perplexing(Classification):
    """Classification of images by the perplexity of the labels; the part `validation` is the test set.

    `monitor` gives the numbers of `SCRIPT` in turn, where there are any.
    """

    class Config(Classification.Config):
        name: Literal["perplexing"] = "perplexing"  # type: ignore[assignment]
        factor: float = 1.0

    metric: ClassVar[Metric] = Metric("perplexity", is_share=False, higher_is_better=False)
    unit: ClassVar[str] = "example"
    has_validation = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "space": {"name": "conv_cell", "channels": 3},
        "sampler": {"name": "egs", "samples": 2},
        "search": {"weights": {"schedule": "constant"}},
        "train": {"epochs": 6, "average_after": 2},
    }
    SCRIPT: ClassVar[tuple[float, ...]] = ()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.monitored = 0

    def state_dict(self) -> dict[str, Any]:
        return {"monitored": self.monitored}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.monitored = state["monitored"]

    def lr_scale(self, batch: ImageBatch) -> float:
        factor: float = self.config.factor  # type: ignore[attr-defined]
        return factor

    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        found = super().evaluate(model, "test" if part == "validation" else part, limit)
        return {"perplexity": math.exp(found["loss"]), "loss": found["loss"]}

    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        if not self.SCRIPT:
            return {**super().monitor(model, part), "cheap": 1.0}
        self.monitored += 1
        return {"perplexity": self.SCRIPT[self.monitored - 1], "loss": 0.0}


@contextmanager
def known() -> Iterator[type[Perplexing]]:
    """Let the registry know the task, in a block."""
    list(tasks)  # filled, so that nothing is entered twice
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks._entries, "perplexing", Perplexing)
        yield Perplexing
