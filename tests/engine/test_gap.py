"""The gap meter measures what it says, and leaves no trace."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.processes import ALONE, Processes
from datanas.engine.gap import Gap, architecture_gates, batch_statistics, measure_gap, re_estimated
from datanas.engine.search import SearchJob
from datanas.kernels.gates import host_gates
from datanas.network import build_network
from datanas.tasks.metric import Metric

CPU = torch.device("cpu")
Copy = Callable[[nn.Module], dict[str, Tensor]]


@pytest.fixture
def job(search_job: Callable[..., SearchJob]) -> SearchJob:
    """A search of a few steps, so that weights, statistics and alphas are no longer those of the start."""
    made = search_job(search={"gap": {"children": 3, "examples": None, "statistics_batches": 2}})
    for step in range(4):
        made.step(step)
    return made


def measure(job: SearchJob, kept: Architecture | None = None) -> Gap:
    kept = kept or job.sampler.derive().architecture
    settings = job.config.search.gap
    return measure_gap(
        job.supernet, job.sampler, job.task, kept, settings, device=CPU, seed=0, epoch=1, progress=job.times.progress(4)
    )


def batches(job: SearchJob) -> list[Any]:
    return [job.task.batch("weights", index) for index in range(job.config.search.gap.statistics_batches)]


@pytest.mark.parametrize("training", [True, False])
def test_measuring_changes_no_number_and_no_mode(job: SearchJob, copied: Copy, training: bool) -> None:
    job.supernet.train(training)
    modes = [part.training for part in job.supernet.modules()]
    momenta = [getattr(part, "momentum", None) for part in job.supernet.modules()]
    tracked = [getattr(part, "track_running_stats", None) for part in job.supernet.modules()]
    before, alphas, state = copied(job.supernet), copied(job.sampler), torch.get_rng_state()
    measure(job)
    assert all(torch.equal(value, before[name]) for name, value in job.supernet.state_dict().items())
    assert all(torch.equal(value, alphas[name]) for name, value in job.sampler.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in job.supernet.modules()] == modes
    assert [getattr(part, "momentum", None) for part in job.supernet.modules()] == momenta
    assert [getattr(part, "track_running_stats", None) for part in job.supernet.modules()] == tracked


def test_measuring_leaves_the_task_s_own_state(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"losses": torch.tensor(7)}
    loss = job.task.loss

    def counted(model: Any, batch: Any) -> Tensor:
        seen["losses"] += 1
        return loss(model, batch)

    monkeypatch.setattr(job.task, "loss", counted)
    monkeypatch.setattr(job.task, "state_dict", lambda: seen)
    monkeypatch.setattr(job.task, "load_state_dict", seen.update)
    measure(job)
    assert seen == {"losses": torch.tensor(7)}


def test_measuring_again_gives_the_same(job: SearchJob) -> None:
    first = measure(job)
    torch.rand(3)
    assert measure(job) == first


def test_everything_is_put_back_after_an_error(job: SearchJob, copied: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = copied(job.supernet)
    monkeypatch.setattr(job.task, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure(job)
    assert job.supernet.training
    assert all(torch.equal(value, before[name]) for name, value in job.supernet.state_dict().items())
    assert all(norm.track_running_stats for norm in norms(job.supernet))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


ONLY_A_MODEL: Any = SimpleNamespace(loss=lambda model, batch: model(batch), processes=ALONE)
"""A task of which nothing but the forward pass counts."""


def test_re_estimated_statistics_are_those_of_the_batches_alone() -> None:
    """The mean over batches of their means and unbiased variances, whatever was there before."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    for _ in range(3):
        norm(5 + torch.randn(4, 3, 2, 2))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    taken = [torch.randn(6, 3, 4, 4) * scale for scale in (1.0, 2.0, 3.0)]
    with re_estimated(norm, ONLY_A_MODEL, norm, taken):
        means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in taken]).mean(dim=0)
        variances = torch.stack([batch.var(dim=(0, 2, 3)) for batch in taken]).mean(dim=0)
        torch.testing.assert_close(norm.running_mean, means)
        torch.testing.assert_close(norm.running_var, variances)
        assert not norm.training
    assert norm.training
    assert norm.momentum == 0.1
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    assert not torch.allclose(before["running_mean"], means, atol=0.1)


