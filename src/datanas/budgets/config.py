"""The section `budget`: what the rebuilt network may cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from datanas.budgets.units import parse_bytes, parse_count, parse_milliseconds
from datanas.core.settings import Section

COSTS = ("macs", "parameters", "size", "memory", "latency")
Weights = dict[Literal["macs", "parameters", "size", "latency"], float]


class BudgetConfig(Section):
    """Bounds on the network that is built of what a search keeps, of the size of `train` (docs/budgets.md)."""

    macs: int | None = Field(None, description="multiply-adds of one example, such as 2M")
    parameters: int | None = Field(None, description="learned numbers, such as 500k; without the auxiliary tower")
    size: int | None = Field(None, description="bytes of the learned numbers at `precision`, such as 500kB")
    memory: int | None = Field(
        None, description="bytes of the activations that inference of one example holds at once, such as 64MB"
    )
    latency: float | None = Field(
        None, description="of one forward pass by `latency_table`, such as 5ms; a number alone is milliseconds"
    )
    precision: Literal["float32", "float16", "bfloat16", "int8"] = Field(
        "float32", description="of the weights of `size`"
    )
    latency_table: Path | None = Field(
        None, description="CSV or JSON of milliseconds by operation; docs/budgets.md has the forms"
    )
    timed: bool = Field(
        True,
        description="where latency_table was calibrated on this machine: time what is to be kept, and take the next "
        "likeliest where it misses the bound",
    )
    weight: float | Weights | None = Field(
        None,
        description="a fixed weight of each cost in the alpha loss, or one for all that are bounded; null: multipliers "
        "that adapt to the bounds",
    )
    fill: bool = Field(False, description="make the network that is trained as wide as stays within all bounds")

    @field_validator("macs", "parameters", mode="before")
    @classmethod
    def count(cls, value: object) -> int | None:
        return None if value is None else parse_count(value)

    @field_validator("size", "memory", mode="before")
    @classmethod
    def in_bytes(cls, value: object) -> int | None:
        return None if value is None else parse_bytes(value)

    @field_validator("latency", mode="before")
    @classmethod
    def milliseconds(cls, value: object) -> float | None:
        return None if value is None else parse_milliseconds(value)

    @field_validator("weight")
    @classmethod
    def not_negative(cls, weight: float | Weights | None) -> float | Weights | None:
        for value in weight.values() if isinstance(weight, dict) else [] if weight is None else [weight]:
            if not value >= 0:
                raise ValueError(f"must be at least 0, got {value}")
        return weight

    @model_validator(mode="after")
    def whole(self) -> BudgetConfig:
        if (self.latency is not None or "latency" in self.weights) and self.latency_table is None:
            raise ValueError("latency needs latency_table: a file of milliseconds by operation, got none")
        if self.fill and not self.bounds:
            raise ValueError("fill needs a bound, such as macs: 600M, got none")
        if isinstance(self.weight, float) and not set(self.bounds) - {"memory"}:
            raise ValueError(
                "weight: of no cost that is bounded; name the cost, such as {macs: 0.1}, got a number alone"
            )
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are given, by cost."""
        return {name: value for name in COSTS if (value := getattr(self, name)) is not None}

    @property
    def weights(self) -> Mapping[str, float]:
        """The fixed weights, by cost."""
        if isinstance(self.weight, dict):
            return {str(name): value for name, value in self.weight.items()}
        return {} if self.weight is None else {name: self.weight for name in self.bounds if name != "memory"}

    @property
    def is_given(self) -> bool:
        """Whether anything is bounded or weighted."""
        return bool(self.bounds or self.weights)
