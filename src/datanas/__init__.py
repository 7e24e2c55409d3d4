"""Differentiable architecture search with DATA. The public names; each is imported when it is first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from datanas.blocks.choice import Choice as Choice
    from datanas.blocks.choice_input import ChoiceInput as ChoiceInput
    from datanas.blocks.choice_repeat import ChoiceRepeat as ChoiceRepeat
    from datanas.blocks.choice_width import ChoiceWidth as ChoiceWidth
    from datanas.blocks.resolve import resolve as resolve
    from datanas.codes.architecture import Architecture as Architecture
    from datanas.comparison.compare import Comparison as Comparison
    from datanas.comparison.compare import compare as compare
    from datanas.deploy.load import load_network as load_network
    from datanas.deploy.predict import load as load
    from datanas.engine.config import Config as Config
    from datanas.engine.derive import derive as derive
    from datanas.engine.evaluation import evaluate as evaluate
    from datanas.engine.search_result import SearchResult as SearchResult
    from datanas.engine.train import train as train
    from datanas.engine.train_result import TrainResult as TrainResult
    from datanas.fitting.estimator import ImageClassifier as ImageClassifier
    from datanas.fitting.fit import fit as fit
    from datanas.fitting.stages import FitResult as FitResult
    from datanas.lookup import architecture as architecture
    from datanas.lookup import architectures as architectures
    from datanas.network import build_network as build_network
    from datanas.own_loop import Search as Search
    from datanas.racing.pareto import ParetoResult as ParetoResult
    from datanas.racing.pareto import pareto as pareto
    from datanas.racing.race import RaceResult as RaceResult
    from datanas.racing.race import race as race
    from datanas.racing.search import search as search

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "datanas.codes.architecture",
    "Choice": "datanas.blocks.choice",
    "ChoiceInput": "datanas.blocks.choice_input",
    "ChoiceRepeat": "datanas.blocks.choice_repeat",
    "ChoiceWidth": "datanas.blocks.choice_width",
    "Comparison": "datanas.comparison.compare",
    "Config": "datanas.engine.config",
    "FitResult": "datanas.fitting.stages",
    "ImageClassifier": "datanas.fitting.estimator",
    "ParetoResult": "datanas.racing.pareto",
    "RaceResult": "datanas.racing.race",
    "Search": "datanas.own_loop",
    "SearchResult": "datanas.engine.search_result",
    "TrainResult": "datanas.engine.train_result",
    "build_network": "datanas.network",
    "load": "datanas.deploy.predict",
    "load_network": "datanas.deploy.load",
    "compare": "datanas.comparison.compare",
    "derive": "datanas.engine.derive",
    "evaluate": "datanas.engine.evaluation",
    "fit": "datanas.fitting.fit",
    "pareto": "datanas.racing.pareto",
    "race": "datanas.racing.race",
    "resolve": "datanas.blocks.resolve",
    "search": "datanas.racing.search",
    "train": "datanas.engine.train",
    "architecture": "datanas.lookup",
    "architectures": "datanas.lookup",
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


class _OlderNames:
    """Asked for modules that nobody else knows."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith("datanas.") or name == "datanas.core.moved":
            return None
        from datanas.core.moved import find_moved

        return find_moved(name)


sys.meta_path.append(_OlderNames)


def __dir__() -> list[str]:
    return sorted(__all__)