def test_re_estimated_statistics_are_averaged_over_processes() -> None:
    norm, averaged = nn.BatchNorm2d(3), []
    task: Any = SimpleNamespace(
        loss=ONLY_A_MODEL.loss, processes=SimpleNamespace(average=lambda tensors: averaged.extend(tensors))
    )
    with re_estimated(norm, task, norm, [torch.randn(6, 3, 4, 4)]):
        assert [tensor.data_ptr() for tensor in averaged] == [
            norm.running_mean.data_ptr(),
            norm.running_var.data_ptr(),
        ]


@pytest.mark.parametrize("training", [True, False])
def test_re_estimating_puts_the_mode_back(training: bool) -> None:
    norm = nn.BatchNorm2d(2).train(training)
    with re_estimated(norm, ONLY_A_MODEL, norm, [torch.randn(4, 2, 2, 2)]):
        pass
    assert norm.training == training


def test_norms_that_a_child_does_not_use_keep_quiet() -> None:
    """Their statistics are reset inside and put back outside."""
    used, unused = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    both = nn.ModuleList([used, unused])
    unused(3 + torch.randn(4, 2, 2, 2))
    before = unused.get_buffer("running_mean").clone()
    with re_estimated(both, ONLY_A_MODEL, used, [torch.randn(4, 2, 2, 2)]):
        assert torch.equal(unused.get_buffer("running_mean"), torch.zeros(2))
    assert torch.equal(unused.get_buffer("running_mean"), before)


