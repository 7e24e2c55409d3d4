"""Cells compared before training, and the start that alpha gets from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from datanas.codes.architecture import Architecture
from datanas.engine import untrained
from datanas.engine.config import resolve
from datanas.engine.search import SearchJob
from datanas.engine.setup import build_sampler, build_space, load_task
from datanas.engine.untrained import prior_children, untrained_scores
from datanas.samplers.base import Sampler

from .conftest import CPU

Make = Callable[..., dict[str, Any]]
FEW = {"sampler": {"prior": {"children": 6}}}
MEASURED = {"space": {"name": "nasbench201"}}


def of_one(operation: str, make: Make) -> Architecture:
    """A cell of which every edge holds this operation and no other."""
    config = resolve(make())
    sampler = build_sampler(config, build_space(config))
    codes = {name: torch.zeros(group.shape) for name, group in sampler.groups.items()}
    for name, group in sampler.groups.items():
        codes[name][:, group.primitives.index(operation)] = 1.0
    return sampler.assemble(codes)


def test_convolutions_score_above_identities_and_a_dead_cell_below_both(config: Make) -> None:
    settings = resolve(config())
    task = load_task(settings, CPU)
    cells = [of_one(name, config) for name in ("sep_conv_3x3", "none", "skip_connect")]
    many, dead, few = untrained_scores(cells, settings, task)
    assert many > few > dead


def alpha_of(job: SearchJob) -> nn.ParameterDict:
    assert isinstance(job.sampler, Sampler)
    return job.sampler.alpha


@pytest.mark.parametrize(
    ("over", "children"),
    [
        ({}, 0),
        (MEASURED, untrained.PRIOR_CHILDREN),
        ({**MEASURED, "train": {"max_macs": "1M"}}, 0),
        ({**MEASURED, "search": {"race": {"max_macs": "1M"}}}, 0),
        ({"train": {"max_macs": "1M"}, **FEW}, 6),
        ({"sampler": {"preset": "paper"}}, 0),
        ({"sampler": {"preset": "official"}}, 0),
        ({"sampler": {"name": "darts"}}, 0),
    ],
    ids=str,
)
def test_how_many_cells_are_scored(over: dict[str, Any], children: int) -> None:
    assert prior_children(resolve(over)) == children


def test_alpha_starts_from_the_scores_at_the_first_step_only(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(**FEW, search={"alpha_start": 0.9, "epochs": 2})
    assert all(bool((alpha == 0).all()) for alpha in alpha_of(job).values())
    job.step(0)
    started = {name: alpha.detach().clone() for name, alpha in alpha_of(job).items()}
    assert all(float(alpha.abs().max()) > 0.01 for alpha in started.values())
    with torch.no_grad():
        for alpha in alpha_of(job).values():
            alpha.zero_()
    job.step(1)
    assert all(bool((alpha == 0).all()) for alpha in alpha_of(job).values())


def test_the_strength_is_a_factor(search_job: Callable[..., SearchJob]) -> None:
    starts = []
    for strength in (1.0, 2.0):
        job = search_job(sampler={"prior": {"children": 6, "strength": strength}}, search={"alpha_start": 0.9})
        job.step(0)
        starts.append(alpha_of(job)["normal"].detach().clone())
    assert torch.allclose(starts[1], 2 * starts[0])


def test_without_children_alpha_starts_flat(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(sampler={"prior": {"children": 0}}, search={"alpha_start": 0.9})
    job.step(0)
    assert all(bool((alpha == 0).all()) for alpha in alpha_of(job).values())
