"""The rule `best_sample`: which of several architectures does best in the supernet, and that asking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.engine import selection
from datanas.engine.gap import measure_gap
from datanas.engine.search import SearchJob
from datanas.engine.selection import FINALISTS, FIRST_EXAMPLES, rank_architectures
from datanas.tasks.metric import Metric

CPU = torch.device("cpu")
Copy = Callable[[torch.nn.Module], dict[str, Tensor]]


@pytest.fixture
def job(search_job: Callable[..., SearchJob]) -> SearchJob:
    """A supernet that has learned a little."""
    made = search_job(search={"epochs": 4, "weights": {"lr": 0.1}})
    for step in range(12):
        made.step(step)
    return made


def some(job: SearchJob, count: int) -> list[Architecture]:
    found = job.sampler.candidates(count, seeding.generator(0, "test"))
    assert len(found) == count
    return found


def ranked(job: SearchJob, architectures: list[Architecture]) -> list[tuple[Architecture, float]]:
    return rank_architectures(architectures, job.supernet, job.task, job.config.search.gap, device=CPU, seed=0)


def measured(job: SearchJob, architecture: Architecture) -> float:
    """What the gap meter says of a child that is kept."""
    settings = job.config.search.gap
    gap = measure_gap(
        job.supernet, job.sampler, job.task, architecture, settings, device=CPU, seed=0, epoch=1, progress=1.0
    )
    return gap.child


def test_few_are_ranked_by_what_the_gap_meter_measures(job: SearchJob) -> None:
    architectures = some(job, 6)
    scores = {each: measured(job, each) for each in architectures}
    assert len(set(scores.values())) > 1
    for order in (architectures, architectures[::-1]):
        found = ranked(job, order)
        assert dict(found) == scores
        assert [score for _, score in found] == sorted(scores.values(), reverse=True)


def test_the_better_child_comes_first_wherever_it_stands(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    architectures = some(job, 3)
    for best in architectures:
        monkeypatch.setattr(selection, "_measure", lambda each, *rest, best=best: {"accuracy": float(each == best)})
        assert ranked(job, architectures)[0] == (best, 1.0)


@pytest.mark.parametrize("count", [3, FINALISTS + 3])
def test_where_less_is_better_the_lowest_score_comes_first(
    job: SearchJob, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    architectures = some(job, count)
    monkeypatch.setattr(type(job.task), "metric", Metric("accuracy", higher_is_better=False))
    monkeypatch.setattr(selection, "_measure", lambda each, *rest: {"accuracy": float(architectures.index(each))})
    kept = min(count, FINALISTS)
    assert ranked(job, architectures) == [(architectures[place], float(place)) for place in range(kept)]


def test_the_task_may_prefer_by_another_figure_than_its_score(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    architectures = some(job, 3)

    def measure(each: Architecture, *rest: Any) -> dict[str, float]:
        return {"accuracy": float(architectures.index(each)), "loss": float(architectures.index(each))}

    monkeypatch.setattr(selection, "_measure", measure)
    monkeypatch.setattr(type(job.task), "selection_score", lambda task, figures: -figures["loss"])
    assert ranked(job, architectures) == [(architectures[place], float(place)) for place in range(3)]


@pytest.mark.parametrize("count", [2, FINALISTS + 2])
@pytest.mark.parametrize("training", [True, False])
def test_ranking_changes_nothing(job: SearchJob, copied: Copy, count: int, training: bool) -> None:
    job.supernet.train(training)
    before, modes = copied(job.supernet), [part.training for part in job.supernet.modules()]
    momenta = [getattr(part, "momentum", None) for part in job.supernet.modules()]
    alphas, chance = copied(job.sampler), torch.get_rng_state()
    gradients = [weight.requires_grad for weight in job.supernet.parameters()]
    ranked(job, some(job, count))
    for old, new in ((before, copied(job.supernet)), (alphas, copied(job.sampler))):
        assert old.keys() == new.keys()
        assert all(torch.equal(value, new[name]) for name, value in old.items())
    assert [part.training for part in job.supernet.modules()] == modes
    assert [getattr(part, "momentum", None) for part in job.supernet.modules()] == momenta
    assert [weight.requires_grad for weight in job.supernet.parameters()] == gradients
    assert torch.equal(torch.get_rng_state(), chance)


def test_an_error_leaves_the_supernet_as_it_was(job: SearchJob, monkeypatch: pytest.MonkeyPatch, copied: Copy) -> None:
    def fail(*given: Any) -> float:
        raise RuntimeError("no more")

    monkeypatch.setattr(job.task, "evaluate", fail)
    before = copied(job.supernet)
    with pytest.raises(RuntimeError, match="no more"):
        ranked(job, some(job, 2))
    assert job.supernet.training
    assert all(torch.equal(value, before[name]) for name, value in copied(job.supernet).items())


def test_the_same_ranking_again(job: SearchJob) -> None:
    architectures = some(job, FINALISTS + 2)
    first = ranked(job, architectures)
    torch.rand(3)
    assert ranked(job, architectures) == first


@pytest.mark.parametrize(("count", "quick"), [(FINALISTS, 0), (FINALISTS + 3, FINALISTS + 3)])
def test_more_than_ten_meet_a_few_examples_first(
    job: SearchJob, monkeypatch: pytest.MonkeyPatch, count: int, quick: int
) -> None:
    """Of 13 the three that do worst there are not measured further, even if they would be best."""
    architectures = some(job, count)
    place = {each: number for number, each in enumerate(architectures)}
    measured_on: list[tuple[int, int | None]] = []

    def measure(each: Architecture, supernet: Any, task: Any, examples: int | None, device: Any) -> dict[str, float]:
        measured_on.append((place[each], examples))
        assert not supernet.training
        return {"accuracy": float(place[each] if examples == FIRST_EXAMPLES else -place[each])}

    monkeypatch.setattr(selection, "_measure", measure)
    found = ranked(job, architectures)
    assert measured_on[:quick] == [(number, FIRST_EXAMPLES) for number in range(quick)]
    finalists = set(range(count - FINALISTS, count))
    examples = job.config.search.gap.examples
    assert sorted(measured_on[quick:]) == sorted((number, examples) for number in finalists)
    assert [place[each] for each, _ in found] == sorted(finalists)


def test_a_job_keeps_the_best_with_its_score(job: SearchJob) -> None:
    best = ranked(job, job.sampler.candidates(5, seeding.generator(0, "candidates")))
    settings = job.sampler.derivation.model_copy(update={"rule": "best_sample", "candidates": 5})
    job.sampler.derivation = settings
    derivation = job.choose(3)
    assert derivation.ranking == (*best[:3],)
    assert derivation.architecture == best[0][0]
    assert derivation.measure == "accuracy on the alpha part"
    notes = {"score": best[0][1], "measure": "accuracy on the alpha part", "candidates": 5}
    assert derivation.architecture.posterior == notes


def test_the_task_s_own_state_is_put_back(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"seen": 3}
    original = job.task.loss

    def loss(model: Any, batch: Any) -> Tensor:
        state["seen"] += 1
        return original(model, batch)

    monkeypatch.setattr(job.task, "loss", loss)
    monkeypatch.setattr(job.task, "state_dict", lambda: state)
    monkeypatch.setattr(job.task, "load_state_dict", state.update)
    ranked(job, some(job, 2))
    assert state == {"seen": 3}


def test_as_many_come_back_as_are_asked_for(job: SearchJob) -> None:
    architectures = some(job, FINALISTS + 3)
    settings = job.config.search.gap
    found = rank_architectures(architectures, job.supernet, job.task, settings, device=CPU, seed=0, n=FINALISTS + 2)
    assert len(found) == FINALISTS + 2
    assert len(ranked(job, architectures)) == FINALISTS
