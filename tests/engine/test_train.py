"""Training from end to end: it learns, repeats, resumes, averages and holds out, and its network comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, fx

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.errors import ArchitectureError, CheckpointError, ConfigError, Interrupted, NonFiniteError
from datanas.deploy.export import export
from datanas.engine import rebuild
from datanas.engine.evaluation import NETWORK_FILE, Evaluation, evaluate, restore, score
from datanas.engine.train import TrainJob, train
from datanas.engine.train_result import TrainResult
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.lookup import architecture
from datanas.network import build_network
from datanas.spaces import network_config
from datanas.tasks.classification import Classification

Make = Callable[..., dict[str, Any]]
Read = Callable[[Path], dict[str, Tensor]]
Same = Callable[..., bool]
Figures = Callable[[Path], list[dict[str, Any]]]
CELL = architecture("darts_v2")


def run(config: dict[str, Any], cell: Any = CELL) -> TrainResult:
    return train(cell, config, quiet=True)


def folder_of(config: dict[str, Any]) -> Path:
    return Path(config["run"]["root"]) / config["run"]["name"]


def test_the_tiny_set_is_learned(config: Make) -> None:
    """Three classes that differ in brightness: chance is a third."""
    found = run(config(train={"epochs": 8, "drop_path": 0.0, "weights": {"lr": 0.1}}))
    assert found.evaluation.score >= 0.75
    assert found.evaluation.error == 1 - found.evaluation.score


def test_the_run_folder_holds_the_network_and_its_figures(config: Make) -> None:
    found = run(config())
    names = {path.name for path in found.path.iterdir()}
    assert {"config.yaml", "env.json", "metrics.jsonl", "architecture.json", "evaluation.json", NETWORK_FILE} <= names
    assert Architecture.load(found.path / "architecture.json") == CELL
    expected = {**asdict(found.evaluation), "channels": found.channels, "preference": found.evaluation.score}
    expected["shown"] = f"{found.evaluation.score:.1%}"
    expected |= {"metric": asdict(Classification.metric), "examples_are": "examples"}
    assert found.evaluation.interval is not None
    expected["interval"] = list(found.evaluation.interval)
    expected["interval_shown"] = "{:.1f} to {:.1f}".format(*(100 * end for end in found.evaluation.interval))
    assert json.loads((found.path / "evaluation.json").read_text()) == expected
    assert not found.network.training
    saved, state = load_file(found.path / NETWORK_FILE), found.network.state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in saved.items())


def test_the_same_seed_gives_the_same_network(config: Make, final_state: Read, same: Same, figures: Figures) -> None:
    first, again, other = (run(config(seed=seed)) for seed in (0, 0, 1))
    assert same(final_state(first.path), final_state(again.path))
    assert figures(first.path) == figures(again.path)
    assert first.evaluation == again.evaluation
    assert not same(final_state(first.path), final_state(other.path))


EVERYTHING = {"ema": 0.9, "validation": 0.25, "auxiliary": True, "drop_path": 0.3, "batch_size": 12}


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_resumed_training_is_the_uninterrupted_one(
    config: Make, final_state: Read, same: Same, figures: Figures, interrupt: Callable[..., None], steps: int
) -> None:
    """Bit for bit, with the average of the weights, drop-path and the auxiliary tower."""
    whole = run(config(train=EVERYTHING))
    settings = config(train=EVERYTHING)
    interrupt(TrainJob, steps)
    with pytest.raises(Interrupted, match=f"step {steps}/6.*datanas train --resume") as caught:
        run(settings)
    assert caught.value.exit_code == 130
    path = folder_of(settings)
    assert not (path / NETWORK_FILE).exists()
    resumed = train(resume=path, quiet=True)
    assert same(final_state(path), final_state(whole.path))
    assert figures(path) == figures(whole.path)
    assert resumed.evaluation == whole.evaluation
    assert (path / NETWORK_FILE).read_bytes() == (whole.path / NETWORK_FILE).read_bytes()


def test_drop_path_rises_linearly_by_epoch(train_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch) -> None:
    job = train_job(train={"epochs": 4, "drop_path": 0.2, "batch_size": 24})
    found: list[float] = []
    monkeypatch.setattr(network_config, "set_drop_path", lambda network, share: found.append(share))
    for step in range(8):
        job.step(step)
    assert found == pytest.approx([0.0, 0.0, 0.05, 0.05, 0.1, 0.1, 0.15, 0.15])


def test_drop_path_reaches_the_network(train_job: Callable[..., TrainJob], same: Same) -> None:
    """Negative control for the above: the share matters to what is learned."""

    def learned(share: float) -> dict[str, Tensor]:
        job = train_job(train={"drop_path": share, "epochs": 2})
        job.step(5)
        return dict(job.network.named_parameters())

    assert same(learned(0.5), learned(0.5))
    assert not same(learned(0.5), learned(0.0))


def test_every_step_drops_other_paths(train_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch) -> None:
    job = train_job(train={"drop_path": 0.9, "epochs": 2})
    chances: list[float] = []

    def drawn() -> float:
        return float(torch.rand((), generator=seeding.current()))

    monkeypatch.setattr(type(job.task), "loss", lambda *args: chances.append(drawn()) or 1 / 0)
    for step in (4, 5, 5):
        with pytest.raises(ZeroDivisionError):
            job.step(step)
    assert chances[0] != chances[1] == chances[2]


def test_the_average_of_the_weights_follows_its_recurrence(train_job: Callable[..., TrainJob]) -> None:
    """It begins with the weights after the first step; then average = decay * average + (1 - decay) * weights."""
    job = train_job(train={"ema": 0.75})
    job.step(0)
    expected = {name: value.clone() for name, value in job.network.named_parameters()}
    for step in (1, 2, 3):
        job.step(step)
        for name, value in job.network.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * value.detach()
    for name, value in job.evaluated.named_parameters():
        torch.testing.assert_close(value, expected[name])
    assert any(not torch.equal(value, expected[name]) for name, value in job.network.named_parameters())


def test_the_average_is_what_is_evaluated_and_kept(config: Make, final_state: Read) -> None:
    found = run(config(train={"ema": 0.5}))
    state = final_state(found.path)
    kept = load_file(found.path / NETWORK_FILE)
    assert all(torch.equal(value, state[f".job.average.module.{name}"]) for name, value in kept.items())
    assert any(not torch.equal(value, state[f".job.network.{name}"]) for name, value in kept.items())
    assert evaluate(found.path) == found.evaluation


def test_without_an_average_the_network_itself_is_kept(config: Make, final_state: Read) -> None:
    found = run(config())
    state = final_state(found.path)
    kept = load_file(found.path / NETWORK_FILE)
    assert all(torch.equal(value, state[f".job.network.{name}"]) for name, value in kept.items())


def test_evaluating_the_folder_gives_the_same_figures(config: Make) -> None:
    found = run(config(train={"auxiliary": True}))
    assert evaluate(found.path) == found.evaluation


def test_evaluating_other_data_gives_other_figures(config: Make, tiny_images: Path, tmp_path: Path) -> None:
    """Negative control, and the way to measure elsewhere."""
    found = run(config())
    with np.load(tiny_images) as arrays:
        other = dict(arrays)
    other["test_y"] = (other["test_y"] + 1) % 3
    np.savez(tmp_path / "other.npz", **other)
    assert evaluate(found.path, [("data.root", str(tmp_path / "other.npz"))]).loss != found.evaluation.loss


def test_other_numbers_are_brought_to_the_range_of_the_training(
    config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 8, 8, 3)), np.arange(30) % 3
    roots = [tmp_path / "first.npz", tmp_path / "other.npz"]
    for root, scale in zip(roots, (1, 5), strict=True):
        np.savez(root, train_x=x[:18] * scale, train_y=y[:18], test_x=x[18:], test_y=y[18:])
    found = run(config(data={"name": "npz", "root": str(roots[0])}))
    recorded = json.loads((found.path / "data.json").read_text())
    folder = export(found.path, tmp_path / "export", [("data.root", str(roots[1]))])
    exported = json.loads((folder / "config.json").read_text())
    assert {name: exported[name] for name in ("input", "preprocessing")} == {
        name: recorded[name] for name in ("input", "preprocessing")
    }
    _, task, _ = restore(found.path, [("data.root", str(roots[1]))])
    assert json.loads(json.dumps(task.input_form())) == recorded["input"]
    assert "normalised by mean and deviation of their own training part" in caplog.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut short", "not a trained network"),
        ("no tensors at all", "not a trained network"),
        ("another network", "does not fit the run's architecture"),
    ],
)
def test_a_damaged_network_is_refused(config: Make, damage: str, message: str) -> None:
    path = run(config()).path
    file = path / NETWORK_FILE
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "no tensors at all":
        file.write_text("not a network")
    else:
        save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match=rf"network\.safetensors: {message}: ") as caught:
        evaluate(path)
    assert caught.value.exit_code == 3


def test_a_training_without_a_network_is_refused(config: Make) -> None:
    path = run(config()).path
    (path / NETWORK_FILE).unlink()
    with pytest.raises(CheckpointError, match="no trained network"):
        evaluate(path)


def test_the_held_out_share_is_measured_and_not_trained_on(
    config: Make, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainJob] = []
    original = TrainJob.__init__
    monkeypatch.setattr(TrainJob, "__init__", lambda self, *args: jobs.append(self) or original(self, *args))
    found = run(config(train={"validation": 0.25, "batch_size": 12, "epochs": 3, "validate_every": 2}))
    assert ["validation/accuracy" in line for line in figures(found.path)] == [False, True, True]
    (job,) = jobs
    held_out = set(job.task.chosen()["validation"].tolist())
    trained = set(vars(job.task)["_streams"]["train"]._indices.tolist())
    assert len(held_out) == 12
    assert trained == set(range(48)) - held_out
    assert figures(found.path)[-1]["validation/accuracy"] == score(found.network, job.task, "validation")["accuracy"]


def test_the_test_set_is_measured_once_at_the_end(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    original = Classification.evaluate

    def spy(self: Classification, model: Any, part: Any, limit: int | None = None) -> dict[str, float]:
        parts.append(part)
        return original(self, model, part, limit)

    monkeypatch.setattr(Classification, "evaluate", spy)
    run(config(train={"validation": 0.25, "batch_size": 12}))
    assert parts == ["validation", "validation", "test"]


def test_parameters_and_multiply_adds_leave_the_auxiliary_tower_out(config: Make) -> None:
    plain, towered = (run(config(train={"epochs": 1, "auxiliary": auxiliary})) for auxiliary in (False, True))
    network = build_network(CELL, num_classes=3, channels=4, cells=3)
    assert plain.evaluation.parameters == towered.evaluation.parameters == count_parameters(network)
    assert plain.evaluation.macs == towered.evaluation.macs == count_macs(network, torch.zeros(1, 3, 8, 8))
    assert count_parameters(towered.network) > count_parameters(network)


def test_measuring_leaves_the_mode_alone(train_job: Callable[..., TrainJob]) -> None:
    job = train_job()
    for training in (True, False):
        job.network.train(training)
        score(job.network, job.task, "test")
        assert job.network.training == training


def test_the_learning_rate_reaches_the_optimizer(train_job: Callable[..., TrainJob]) -> None:
    job = train_job(train={"epochs": 2, "weights": {"lr": 0.1, "lr_min": 0.0, "warm_up_epochs": 1}})
    rates = []
    for step in range(6):
        job.step(step)
        rates.append(job._optimizer.param_groups[0]["lr"])
    assert rates[:4] == pytest.approx([0.0, 0.1 / 3, 0.2 / 3, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    train_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = train_job()
    job.step(0)
    before = [weight.detach().clone() for weight in job.network.parameters()]
    original = type(job.task).loss
    monkeypatch.setattr(type(job.task), "loss", lambda *args: original(*args) * torch.inf)
    with pytest.raises(NonFiniteError, match=r"^step 2, batch 2 of epoch 1: the loss is"):
        job.step(1)
    assert all(torch.equal(old, new) for old, new in zip(before, job.network.parameters(), strict=True))


def test_an_architecture_may_be_a_file(config: Make, tmp_path: Path, final_state: Read, same: Same) -> None:
    CELL.save(tmp_path / "cell.json")
    first, other = run(config(), tmp_path / "cell.json"), run(config())
    assert same(final_state(first.path), final_state(other.path))


@pytest.mark.parametrize("text", ["{", "{}", None])
def test_an_unusable_architecture_leaves_no_folder(config: Make, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "cell.json"
    if text is not None:
        file.write_text(text)
    settings = config()
    with pytest.raises(ArchitectureError, match=r"cell\.json") as caught:
        run(settings, file)
    assert caught.value.exit_code == 3
    assert not folder_of(settings).exists()


def test_training_needs_an_architecture(config: Make) -> None:
    with pytest.raises(TypeError, match="needs an architecture"):
        train(config=config())


def test_an_architecture_of_an_unknown_space_leaves_no_folder(config: Make) -> None:
    settings = config()
    with pytest.raises(ArchitectureError, match="space"):
        run(settings, Architecture(CELL.cells, space="unheard_of"))
    assert not folder_of(settings).exists()


def test_a_taken_name_is_refused_and_nothing_overwritten(config: Make) -> None:
    settings = config(train={"epochs": 1})
    before = (run(settings).path / NETWORK_FILE).read_bytes()
    with pytest.raises(ConfigError, match=r"^seed: 0 in the run, 1 now\n.* or choose another --run\.name$"):
        run({**settings, "seed": 1})
    assert (folder_of(settings) / NETWORK_FILE).read_bytes() == before


def test_half_precision_trains_full_precision_weights(config: Make) -> None:
    found = run(config(train={"precision": "bfloat16", "epochs": 1}))
    floating = [value for value in found.network.state_dict().values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in floating)


def test_an_evaluation_is_plain_numbers(config: Make) -> None:
    found = run(config(train={"epochs": 1})).evaluation
    assert isinstance(found, Evaluation)
    assert {name: type(value) for name, value in asdict(found).items()} == {
        "score": float,
        "error": float,
        "loss": float,
        "parameters": int,
        "macs": int,
        "part": str,
        "score_name": str,
        "figures": dict,
        "interval": tuple,
        "examples": int,
    }


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[fx.GraphModule]:
    """The graphs that are compiled, without a code generator, which would take a minute; a break in one is an error."""
    found: list[fx.GraphModule] = []

    def backend(graph: fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend=backend, fullgraph=True))
    return found


def test_a_compiled_network_trains_as_the_plain_one(
    train_job: Callable[..., TrainJob], graphs: list[fx.GraphModule]
) -> None:
    plain, compiled = (
        train_job(train={"compile": kind, "epochs": 3, "drop_path": 0.0}, seed=1) for kind in (False, True)
    )
    for job in (plain, compiled):
        for step in range(2):
            job.step(step)
    for one, other in zip(plain.network.state_dict().values(), compiled.network.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert len(graphs) == 1


def test_a_new_share_of_dropped_paths_compiles_nothing_anew(
    train_job: Callable[..., TrainJob], graphs: list[fx.GraphModule]
) -> None:
    job = train_job(train={"compile": True, "epochs": 6, "drop_path": 0.3})
    for epoch in range(1, 5):
        job.step(epoch * job.steps_per_epoch)
    assert len(graphs) == 1


def test_a_network_whose_head_shares_the_stem_s_weights_is_kept_and_comes_back(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datanas.tasks.classifier_head import ClassifierHead

    def tied_head(cls: Any, settings: Any, widths: tuple[int, ...], classes: int, stem: Any) -> torch.nn.Module:
        head = ClassifierHead(widths, classes)
        head.add_module("shared", stem.conv)
        return head

    monkeypatch.setattr(Classification, "tied_head", classmethod(tied_head))
    found = run(config(train={"epochs": 1}))
    saved = load_file(found.path / NETWORK_FILE)
    assert torch.equal(saved["stem.conv.weight"], saved["head.shared.weight"])
    assert evaluate(found.path) == found.evaluation


def test_a_network_smaller_than_its_own_space_has_is_refused(train_job: Callable[..., TrainJob]) -> None:
    """Also where the configuration names another space."""
    job = train_job()
    small = job.config.model_copy(update={"train": job.config.train.model_copy(update={"cells": 2})})
    with pytest.raises(ConfigError, match=r"^train\.cells: must be at least 3, got 2$"):
        rebuild.network_for(CELL, small, job.task)
