"""Every registered method searches, resumes and derives; and what a search writes for a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.made_up_table import BEST, worth, write_table
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError, DataError, Interrupted
from datanas.core.settings import merge
from datanas.engine import loop
from datanas.engine.config import resolve
from datanas.engine.derive import derive
from datanas.engine.search import SearchJob, search
from datanas.engine.setup import load_task
from datanas.engine.train import TrainJob, train
from datanas.kernels.hardware import count_parameters
from datanas.lookup import architecture
from datanas.samplers import samplers
from datanas.tasks.classification import Classification

Make = Callable[..., dict[str, Any]]
Read = Callable[[Path], dict[str, Tensor]]
Same = Callable[..., bool]
CPU = torch.device("cpu")
BENCHMARK = {"space": {"name": "nasbench201", "channels": 2}, "task": {"stem": "plain"}}


def sampler(name: str) -> dict[str, Any]:
    """The method, made small where it knows these settings."""
    small = {"derivation": {"candidates": 3}, "parts": 2}
    return {"name": name} | {key: small[key] for key in small.keys() & samplers[name].Config.model_fields.keys()}


def run(config: dict[str, Any], **options: Any) -> Any:
    return search(config, quiet=True, **options)


def folder_of(config: dict[str, Any]) -> Path:
    return Path(config["run"]["root"]) / config["run"]["name"]


def result_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "result.json").read_text())
    return found


@pytest.fixture
def benchmark(config: Make) -> Make:
    """A tiny configuration on NAS-Bench-201's space."""

    def make(**over: Any) -> dict[str, Any]:
        given = config()
        del given["space"]
        return merge(merge(given, BENCHMARK), over)

    return make


@pytest.mark.parametrize("name", list(samplers))
def test_a_method_searches_resumes_and_derives(
    name: str, config: Make, interrupt: Callable[..., None], final_state: Read, same: Same
) -> None:
    """Stopped in the middle of its second epoch it ends bit for bit as without a stop."""
    whole = run(config(sampler=sampler(name)))
    stopped = config(sampler=sampler(name))
    interrupt(SearchJob, 4)
    with pytest.raises(Interrupted, match="step 4/6"):
        run(stopped)
    assert not (folder_of(stopped) / "result.json").exists()
    resumed = run(stopped)
    first, second = final_state(whole.path), final_state(resumed.path)
    assert same(first, second)
    assert resumed.architecture.to_json() == whole.architecture.to_json()
    found, again = result_of(whole.path), result_of(resumed.path)
    for key in ("seconds", "peak_memory"):
        assert found.pop(key) > 0
        assert again.pop(key) > 0
    assert found == again
    derived = derive(whole.path).architecture
    assert derived == whole.architecture
    assert derived.posterior == whole.architecture.posterior


@pytest.mark.parametrize("name", list(samplers))
def test_a_method_keeps_one_operation_an_edge_on_the_benchmark(name: str, benchmark: Make) -> None:
    kept = run(benchmark(sampler=sampler(name), search={"epochs": 1})).architecture
    assert (kept.cells["cell"].code.sum(axis=1) <= 1).all()
    assert kept.space == "nasbench201"


@pytest.mark.parametrize("name", ["darts", "egs"])
def test_the_unrolled_hypergradient_finds_other_alphas(name: str, config: Make, final_state: Read) -> None:
    def alphas(kind: str) -> dict[str, Tensor]:
        settings = config(sampler=sampler(name), search={"epochs": 1, "hypergradient": kind})
        state = final_state(run(settings).path)
        return {key: value for key, value in state.items() if ".sampler.alpha" in key}

    first, unrolled = alphas("first_order"), alphas("unrolled")
    assert first.keys() == unrolled.keys() != set()
    assert any(not torch.equal(value, unrolled[key]) for key, value in first.items())
    assert all(bool(value.isfinite().all()) for value in unrolled.values())


@pytest.mark.parametrize("name", ["random", "enas", "evolution"])
def test_the_unrolled_hypergradient_needs_differentiable_gates(name: str, config: Make) -> None:
    settings = config(sampler=sampler(name), search={"hypergradient": "unrolled"})
    with pytest.raises(ConfigError, match=rf"^search\.hypergradient: unrolled .* sampler {name} does not"):
        run(settings)
    assert not folder_of(settings).exists()


