"""The examples in the docstrings of public names run as they stand there."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import datanas

MODULES = (
    "egs",
    "blocks.choice",
    "blocks.choice_input",
    "blocks.choice_repeat",
    "blocks.choice_width",
    "blocks.resolve",
    "nn.activation",
    "nn.pooling",
    "posterior",
    "constraint",
    "lookup",
    "network",
    "own_loop",
    "codes.architecture",
    "core.text_table",
    "codes.published",
    "engine.config",
    "engine.derive",
    "engine.evaluation",
    "engine.profile",
    "engine.train",
    "racing.search",
    "tasks.metric",
)
EXPLAINED = (
    datanas.egs.gumbel_softmax,
    datanas.egs.ensemble_gumbel_softmax,
    datanas.posterior.inclusion_probs,
    datanas.posterior.log_prob,
    datanas.posterior.most_probable,
    datanas.posterior.top,
    datanas.posterior.expected_cost,
    datanas.constraint.constraint,
    datanas.Architecture,
    datanas.Architecture.from_json,
    datanas.Architecture.from_genotype,
    datanas.build_network,
    datanas.architecture,
    datanas.architectures,
    datanas.Choice,
    datanas.ChoiceInput,
    datanas.ChoiceRepeat,
    datanas.ChoiceWidth,
    datanas.Search,
    datanas.resolve,
    datanas.nn.EnsembleGumbelSoftmax,
    datanas.nn.EnsemblePooling,
    datanas.search,
    datanas.derive,
    datanas.train,
    datanas.evaluate,
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(
    name: str, tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {section: value for section, value in tiny_config.items() if section != "run"}
    module = import_module(f"datanas.{name}")
    failed, tried = doctest.testmod(module, extraglobs={"torch": torch, "datanas": datanas, "recipe": recipe})
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("entry", EXPLAINED, ids=lambda entry: getattr(entry, "__qualname__", str(entry)))
def test_a_public_name_has_an_example(entry: Any) -> None:
    assert ">>> " in (inspect.getdoc(entry) or "")
