"""The cost models that a section `budget` asks for."""

from __future__ import annotations

from datanas.budgets.base import CostModel
from datanas.budgets.calibrated import CalibratedLatency, is_calibrated
from datanas.budgets.config import COSTS, BudgetConfig
from datanas.budgets.counted import Macs, Parameters, Size
from datanas.budgets.latency_rows import LatencyRows
from datanas.budgets.memory import Memory


def models_of(config: BudgetConfig) -> dict[str, CostModel]:
    """The models of all costs that are bounded or weighted, by name.

    Raises:
        DataError: the table of latencies is missing or wrong.
    """
    wanted = [name for name in COSTS if name in config.bounds or name in config.weights]
    return {name: _model(name, config) for name in wanted}


def _model(name: str, config: BudgetConfig) -> CostModel:
    match name:
        case "macs":
            return Macs()
        case "parameters":
            return Parameters()
        case "size":
            return Size(config.precision)
        case "memory":
            return Memory()
        case _:
            assert config.latency_table is not None
            table = config.latency_table
            return CalibratedLatency.load(table) if is_calibrated(table) else LatencyRows.load(table)
