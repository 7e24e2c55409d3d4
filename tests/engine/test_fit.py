"""What does not fit is refused from the settings alone: no data set here exists."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError, CheckpointError, ConfigError, DataError
from datanas.engine.config import resolve
from datanas.engine.dry_run import estimate_search, estimate_train
from datanas.engine.fit import require_search, require_training
from datanas.engine.search import search
from datanas.engine.train import train
from datanas.lookup import architecture
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.spaces.base import Space

NOWHERE = {"data": {"name": "cifar10", "root": "nowhere"}, "device": "cpu"}
SEARCHES = [
    ({"sampler": {"name": "pc_darts"}, "space": {"channels": 6}}, r"^space\.channels: 6 cannot be divided into"),
    ({"space": "nasbench201", "sampler": {"derivation": {"rule": "top_edges"}}}, r"^sampler\.derivation: top_edges"),
    ({"sampler": {"name": "random", "derivation": {"rule": "top_operations"}}}, r"^sampler\.derivation\.rule: "),
    ({"space": "recurrent_cell", "task": "classification"}, r"recurrent_cell"),
    ({"truth": {"table": "gone.npz"}}, r"^truth\.table: a table holds cells of one operation an edge"),
    ({"task": "language", "space": "recurrent_cell", "search": {"shuffled_labels": True}}, r"no labels to shuffle"),
    ({"devices": 3}, r"^search\.batch_size: 64 images cannot be shared by 3 processes"),
]


@pytest.mark.parametrize(("settings", "message"), SEARCHES)
def test_a_search_that_cannot_be_is_refused_before_its_data(settings: dict[str, Any], message: str) -> None:
    config = resolve({**NOWHERE, **settings})
    for begin in (search, estimate_search):
        with pytest.raises(ConfigError, match=message):
            begin(config)


def test_a_search_that_fits_asks_for_its_data() -> None:
    """Negative control."""
    with pytest.raises(DataError):
        search(NOWHERE)


@pytest.mark.parametrize("space", list(spaces))
@pytest.mark.parametrize("sampler", ["egs", "pc_darts"])
def test_every_space_fits_the_task_that_it_is_for(space: str, sampler: str) -> None:
    if sampler == "pc_darts" and spaces[space].partial_body is Space.partial_body:
        pytest.skip("no part of the channels there")
    require_search(resolve({"space": space, "sampler": sampler}))


@pytest.mark.parametrize("sampler", list(samplers))
def test_every_method_fits_the_space_that_is_searched_where_nothing_is_said(sampler: str) -> None:
    require_search(resolve({"sampler": sampler}))


def test_looking_leaves_the_caller_s_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    require_search(resolve({"space": {"channels": 12}}))
    require_training(resolve({"train": {"channels": 4, "cells": 3}}), architecture("darts_v2"))
    assert torch.equal(torch.rand(2), expected)


def strange() -> Architecture:
    return Architecture.from_genotype(
        "Genotype(normal=[(sep_conf_3x3, 0), (skip_connect, 1)], normal_concat=[2], "
        "reduce=[(skip_connect, 0), (skip_connect, 1)], reduce_concat=[2])"
    )


@pytest.mark.parametrize(
    ("cell", "settings", "error", "message"),
    [
        (architecture("darts_v2_rnn"), {}, ConfigError, r"^task\.name: darts_v2_rnn of space recurrent_cell cannot be"),
        (strange(), {}, ArchitectureError, r"unknown operation 'sep_conf_3x3'"),
        (architecture("darts_v2"), {"devices": 5}, ConfigError, r"^train\.batch_size: 96 images cannot be shared by 5"),
        (architecture("darts_v2"), {"train": {"start_from": "gone"}}, CheckpointError, r"^train\.start_from: no such"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_its_data(
    cell: Architecture, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    config = resolve({**NOWHERE, **settings})
    with pytest.raises(error, match=message):
        train(cell, config)
    with pytest.raises(error, match=message):
        estimate_train(config, cell)
