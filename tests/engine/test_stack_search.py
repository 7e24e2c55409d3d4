"""A cell of its own at each depth: searched by every method, resumed, bounded, derived, trained at another depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError, Interrupted
from datanas.core.settings import merge
from datanas.engine.collapse import is_collapsed
from datanas.engine.derive import derive
from datanas.engine.search import SearchJob, search
from datanas.engine.train import train
from datanas.network import count_live
from datanas.samplers import samplers
from datanas.spaces.conv_stack import ConvStackSpace, stack_groups
from datanas.spaces.network_config import ToweredConfig

Make = Callable[..., dict[str, Any]]
STACK = {
    "space": {"name": "conv_stack", "cells": 5, "nodes": 4},
    "search": {"epochs": 1, "gap": {"children": 2, "examples": 4, "statistics_batches": 1}},
    "train": {"epochs": 1, "channels": 2},
}


@pytest.fixture
def stack(config: Make) -> Make:
    """A tiny configuration of five cells."""

    def make(**over: Any) -> dict[str, Any]:
        return merge(merge(config(), STACK), over)

    return make


@pytest.mark.parametrize("name", sorted(samplers))
def test_a_method_keeps_a_cell_for_each_place(name: str, stack: Make) -> None:
    small: dict[str, Any] = {"parts": 2} if name == "pc_darts" else {}
    small |= {"derivation": {"candidates": 2}} if "derivation" in samplers[name].Config.model_fields else {}
    found = search(stack(sampler={"name": name, **small}), quiet=True)
    kept = found.architecture
    assert (kept.space, set(kept.cells)) == ("conv_stack", set(stack_groups(5)))
    assert derive(found.path).architecture.code.keys() == kept.code.keys()
    assert Architecture.from_json(kept.to_json()) == kept


def test_a_stopped_search_ends_as_without_a_stop(
    stack: Make, interrupt: Callable[..., None], final_state: Any, same: Any
) -> None:
    sampler = {"name": "egs", "constraint": {"over": "architecture", "depth_power": 1.0}}
    first = search(stack(sampler=sampler), quiet=True)
    stopped = stack(sampler=sampler)
    interrupt(SearchJob, 2)
    with pytest.raises(Interrupted):
        search(stopped, quiet=True)
    again = search(stopped, quiet=True)
    assert same(final_state(first.path), final_state(again.path))
    assert again.architecture.to_json() == first.architecture.to_json()


@pytest.mark.parametrize("cells", [5, 8])
def test_a_budget_bounds_what_is_kept_at_the_depth_of_the_network(cells: int, stack: Make) -> None:
    depth = {"train": {"cells": cells}}
    free = search(stack(budget={"macs": "1G"}, **depth), quiet=True).architecture
    costs = dict((free.posterior or {})["costs"])
    bound = int(0.8 * costs["macs"])
    found = search(stack(budget={"macs": bound}, **depth), quiet=True)
    assert (found.architecture.posterior or {})["costs"]["macs"] <= bound < costs["macs"]
    result = train(found.architecture, stack(**depth), quiet=True)
    assert result.evaluation.macs == (found.architecture.posterior or {})["costs"]["macs"]
    with pytest.raises(ConfigError, match="budget"):
        search(stack(budget={"macs": 10}, **depth), quiet=True)


def test_it_is_judged_as_one_network(stack: Make) -> None:
    """One cell of identities is a choice of depth; only all of them are a collapse."""
    made = ConvStackSpace(ConvStackSpace.Config(cells=5, nodes=4))
    group = made.groups()["normal_0"]
    code = {primitive: [[int(name == primitive) for name in group.primitives]] * 2 for primitive in group.primitives}
    kept = search(stack(), quiet=True).architecture

    def of(*operations: str) -> Architecture:
        cells = {
            name: replace(kept.cells[name], primitives=group.primitives, code=np.array(code[each], np.uint8))
            for name, each in zip(made.groups(), operations, strict=True)
        }
        return replace(kept, cells=cells)

    conv, skip = "sep_conv_3x3", "skip_connect"
    assert not is_collapsed(of(skip, conv, conv, conv, conv), made)
    assert not is_collapsed(of(skip, conv, skip, skip, skip), made)  # in a reduction it is no identity
    assert is_collapsed(of(skip, "max_pool_3x3", skip, "max_pool_3x3", skip), made)


def test_a_depth_below_the_least_and_a_constraint_without_depths_are_refused(stack: Make) -> None:
    with pytest.raises(ConfigError, match=r"space\.cells: .*5"):
        search(stack(space={"cells": 4}), quiet=True)
    with pytest.raises(ConfigError, match=r"depth_power: the choice groups of space conv_cell stand at no one depth"):
        search(
            stack(space={"name": "conv_cell"}, sampler={"name": "egs", "constraint": {"depth_power": 1}}), quiet=True
        )


def test_twenty_cells_are_trained_from_five(stack: Make) -> None:
    kept = search(stack(), quiet=True).architecture
    result = train(kept, stack(train={"cells": 20}), quiet=True)
    assert result.path is not None
    assert count_live(kept, ToweredConfig(cells=20)).of == 20
