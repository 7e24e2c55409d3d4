"""Bounds as people write them."""

from __future__ import annotations

import pytest

from datanas.budgets.config import BudgetConfig
from datanas.budgets.units import parse_bytes, parse_count, parse_milliseconds, show
from datanas.core.errors import ConfigError
from datanas.core.settings import validate


@pytest.mark.parametrize(
    ("text", "count"), [("2M", 2_000_000), ("500k", 500_000), ("1.2G", 1_200_000_000), (7, 7), ("1e6", 1_000_000)]
)
def test_counts(text: object, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "size"), [("500kB", 500_000), ("64MB", 64_000_000), ("2MiB", 2**21), (12, 12), ("9 B", 9)]
)
def test_bytes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(("text", "time"), [("5ms", 5.0), ("800us", 0.8), ("0.1s", 100.0), (5.5, 5.5), (3, 3.0)])
def test_times(text: object, time: float) -> None:
    assert parse_milliseconds(text) == pytest.approx(time)


@pytest.mark.parametrize("text", ["2MB", "5ms", "", "-2M", "0", "nan", "inf", "1e400", "two", True, "2 M M"])
def test_what_is_no_count_is_told(text: object) -> None:
    with pytest.raises(ValueError, match="must be a count, such as 500k"):
        parse_count(text)


@pytest.mark.parametrize("text", ["64M", "5ms", "64Mb", "0B", "-1kB"])
def test_what_is_no_size_is_told(text: object) -> None:
    with pytest.raises(ValueError, match="must be a size in bytes, such as 500kB, 64MB or 2MiB, got"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["5", "5M", "0ms", "-1ms", "fast"])
def test_what_is_no_time_is_told(text: object) -> None:
    with pytest.raises(ValueError, match="must be a time with its unit"):
        parse_milliseconds(text)


def test_costs_for_people() -> None:
    assert show(1_980_000, "multiply-adds") == "1.98 M multiply-adds"
    assert show(412_000, "B") == "412 kB"
    assert show(4.712, "ms") == "4.71 ms"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"macs": "3x"}, r"budget.macs: must be a count.*got '3x'"),
        ({"latency": "5ms"}, "budget: latency needs latency_table"),
        ({"fill": True}, "budget: fill needs a bound"),
        ({"macs": "1M", "weight": -1.0}, "budget.weight: must be at least 0"),
        ({"weight": 0.1}, "budget: weight: of no cost that is bounded"),
        ({"flops": "1M"}, "budget.flops: unknown key"),
    ],
)
def test_a_section_without_sense_is_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(BudgetConfig, raw, "budget")


def test_a_section_reads_back_what_it_writes() -> None:
    config = BudgetConfig(macs="2M", size="500kB", latency="5ms", latency_table="t.csv", weight={"macs": 0.1})
    assert BudgetConfig(**config.model_dump(mode="json")) == config
    assert config.bounds == {"macs": 2e6, "size": 5e5, "latency": 5.0}
    assert not BudgetConfig().is_given


@pytest.mark.parametrize(("text", "count"), [("2.05M", 2_050_000), ("8.2M", 8_200_000), ("4.02k", 4_020)])
def test_no_count_is_cut_off_by_one(text: str, count: int) -> None:
    assert parse_count(text) == count