def labels(settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Those of the training and of the test images of a search that is set up."""
    resolved = resolve(settings)
    task = load_task(resolved, CPU)
    assert isinstance(task, Classification)
    SearchJob(resolved, task, CPU)
    return task.data.train.labels, task.data.test.labels


def test_shuffled_labels_are_the_training_set_s_own_in_another_order(config: Make) -> None:
    (plain, test), (shuffled, same_test) = (labels(config(search={"shuffled_labels": kind})) for kind in (False, True))
    assert not torch.equal(plain, shuffled)
    assert torch.equal(plain.sort().values, shuffled.sort().values)
    assert torch.equal(test, same_test)
    again, other = (labels(config(search={"shuffled_labels": True}, seed=seed))[0] for seed in (0, 1))
    assert torch.equal(again, shuffled)
    assert not torch.equal(other, shuffled)


def test_the_batches_of_a_shuffled_search_have_the_shuffled_labels(search_job: Callable[..., SearchJob]) -> None:
    """Bright images are class 2 in the data; the network learns from batches where brightness tells nothing."""

    def agreement(shuffled: bool) -> float:
        job = search_job(search={"shuffled_labels": shuffled}, task={"search_augment": {"crop_padding": 0}})
        batches = [job.task.batch("weights", step) for step in range(3)]
        means = torch.cat([batch.images.flatten(1).mean(dim=1) for batch in batches])
        classes = torch.cat([batch.labels for batch in batches]).double()
        return float(torch.corrcoef(torch.stack([means.double(), classes]))[0, 1])

    assert agreement(False) > 0.95
    assert abs(agreement(True)) < 0.6


def test_a_search_writes_what_a_comparison_asks_for(config: Make) -> None:
    result = run(config())
    found = result_of(result.path)
    job = SearchJob(resolve(config()), load_task(resolve(config()), CPU), CPU)
    assert found["kept"] == job.findings.kept_costs(result.architecture)
    assert found["steps"] == 6
    assert found["seconds"] == result.seconds > 0
    assert found["peak_memory"] > 0
    assert found["supernet_parameters"] == result.parameters == count_parameters(job.supernet)
    assert found["gap"]["child"] == result.gap.child
    assert found["posterior"] == pytest.approx(dict(result.architecture.posterior))
    assert isinstance(found["warnings"], list)
    assert found["truth"] is None


def test_the_seconds_of_all_parts_add_up(
    config: Make, interrupt: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only a step moves: by one second in the first part, by ten in the second."""
    now, pace = [100.0], [1.0]
    original = SearchJob.step

    def step(self: SearchJob, number: int) -> dict[str, float]:
        now[0] += pace[0]
        return original(self, number)

    monkeypatch.setattr(SearchJob, "step", step)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    settings = config()
    interrupt(SearchJob, 4)
    with pytest.raises(Interrupted):
        run(settings)
    clock = folder_of(settings) / "clock.json"
    assert json.loads(clock.read_text()) == {"seconds": 4.0}
    now[0], pace[0] = 1e6, 10.0
    assert run(settings).seconds == 24.0
    assert result_of(folder_of(settings))["seconds"] == 24.0
    assert json.loads(clock.read_text()) == {"seconds": 24.0}


def test_a_table_says_how_good_the_kept_cell_is(benchmark: Make, tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.npz")
    result = run(benchmark(truth={"table": str(table)}))
    found = result_of(result.path)["truth"]
    assert result.truth is not None
    assert found["metric"] == result.truth.metric == "test_acc/made-up"
    assert found["value"] == pytest.approx(worth(result.architecture))
    assert found["best"] == pytest.approx(BEST)
    assert 20 < found["expected"] < BEST
    assert 0 < found["percentile"] <= 100


def test_a_search_does_not_see_the_table(benchmark: Make, tmp_path: Path, final_state: Read, same: Same) -> None:
    table = write_table(tmp_path / "table.npz")
    with_table, without = run(benchmark(truth={"table": str(table)})), run(benchmark())
    assert same(final_state(with_table.path), final_state(without.path))


def test_a_method_whose_p_is_no_product_has_no_expectation(benchmark: Make, tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.npz")
    result = run(benchmark(truth={"table": str(table)}, sampler=sampler("evolution"), search={"epochs": 1}))
    assert result.truth.expected is None
    assert result.truth.value == pytest.approx(worth(result.architecture))


@pytest.mark.parametrize(
    ("truth", "error", "message"),
    [
        ({"metric": "test_acc/made_up"}, ConfigError, r"truth\.metric: .*did you mean 'test_acc/made-up'\?"),
        ({"metric": "latency"}, (ConfigError, DataError), "latency"),
        ({"table": "gone.npz"}, DataError, r"gone\.npz: No such file"),
    ],
)
def test_a_truth_that_cannot_be_told_is_refused_before_the_search(
    truth: dict[str, Any], error: Any, message: str, benchmark: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SearchJob, "step", lambda self, step: pytest.fail("the search has begun"))
    settings = benchmark(truth={"table": str(write_table(tmp_path / "table.npz")), **truth})
    with pytest.raises(error, match=message):
        run(settings)
    assert not folder_of(settings).exists()


def test_a_table_of_another_space_is_refused(config: Make, tmp_path: Path) -> None:
    settings = config(truth={"table": str(write_table(tmp_path / "table.npz"))})
    with pytest.raises(ConfigError, match=r"^truth\.table: .* space conv_cell does not have"):
        run(settings)
    assert not folder_of(settings).exists()


def test_without_a_test_the_held_out_share_is_measured(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    original = Classification.evaluate

    def evaluate(self: Classification, model: Any, part: Any, limit: int | None = None) -> dict[str, float]:
        parts.append(part)
        return original(self, model, part, limit)

    monkeypatch.setattr(Classification, "evaluate", evaluate)
    settings = config(train={"validation": 0.5, "test": False, "epochs": 1})
    result = train(architecture("darts_v2"), settings, quiet=True)
    assert result.evaluation.part == "validation"
    assert json.loads((result.path / "evaluation.json").read_text())["part"] == "validation"
    assert not (result.path / "exhibits.json").exists(), "of a candidate nobody asks for more"
    assert set(parts) == {"validation"}
    # Negative control: with a test it is seen that the test set is measured.
    train(architecture("darts_v2"), config(train={"epochs": 1}), quiet=True)
    assert parts[-1] == "test"
    with pytest.raises(ConfigError, match=r"^train: test: false needs a held-out share"):
        resolve(config(train={"test": False}))


@pytest.mark.parametrize("kind", ["exact", "sampled"])
def test_a_child_without_open_operations_makes_no_error(
    search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Only `none` is drawn, so with `sampled` no alpha is in the graph of the task's loss."""
    job = search_job(
        search={"gradient": {"kind": kind}}, sampler={"constraint": {"kind": "none"}, "prior": {"children": 0}}
    )
    original: Any = job.sampler.sample_group

    def sample(name: str, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        code = torch.zeros_like(original(name, log_probs, progress, generator))
        code[:, 0] = 1.0
        return code

    monkeypatch.setattr(job.sampler, "sample_group", sample)
    before = [alpha.detach().clone() for alpha in job.sampler.parameters()]
    figures = job.step(0)
    assert np.isfinite(list(figures.values())).all()
    if kind == "sampled":
        assert all(torch.equal(old, new) for old, new in zip(before, job.sampler.parameters(), strict=True))


@pytest.fixture(scope="module")
def searched(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to derive from; only to be read."""
    small = {"space": {"cells": 3, "primitives": ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]}}
    return Path(search(merge(make_config(tmp_path_factory.mktemp("searched")), small), quiet=True).path)


@pytest.mark.parametrize(
    ("rule", "options"),
    [("likeliest", []), ("top_edges", []), ("top_operations", ["--operations", "2"]), ("best_sample", [])],
)
def test_the_command_derives_by_every_rule(
    rule: str, options: list[str], searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datanas.cli import main

    more = ["--candidates", "3"] if rule == "best_sample" else options
    assert main(["derive", str(searched), "--rule", rule, "-o", str(tmp_path / "kept.json"), *more]) == 0
    assert "written to" in capsys.readouterr().out
    kept = Architecture.load(tmp_path / "kept.json")
    for cell in kept.cells.values():
        targets: dict[int, int] = {}
        for (_, target), row in zip(cell.edges, cell.code, strict=True):
            targets[target] = targets.get(target, 0) + int(row.sum())
        if rule == "top_edges":
            assert set(targets.values()) == {2}
        if rule == "top_operations":
            assert (cell.code.sum(axis=1) == 2).all()
    if rule == "best_sample":
        assert kept.posterior is not None
        assert kept.posterior["candidates"] <= 3
    expected = derive(
        searched,
        rule=rule,  # type: ignore[arg-type]
        operations=2 if rule == "top_operations" else None,
        candidates=3 if rule == "best_sample" else None,
    )
    assert kept == expected.architecture


@pytest.mark.parametrize("name", ["egs", "random"])
def test_a_result_that_was_lost_at_the_end_is_found_again(name: str, config: Make) -> None:
    """As after a kill between the last checkpoint and the last file."""
    settings = config(sampler=sampler(name))
    before = run(settings)
    found = result_of(before.path)
    (before.path / "result.json").unlink()
    again = run(settings)
    assert again.architecture == before.architecture
    lost = {"peak_memory", "seconds"}
    assert {key: value for key, value in result_of(before.path).items() if key not in lost} == {
        key: value for key, value in found.items() if key not in lost
    }


def test_a_training_on_a_search_s_parts_sees_what_the_search_gives_the_weights(config: Make) -> None:
    settings = resolve(config(train={"parts": "search", "test": False}))
    searched = SearchJob(settings, load_task(settings, CPU), CPU)
    trained = TrainJob(settings, architecture("darts_v2"), load_task(settings, CPU), CPU)
    assert trained.held_out == "alpha"
    for part in ("weights", "alpha"):
        assert torch.equal(searched.task.chosen()[part], trained.task.chosen()[part])
    # Negative control: the parts of an ordinary training are others.
    plain = resolve(config(train={"validation": 0.5}))
    other = TrainJob(plain, architecture("darts_v2"), load_task(plain, CPU), CPU)
    assert not torch.equal(other.task.chosen()["validation"], searched.task.chosen()["alpha"])
    with pytest.raises(ConfigError, match="validation belongs to parts: train"):
        resolve(config(train={"parts": "search", "validation": 0.5}))