def test_batch_statistics_normalise_each_batch_by_itself(copied: Copy) -> None:
    norm = nn.BatchNorm2d(2).eval()
    before = copied(norm)
    x = 7 + 3 * torch.randn(8, 2, 4, 4)
    with batch_statistics(norm):
        inside = norm(x)
    torch.testing.assert_close(inside.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert not norm.training
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert not torch.allclose(norm(x), inside, atol=0.1)


def rebuilt(job: SearchJob, kept: Architecture) -> nn.Module:
    """The network of an architecture, as large as the supernet and with its weights."""
    space: Any = job.config.space
    network = build_network(kept, num_classes=3, channels=space.channels, cells=space.cells, pooling_norm=True)
    weights = job.supernet.state_dict()
    missing = network.load_state_dict({k: v for k, v in weights.items() if k in network.state_dict()}, strict=False)
    # The rebuilt norms scale by 1 and shift by 0 until they learn.
    assert all(name.rsplit(".", 1)[1] in ("weight", "bias") for name in missing.missing_keys)
    return network


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_the_child_kept_is_the_rebuilt_network_with_the_supernet_s_weights(
    search_job: Callable[..., SearchJob], aggregate: str
) -> None:
    gap = {"children": 2, "examples": None, "statistics_batches": 2}
    job = search_job(search={"gap": gap}, sampler={"normalise": aggregate})
    for step in range(4):
        job.step(step)
    kept = job.sampler.derive().architecture
    network = rebuilt(job, kept)
    child = job.supernet.child(architecture_gates(kept, CPU))
    x = job.task.batch("alpha", 0).images
    with (
        re_estimated(network, job.task, network, batches(job)),
        re_estimated(job.supernet, job.task, child, batches(job)),
        torch.no_grad(),
    ):
        torch.testing.assert_close(network(x), child(x), rtol=1e-4, atol=1e-5)
        assert measure(job, kept).child == job.task.evaluate(network, "alpha")["accuracy"]


def test_another_child_computes_something_else(job: SearchJob) -> None:
    """Negative control."""
    first, second = (architecture for architecture, _ in job.sampler.derive(2).ranking)
    x = job.task.batch("alpha", 0).images
    with torch.no_grad(), batch_statistics(job.supernet):
        one, two = (job.supernet(x, architecture_gates(kept, CPU)) for kept in (first, second))
    assert not torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_children_are_drawn_with_their_own_keys_and_scored_alone(job: SearchJob) -> None:
    scores = []
    for index in range(3):
        with torch.no_grad():
            draw = job.sampler.draw(job.times.progress(4), seeding.generator(0, "gap/children", 1, index))
        child = job.supernet.child(host_gates(draw.gates, CPU))
        with re_estimated(job.supernet, job.task, child, batches(job)):
            scores.append(job.task.evaluate(child, "alpha")["accuracy"])
    found = measure(job)
    assert found.children_mean == pytest.approx(statistics.mean(scores))
    assert found.children_variance == pytest.approx(statistics.variance([100 * score for score in scores]))
    assert found.children_variance > 0


def test_the_supernet_draws_anew_for_every_batch(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 6)
    drawn: list[Tensor] = []
    original = job.sampler.draw
    monkeypatch.setattr(job.sampler, "draw", lambda *args: drawn.append(args) or original(*args))
    measure(job)
    # 24 images of the alpha part in batches of 6, then three children; the child that is kept is not drawn.
    assert len(drawn) == 4 + 3


class OneOfTwo(Processes):
    """One of two processes, that hears nothing from the other."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_processes_draw_for_each_other_s_batches_too(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """So each batch meets the gates that it would meet in one process."""
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 6)
    met: list[Tensor] = []
    forward = job.supernet.forward

    def noted(x: Tensor, gates: Any) -> Any:
        met.append(gates["normal"].values)
        return forward(x, gates)

    monkeypatch.setattr(job.supernet, "forward", noted)
    measure(job)
    alone, shares = met[:4], []
    for rank in range(2):
        met.clear()
        job.task.processes = OneOfTwo(rank)
        measure(job)
        shares.append(met[:2])
    for (first, second), expected in zip(zip(*shares, strict=True), (alone[:2], alone[2:]), strict=True):
        assert torch.equal(first, expected[0])
        assert torch.equal(second, expected[1])
    assert not torch.equal(alone[0], alone[1])


def test_the_gap_is_the_supernet_s_score_minus_the_kept_child_s(job: SearchJob) -> None:
    gap = measure(job)
    assert gap.gap == gap.supernet - gap.child
    assert gap.figures() == {f"gap/{name}": value for name, value in asdict(gap).items()}
    assert list(gap.figures()) == [
        *("gap/supernet", "gap/children_mean", "gap/children_variance", "gap/child", "gap/inherited", "gap/gap"),
        "gap/selection_score",
    ]
    assert gap.selection_score == gap.child


def scripted(job: SearchJob, monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> Gap:
    """The gap where the task finds these scores, in turn: supernet, children, inherited, child."""
    monkeypatch.setattr(job.task, "evaluate", lambda *given: {job.task.metric.name: scores.pop(0)})
    return measure(job)


def test_of_a_score_of_which_less_is_better_the_gap_is_what_the_child_has_more(
    job: SearchJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(job.task), "metric", Metric("accuracy", is_share=False, higher_is_better=False))
    gap = scripted(job, monkeypatch, [80.0, 100.0, 104.0, 108.0, 300.0, 95.0])
    assert (gap.supernet, gap.child, gap.inherited, gap.gap) == (80.0, 95.0, 300.0, 15.0)
    assert gap.children_variance == statistics.variance([100.0, 104.0, 108.0]) == 16.0
    assert gap.text(job.task) == "accuracy: supernet 80.0  children 104.0 (variance 16.00)  child kept 95.0  gap +15.0"


def test_a_share_is_told_in_per_cent_and_points(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    gap = scripted(job, monkeypatch, [0.8, 0.5, 0.52, 0.54, 0.4, 0.6])
    assert gap.text(job.task) == (
        "accuracy: supernet 80.0%  children 52.0% (variance 4.00)  child kept 60.0%  gap +20.0 points"
    )


@pytest.mark.parametrize("higher", [True, False])
def test_the_score_by_which_epochs_are_compared_rises_with_the_child(
    job: SearchJob, monkeypatch: pytest.MonkeyPatch, higher: bool
) -> None:
    monkeypatch.setattr(type(job.task), "metric", Metric("accuracy", higher_is_better=higher))
    report = job.end_epoch(2, {"loss": 0.0})
    assert report.score == (1 if higher else -1) * report.figures["gap/child"]


def test_a_limit_is_kept(job: SearchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = job.config.search.gap.model_copy(update={"examples": 12})
    limits: list[object] = []
    original = job.task.evaluate
    monkeypatch.setattr(job.task, "evaluate", lambda *args: limits.append(args[1:]) or original(*args))
    kept = job.sampler.derive().architecture
    measure_gap(job.supernet, job.sampler, job.task, kept, limited, device=CPU, seed=0, epoch=1, progress=0.5)
    assert limits == [("alpha", 12)] * 6
