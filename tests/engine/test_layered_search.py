"""Whole networks are searched, resumed and derived by every method that the space does not refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError, Interrupted
from datanas.core.settings import merge
from datanas.engine.derive import derive
from datanas.engine.search import SearchJob, search
from datanas.engine.train import train
from datanas.samplers import samplers

Make = Callable[..., dict[str, Any]]
MACRO = {"space": {"name": "macro", "channels": 2, "features": 4}, "task": {"stem": "plain"}}
MOBILE = {"name": "mobile", "layers": [1, 2], "widths": [1, 2], "strides": [1, 2]}


@pytest.fixture
def whole(config: Make) -> Make:
    """A tiny configuration of a space of whole networks."""

    def make(**over: Any) -> dict[str, Any]:
        given = config()
        del given["space"]
        given["train"] = {"channels": 2, "features": 4, "epochs": 1, "batch_size": given["train"]["batch_size"]}
        return merge(merge(given, MACRO), over)

    return make


@pytest.mark.parametrize("name", sorted(set(samplers) - {"pc_darts"}))
def test_a_method_keeps_one_operation_a_layer(name: str, whole: Make) -> None:
    small = {"derivation": {"candidates": 3}} if "derivation" in samplers[name].Config.model_fields else {}
    found = search(whole(sampler={"name": name, **small}, search={"epochs": 1}), quiet=True)
    kept = found.architecture
    assert (kept.space, kept.code["layers"].sum(axis=1).tolist()) == ("macro", [1] * 8)
    assert derive(found.path).architecture.to_genotype() == kept.to_genotype()


def test_parts_of_channels_are_refused(whole: Make) -> None:
    with pytest.raises(ConfigError, match=r"space\.name: macro cannot run its operations on part of the channels"):
        search(whole(sampler={"name": "pc_darts", "parts": 2}), quiet=True)


def test_a_stopped_search_ends_as_without_a_stop(
    whole: Make, interrupt: Callable[..., None], final_state: Any, same: Any
) -> None:
    first = search(whole(), quiet=True)
    stopped = whole()
    interrupt(SearchJob, 4)
    with pytest.raises(Interrupted):
        search(stopped, quiet=True)
    again = search(stopped, quiet=True)
    assert same(final_state(first.path), final_state(again.path))
    assert again.architecture.to_json() == first.architecture.to_json()


def test_several_operations_a_layer_are_drawn_and_kept(whole: Make) -> None:
    found = search(whole(space={"several": True}, sampler={"name": "egs", "samples": 4}), quiet=True)
    counts = found.architecture.code["layers"].sum(axis=1)
    assert counts.min() >= 1
    assert counts.max() > 1  # four draws of three nearly even operations


def test_a_budget_bounds_what_is_kept(whole: Make) -> None:
    """With a bound between the least and the largest network, and one below the least."""
    free = search(whole(search={"epochs": 1}, budget={"macs": "1G"}), quiet=True).architecture
    costs = dict((free.posterior or {})["costs"])
    bound = int(0.8 * costs["macs"])
    within = search(whole(search={"epochs": 1}, budget={"macs": bound}), quiet=True).architecture
    assert (within.posterior or {})["costs"]["macs"] <= bound < costs["macs"]
    with pytest.raises(ConfigError, match="budget"):
        search(whole(search={"epochs": 1}, budget={"macs": 10}), quiet=True)


def test_what_is_kept_is_trained_at_the_width_of_a_bound(whole: Make) -> None:
    settings = whole(search={"epochs": 1})
    kept = search(settings, quiet=True).architecture
    result = train(kept, whole(train={"max_macs": 120_000}), quiet=True)
    assert result.channels > 2


@pytest.mark.parametrize("name", ["egs", "darts", "evolution"])
def test_stages_are_searched_derived_and_trained(name: str, whole: Make) -> None:
    settings = whole(space=MOBILE, sampler={"name": name}, search={"epochs": 1})
    kept = search(settings, quiet=True).architecture
    assert list(kept.cells) == ["stage1_layers_w100", "stage2_entry_w200_s2", "stage2_layers_w200"]
    assert Architecture.from_text(kept.to_genotype()) == replace(kept, posterior=None, source=None)
    assert train(kept, whole(space=MOBILE), quiet=True).channels == 2
