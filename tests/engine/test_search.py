"""A search from end to end: what it leaves, that it repeats, resumes and stops, and what its settings do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError, DataError, Interrupted, NonFiniteError
from datanas.core.settings import read_yaml
from datanas.engine.config import resolve
from datanas.engine.derive import derive
from datanas.engine.earlier_run import load_run_config
from datanas.engine.search import SearchJob, search
from datanas.engine.search_result import SearchResult
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_parameters
from datanas.runs import RunFolder
from datanas.samplers.egs import EGS

Make = Callable[..., dict[str, Any]]
Read = Callable[[Path], dict[str, Tensor]]
Same = Callable[..., bool]
Copy = Callable[[torch.nn.Module], dict[str, Tensor]]
Figures = Callable[[Path], list[dict[str, Any]]]
STEPS_PER_EPOCH = 3


def run(config: dict[str, Any], **options: Any) -> Any:
    return search(config, quiet=True, **options)


def folder_of(config: dict[str, Any]) -> Path:
    return Path(config["run"]["root"]) / config["run"]["name"]


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


def weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The supernet's learned numbers, without the statistics of its batch norms."""
    return {
        name: value
        for name, value in part(state, ".job.supernet").items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


def test_the_run_folder_holds_what_the_design_names(finished: SearchResult) -> None:
    names = {path.relative_to(finished.path).as_posix().split(".tfevents")[0] for path in finished.path.rglob("*")}
    wanted = {"config.yaml", "env.json", "metrics.jsonl", "events.out", "architecture.json"}
    wanted |= {"genotypes/epoch-0001.json", "genotypes/epoch-0002.json", "checkpoints/step-00000006"}
    assert wanted <= names
    assert not [name for name in names if name.endswith((".tmp", ".part", ".pt", ".pkl"))]


def test_the_result_is_what_was_written(finished: SearchResult) -> None:
    assert Architecture.load(finished.path / "architecture.json") == finished.architecture
    lines = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    assert finished.history == lines
    assert [line["step"] for line in lines] == [3, 6]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert finished.gap is not None
    assert finished.gap.figures().items() <= lines[-1].items()


def test_the_last_genotype_is_the_architecture_kept(finished: SearchResult) -> None:
    first, last = (Architecture.load(finished.path / "genotypes" / f"epoch-000{epoch}.json") for epoch in (1, 2))
    assert last.to_json() == finished.architecture.to_json()
    assert (first.source or {})["epoch"] == 1


def test_the_written_configuration_repeats_the_run(
    finished: SearchResult, tmp_path: Path, final_state: Read, same: Same
) -> None:
    raw = read_yaml(finished.path / "config.yaml")
    assert load_run_config(finished.path) == resolve(raw)
    again = run({**raw, "run": {"root": str(tmp_path)}})
    assert again.path.parent == tmp_path
    assert same(final_state(finished.path), final_state(again.path))


def test_the_architecture_tells_its_probability_and_its_origin(finished: SearchResult) -> None:
    found = finished.architecture
    assert found.posterior is not None
    assert found.posterior["log_prob"] < 0
    assert found.posterior["margin"] >= 0
    assert found.posterior["samples"] == vars(load_run_config(finished.path).sampler)["samples"]
    assert found.source is not None
    assert found.source["seed"] == 0
    assert found.source["epoch"] == 2
    assert found.source["method"]["name"] == "egs"
    assert found.source["data"]["name"] == "npz"


def test_metrics_hold_p_and_its_expected_costs(finished: SearchResult) -> None:
    last = finished.history[-1]
    for name in ("normal", "reduce"):
        assert len(last[f"probs/{name}"]) == 5
        assert 0 < last[f"flatness/{name}"] <= 1
    assert last["expected/parameters"] > 0
    assert last["expected/macs"] > 0


def test_expected_costs_are_those_of_a_long_row_of_draws(search_job: Callable[..., SearchJob]) -> None:
    job = search_job()
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {"parameters": [], "macs": []}
    for _ in range(400):
        gates = job.sampler.draw(0.0, generator).gates
        for kind, costs in found.items():
            costs.append(
                sum(
                    float((gates[n].detach() > 0).double().mul(torch.tensor(getattr(c, kind))).sum())
                    for n, c in job.sampler.costs.items()
                )
            )
    for kind, costs in found.items():
        sample = torch.tensor(costs)
        error = float(sample.std()) / len(costs) ** 0.5
        assert abs(float(sample.mean()) - job.findings.expected_costs()[kind]) < 4 * error


def test_the_same_seed_gives_the_same_search(
    config: Make, finished: SearchResult, final_state: Read, same: Same, figures: Figures
) -> None:
    again = run(config())
    assert same(final_state(finished.path), final_state(again.path))
    assert finished.architecture.to_json() == again.architecture.to_json()
    assert figures(finished.path) == figures(again.path)


def test_another_seed_gives_another_search(config: Make, finished: SearchResult, final_state: Read, same: Same) -> None:
    """Negative control."""
    first, other = final_state(finished.path), final_state(run(config(seed=1)).path)
    assert not same(part(first, ".job.sampler"), part(other, ".job.sampler"))
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("stops", [[1], [3], [2, 3]])
def test_a_resumed_search_is_the_uninterrupted_one(
    config: Make,
    finished: SearchResult,
    final_state: Read,
    same: Same,
    figures: Figures,
    interrupt: Callable[..., None],
    stops: list[int],
) -> None:
    """Bit for bit: weights, statistics, alphas, optimisers and metrics, wherever the signal came."""
    settings = config()
    path = folder_of(settings)
    for number, steps in enumerate(stops):
        interrupt(SearchJob, steps)
        with pytest.raises(Interrupted, match=f"step {sum(stops[: number + 1])}/6.*--resume") as caught:
            run(settings) if number == 0 else search(resume=path, quiet=True)
        assert caught.value.exit_code == 130
    # Negative control: what was saved is not yet the end.
    assert not (path / "architecture.json").exists()
    assert not same(final_state(path), final_state(finished.path))
    resumed = search(resume=path, quiet=True)
    assert same(final_state(path), final_state(finished.path))
    assert figures(path) == figures(finished.path)
    assert resumed.architecture.to_json() == finished.architecture.to_json()


def test_a_run_that_never_saved_starts_over(
    config: Make, finished: SearchResult, final_state: Read, same: Same
) -> None:
    settings = resolve(config())
    with RunFolder.create(settings.run.root, settings.run.name, "search") as folder:
        folder.settle({"config.yaml": settings.to_yaml()}, "search")
    resumed = search(resume=folder.path, quiet=True)
    assert same(final_state(resumed.path), final_state(finished.path))


def test_the_same_name_again_goes_on(
    config: Make,
    finished: SearchResult,
    final_state: Read,
    same: Same,
    figures: Figures,
    interrupt: Callable[..., None],
) -> None:
    """Without a word of resuming, and bit for bit."""
    settings = config()
    interrupt(SearchJob, 4)
    with pytest.raises(Interrupted, match="step 4/6"):
        run(settings)
    again = run(settings)
    assert again.path == folder_of(settings)
    assert same(final_state(again.path), final_state(finished.path))
    assert figures(again.path) == figures(finished.path)
    (note,) = json.loads((again.path / "env.json").read_text())["resumed"]
    assert (note["from_step"], note["bit_exact"], note["because"], note["changed"]) == (4, True, [], {})


def test_resuming_a_complete_search_changes_nothing(
    finished: SearchResult, tmp_path: Path, figures: Figures, final_state: Read, same: Same
) -> None:
    path = Path(shutil.copytree(finished.path, tmp_path / "copy"))
    again = search(resume=path, quiet=True)
    assert again.architecture == finished.architecture
    assert again.gap == finished.gap
    assert figures(path) == figures(finished.path)
    assert same(final_state(path), final_state(finished.path))


def test_measuring_more_and_saving_less_changes_nothing(
    config: Make, finished: SearchResult, final_state: Read, same: Same
) -> None:
    over = {"search": {"gap": {"every": 3, "children": 3}}, "run": {"checkpoint_every": 2}}
    other = run(config(**over))
    for result, measured in ((finished, True), (other, False)):
        assert ["gap/child" in line for line in result.history] == [measured, True]
        assert (result.path / "checkpoints" / "step-00000003").exists() == measured
    # Which epoch was the best is known only of those that were measured.
    assert same(*(part(final_state(path), ".job") for path in (other.path, finished.path)))
    assert other.architecture == finished.architecture


PLAIN = {"weights": {"momentum": 0.0, "weight_decay": 0.0}}
"""Closed operations get no update when sparse and one of nothing when dense, which is the same without these."""


def apart(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((value.double() - second[name].double()).abs().max()) for name, value in first.items())


@pytest.fixture
def after_an_epoch(search_job: Callable[..., SearchJob], copied: Copy) -> Callable[..., Any]:
    """Weights and alphas after some steps of each kind."""

    def make(**settings: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        job = search_job(search=settings)
        for step in range(STEPS_PER_EPOCH + 1):
            job.step(step)
        learned = {name: value.detach() for name, value in job.supernet.named_parameters()}
        return learned, copied(job.sampler)

    return make


def test_sparse_execution_searches_as_dense_does(
    after_an_epoch: Callable[..., Any], search_job: Callable[..., SearchJob]
) -> None:
    start = dict(search_job().supernet.named_parameters())
    (sparse, alphas), (dense, dense_alphas) = (after_an_epoch(**PLAIN, execution=kind) for kind in ("sparse", "dense"))
    assert apart(alphas, dense_alphas) < 1e-4
    assert apart(sparse, dense) < 1e-4
    assert apart(sparse, {name: value.detach() for name, value in start.items()}) > 1e-2


def test_with_momentum_closed_operations_move_only_when_dense(after_an_epoch: Callable[..., Any]) -> None:
    """Negative control: the comparison above sees a difference in the weights."""
    (sparse, _), (dense, _) = (after_an_epoch(execution=kind) for kind in ("sparse", "dense"))
    assert apart(sparse, dense) > 1e-4


def test_cheaper_alpha_gradients_move_alpha_elsewhere(after_an_epoch: Callable[..., Any]) -> None:
    kinds = ({"kind": "exact"}, {"kind": "subsampled", "share": 0.5}, {"kind": "sampled"})
    alphas = [after_an_epoch(gradient=kind)[1] for kind in kinds]
    assert all(apart(one, other) > 1e-6 for one, other in combinations(alphas, 2))


def test_asking_every_closed_gate_is_exact(after_an_epoch: Callable[..., Any]) -> None:
    (weights, alphas), (asked, asked_alphas) = (
        after_an_epoch(gradient=kind) for kind in ({"kind": "exact"}, {"kind": "subsampled", "share": 1.0})
    )
    assert apart(alphas, asked_alphas) == 0
    assert apart(weights, asked) == 0


def test_a_subsampled_search_asks_other_gates_in_every_step(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(search={"gradient": {"kind": "subsampled"}})
    grad_mask = []
    forward = job.supernet.forward

    def watch(x: Tensor, gates: dict[str, Gates]) -> Tensor:
        grad_mask.append({name: group.grad_mask for name, group in gates.items()})
        found: Tensor = forward(x, gates)
        return found

    job.supernet.forward = watch  # type: ignore[assignment]
    for step in range(3):
        job.step(step)
    alpha, weight = grad_mask[0::2], grad_mask[1::2]
    assert all(table is None for step in weight for table in step.values())
    assert alpha[0] != alpha[1] != alpha[2]


@pytest.mark.parametrize(
    ("steps", "alpha_steps"),
    [("1:1", [1] * 6), ("2:1", [1, 0] * 3), ("1:2", [2] * 6), ("3:2", [2, 0, 0] * 2), ("7:1", [1, 0, 0, 0, 0, 0])],
)
def test_weight_and_alpha_steps_take_turns(
    search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch, steps: str, alpha_steps: list[int]
) -> None:
    job = search_job(search={"steps": steps})
    made: list[str] = []
    monkeypatch.setattr(job, "_alpha_step", lambda step: made.append("alpha") or 0.0)
    monkeypatch.setattr(job, "_weight_step", lambda step, *, uniform: made.append("weights") or 0.0)
    found = []
    for step in range(6):
        made.clear()
        job.step(step)
        # The alphas come first: a weight step then runs with what they have become.
        assert made == ["alpha"] * (len(made) - 1) + ["weights"]
        found.append(len(made) - 1)
    assert found == alpha_steps


def test_alpha_rests_until_its_start(config: Make, final_state: Read) -> None:
    result = run(config(search={"alpha_start": 0.5}, sampler={"prior": {"children": 0}}))
    assert float(final_state(result.path)[".job.alpha_steps"]) == 3
    assert ["train/alpha loss" in line for line in result.history] == [False, True]
    assert result.history[0]["flatness/normal"] == pytest.approx(1.0)
    assert result.history[1]["flatness/normal"] < 1.0


def test_pretraining_draws_uniformly_and_leaves_alpha_alone(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[bool, float, dict[str, Tensor]]] = []
    original = EGS.draw

    def spy(self: EGS, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Any:
        calls.append((uniform, progress, {name: alpha.detach().clone() for name, alpha in self.alpha.items()}))
        return original(self, progress, generator, uniform=uniform)

    monkeypatch.setattr(EGS, "draw", spy)
    monkeypatch.setattr(SearchJob, "foresee", lambda self: [])  # which draws, too
    result = run(config(search={"pretrain_epochs": 2, "epochs": 1, "gap": {"children": 2}}))
    pretraining, searching = calls[: 2 * STEPS_PER_EPOCH], calls[2 * STEPS_PER_EPOCH :]
    assert all(is_uniform and progress == 0.0 for is_uniform, progress, _ in pretraining)
    assert not any(is_uniform for is_uniform, _, _ in searching)
    assert all(torch.equal(alpha, calls[0][2][name]) for name, alpha in searching[0][2].items())
    assert [line["epoch"] for line in result.history] == [1, 2, 3]
    assert ["gap/child" in line for line in result.history] == [False, False, True]
    assert [path.name for path in sorted((result.path / "genotypes").iterdir())] == ["epoch-0001.json"]


def test_pretraining_trains_the_weights(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(search={"pretrain_epochs": 1})
    before = [weight.detach().clone() for weight in job.supernet.parameters()]
    job.step(0)
    assert any(not torch.equal(old, new) for old, new in zip(before, job.supernet.parameters(), strict=True))


def test_pretraining_trains_the_weights_with_a_warm_up_too(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(search={"pretrain_epochs": 2, "weights": {"warm_up_epochs": 0.5}})
    before = [weight.detach().clone() for weight in job.supernet.parameters()]
    for step in range(2 * STEPS_PER_EPOCH):
        job.step(step)
    assert any(not torch.equal(old, new) for old, new in zip(before, job.supernet.parameters(), strict=True))


@pytest.mark.parametrize(
    ("alpha_loss", "what"),
    [
        (True, "alpha step 2, batch 2 of pass 1 through 'alpha'"),
        (False, "weight step 2, batch 2 of pass 1 through 'weights'"),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_the_update(
    search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch, alpha_loss: bool, what: str
) -> None:
    job = search_job()
    job.step(0)
    original = type(job.task).loss

    def poisoned(self: Any, model: Any, batch: Any) -> Tensor:
        loss = original(self, model, batch)
        return loss * torch.nan if (batch.part == "alpha") == alpha_loss else loss

    monkeypatch.setattr(type(job.task), "loss", poisoned)
    alphas = [alpha.detach().clone() for alpha in job.sampler.parameters()]
    before = [weight.detach().clone() for weight in job.supernet.parameters()]
    with pytest.raises(NonFiniteError, match=f"{what}: the loss is nan") as caught:
        job.step(1)
    assert caught.value.exit_code == 4
    assert all(torch.equal(old, new) for old, new in zip(before, job.supernet.parameters(), strict=True))
    if alpha_loss:
        assert all(torch.equal(old, new) for old, new in zip(alphas, job.sampler.parameters(), strict=True))


def test_a_search_that_fails_keeps_its_last_checkpoint(
    config: Make, finished: SearchResult, monkeypatch: pytest.MonkeyPatch, final_state: Read, same: Same
) -> None:
    """And goes on from there once the cause is gone."""
    settings = config()
    original = SearchJob.step

    def failing(self: SearchJob, step: int) -> dict[str, float]:
        if step == 4:
            raise NonFiniteError("weight step 5: the loss is nan")
        return original(self, step)

    monkeypatch.setattr(SearchJob, "step", failing)
    with pytest.raises(NonFiniteError):
        run(settings)
    monkeypatch.setattr(SearchJob, "step", original)
    resumed = search(resume=folder_of(settings), quiet=True)
    assert same(final_state(resumed.path), final_state(finished.path))


def test_weights_and_alphas_learn_from_their_own_part(
    search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eq. 6: a weight step moves no alpha, an alpha step no weight; the parts are disjoint."""
    job = search_job()
    parts: list[tuple[str, bool]] = []
    original = job.task.loss

    def spy(model: Any, batch: Any) -> Tensor:
        parts.append((batch.part, any(weight.requires_grad for weight in job.supernet.parameters())))
        return original(model, batch)

    monkeypatch.setattr(job.task, "loss", spy)
    before = [weight.detach().clone() for weight in job.supernet.parameters()]
    job._alpha_step(0)
    assert all(torch.equal(old, new) for old, new in zip(before, job.supernet.parameters(), strict=True))
    alphas = [alpha.detach().clone() for alpha in job.sampler.parameters()]
    job._weight_step(0, uniform=False)
    assert parts == [("alpha", False), ("weights", True)]
    assert all(torch.equal(old, new) for old, new in zip(alphas, job.sampler.parameters(), strict=True))


def test_every_step_draws_its_own_gates(search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one and the same P: alpha is held."""
    job = search_job(search={"steps": "1:2"})
    drawn: list[tuple[float, ...]] = []
    original = EGS.draw

    def spy(self: EGS, *args: Any, **options: Any) -> Any:
        found = original(self, *args, **options)
        drawn.append(tuple(torch.cat([gates.detach().flatten() for gates in found.gates.values()]).tolist()))
        return found

    monkeypatch.setattr(EGS, "draw", spy)
    monkeypatch.setattr(job._alpha_optimizer, "step", lambda: None)
    for step in range(3):
        job.step(step)
    assert len(drawn) == 9
    assert len(set(drawn)) == 9


def test_an_epoch_s_loss_is_the_mean_of_its_own_steps(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchJob, "step", lambda self, step: {"loss": float(step)})
    history = run(config()).history
    assert [line["train/loss"] for line in history] == [1.0, 4.0]


def test_every_alpha_gets_a_gradient_from_the_task(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(sampler={"constraint": {"kind": "none"}}, search={"alpha": {"weight_decay": 0.0}})
    job.step(0)
    for alpha in job.sampler.parameters():
        assert (alpha.grad != 0).all()


def test_the_supernet_counts_every_candidate(finished: SearchResult, search_job: Callable[..., SearchJob]) -> None:
    assert finished.parameters == count_parameters(search_job().supernet)


def test_half_precision_searches_with_full_precision_numbers(config: Make, final_state: Read) -> None:
    state = final_state(run(config(search={"precision": "bfloat16", "epochs": 1})).path)
    kept = weights(state) | part(state, ".job.sampler")
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in kept.values())


@pytest.mark.parametrize(("preset", "aggregate"), [("official", "mean"), ("paper", "sum")])
def test_every_preset_searches(config: Make, preset: str, aggregate: str) -> None:
    found = run(config(sampler={"preset": preset}, search={"epochs": 1})).architecture
    assert (found.scope, found.aggregate) == ("edge", aggregate)


def test_a_taken_name_is_refused_and_nothing_overwritten(config: Make, finished: SearchResult) -> None:
    names = ("config.yaml", "env.json", "metrics.jsonl")
    before = [(finished.path / name).read_bytes() for name in names]
    with pytest.raises(ConfigError, match=r"^seed: 0 in the run, 1 now\n.* or choose another --run\.name$"):
        run(config(seed=1, run={"root": str(finished.path.parent), "name": finished.path.name}))
    assert [(finished.path / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("over", "error"),
    [
        ({"data": {"root": "gone.npz"}}, DataError),
        ({"search": {"examples": 2}}, DataError),
        ({"search": {"epochs": 0}}, ConfigError),
        ({"device": "cuda:99"}, ConfigError),
    ],
)
def test_bad_input_leaves_no_folder(config: Make, over: dict[str, Any], error: type[Exception]) -> None:
    settings = config(**over)
    with pytest.raises(error):
        run(settings)
    assert not Path(settings["run"]["root"]).exists()


def test_deriving_from_the_folder_gives_what_was_kept(finished: SearchResult) -> None:
    derivation = derive(finished.path, n=3)
    assert derivation.architecture == finished.architecture
    assert derivation.architecture.posterior == finished.architecture.posterior
    assert len(derivation.ranking) == 3


def test_deriving_with_other_samples_keeps_another_number_of_operations(finished: SearchResult) -> None:
    kept = [derive(finished.path, samples=samples).architecture for samples in (1, 4, 12)]
    sizes = [sum(int(code.sum()) for code in found.code.values()) for found in kept]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    with pytest.raises(ConfigError, match=r"sampler\.samples: must be at least 1, got 0"):
        derive(finished.path, samples=0)


def test_deriving_needs_no_data(finished: SearchResult, tmp_path: Path) -> None:
    path = Path(shutil.copytree(finished.path, tmp_path / "copy"))
    text = (path / "config.yaml").read_text()
    root = str(vars(load_run_config(path).data)["root"])
    assert root in text
    (path / "config.yaml").write_text(text.replace(root, "gone.npz"))
    assert derive(path).architecture == finished.architecture


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for call in (lambda: search(resume=tmp_path, quiet=True), lambda: derive(tmp_path)):
        with pytest.raises(CheckpointError, match="not a run folder") as caught:
            call()
        assert caught.value.exit_code == 3


def test_a_search_says_what_it_does(config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    search(config(search={"epochs": 1}))
    output = capsys.readouterr()
    assert output.out == ""
    assert "epoch 1/1" in output.err
    assert "supernet" in output.err
    assert "child kept" in output.err


def test_a_quiet_search_says_nothing(config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run(config(search={"epochs": 1}))
    assert capsys.readouterr() == ("", "")
