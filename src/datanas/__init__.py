"""Differentiable architecture search with DATA. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datanas.architecture import Architecture as Architecture
    from datanas.comparison.compare import Comparison as Comparison
    from datanas.comparison.compare import compare as compare
    from datanas.engine.config import Config as Config
    from datanas.engine.evaluation import evaluate as evaluate
    from datanas.engine.search import SearchResult as SearchResult
    from datanas.engine.search import derive as derive
    from datanas.engine.train import TrainResult as TrainResult
    from datanas.engine.train import train as train
    from datanas.exported import load_network as load_network
    from datanas.network import build_network as build_network
    from datanas.published import architecture as architecture
    from datanas.published import architectures as architectures
    from datanas.racing.race import RaceResult as RaceResult
    from datanas.racing.race import race as race
    from datanas.racing.search import search as search

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "datanas.architecture",
    "Comparison": "datanas.comparison.compare",
    "Config": "datanas.engine.config",
    "RaceResult": "datanas.racing.race",
    "SearchResult": "datanas.engine.search",
    "TrainResult": "datanas.engine.train",
    "build_network": "datanas.network",
    "load_network": "datanas.exported",
    "compare": "datanas.comparison.compare",
    "derive": "datanas.engine.search",
    "evaluate": "datanas.engine.evaluation",
    "race": "datanas.racing.race",
    "search": "datanas.racing.search",
    "train": "datanas.engine.train",
    "architecture": "datanas.published",
    "architectures": "datanas.published",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    try:
        return import_module(f"datanas.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"datanas.{name}":
            raise
        raise AttributeError(f"module 'datanas' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
