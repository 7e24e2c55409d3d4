"""The search loop: weights and alpha in turn on disjoint parts of the training data (Eq. 6 and 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from datanas import seeding
from datanas.architecture import Architecture
from datanas.data.batches import parse_ratio
from datanas.distributed import ALONE, Processes
from datanas.engine.cell_warnings import inspect
from datanas.engine.config import Config, resolve
from datanas.engine.gap import Gap, measure_gap
from datanas.engine.loop import EpochReport, Job, run_job
from datanas.engine.run import begin_run, load_chosen_state, load_run_config
from datanas.engine.schedules import build_sgd, learning_rate, set_learning_rate
from datanas.engine.setup import build_sampler, build_space, load_task, memory_errors
from datanas.engine.steps import Averaging, autocast, frozen, update, update_alpha
from datanas.hardware import count_parameters, place
from datanas.ops.gates import host_gates
from datanas.ops.norm import synchronise
from datanas.runs.metrics import read_metrics
from datanas.samplers.base import Derivation, Sampler
from datanas.supernet import Supernet
from datanas.tasks.base import Part, Task


class SearchJob(Job):
    """A search under way: supernet, sampler, their optimisers, and the number of alpha steps so far."""

    kind = "search"

    def __init__(self, config: Config, task: Task[Any], device: torch.device, processes: Processes = ALONE) -> None:
        settings = config.search
        self.config = config
        self.task = task
        self.device = device
        task.split_search(settings.split, settings.batch_size, settings.images)
        space = self._space = build_space(config)
        self.sampler: Sampler = build_sampler(config, space)
        with seeding.keyed(config.seed, "supernet"):
            self.supernet = Supernet(space, task.make_stem(space.width), task.make_head)
        place(self.supernet, device)
        if config.sync_batch_norm:
            synchronise(self.supernet, processes)
        self._processes = processes
        self._average = Averaging(processes, self.supernet)
        self._costs = space.costs(self.supernet.stem, task.example())
        self._weights = list(self.supernet.parameters())
        self._alphas = list(self.sampler.parameters())
        self._weight_optimizer = build_sgd(self._weights, settings.weights)
        self._alpha_optimizer = torch.optim.Adam(
            self._alphas, settings.alpha.lr, betas=settings.alpha.betas, weight_decay=settings.alpha.weight_decay
        )
        self._weight_turn, self._alpha_turn = (int(part) for part in parse_ratio(settings.steps))
        self.turn = self._weight_turn
        self._alpha_steps = 0
        self.steps_per_epoch = task.steps_per_epoch("weights")
        self.epochs = settings.pretrain_epochs + settings.epochs
        self.derivation: Derivation | None = None
        self.gap: Gap | None = None

    def progress(self, step: int) -> float:
        """Share of the search that is done before `step`; 0 while pre-training."""
        before = self.config.search.pretrain_epochs * self.steps_per_epoch
        return max(0, step - before) / (self.config.search.epochs * self.steps_per_epoch)

    def step(self, step: int) -> dict[str, float]:
        pretraining = step < self.config.search.pretrain_epochs * self.steps_per_epoch
        figures: dict[str, float] = {}
        if not pretraining and step % self._weight_turn == 0 and self.progress(step) >= self.config.search.alpha_start:
            losses = [self._alpha_step(step) for _ in range(self._alpha_turn)]
            figures["alpha loss"] = sum(losses) / len(losses)
        figures["loss"] = self._weight_step(step, uniform=pretraining)
        return figures

    def _weight_step(self, step: int, *, uniform: bool) -> float:
        settings = self.config.search
        done = self.progress(step) * settings.epochs
        rate = settings.weights.lr if uniform else learning_rate(settings.weights, done, settings.epochs)
        set_learning_rate(self._weight_optimizer, rate)
        with torch.no_grad():
            generator = seeding.generator(self.config.seed, "gates/weights", step)
            draw = self.sampler.draw(self.progress(step), generator, uniform=uniform)
        gates = host_gates(draw.gates, self.device, dense=settings.execution == "dense")
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "weights", step, *own), autocast(self.device, settings.precision):
            loss = self.task.loss(self.supernet.child(gates), self.task.batch("weights", step))
        what = f"weight step {step + 1}, {self._batch('weights', step)}"
        return update(loss, self._weights, self._weight_optimizer, settings.weights.clip, what, self._average)

    def _alpha_step(self, step: int) -> float:
        settings = self.config.search
        progress = self.progress(step)
        number = self._alpha_steps
        draw = self.sampler.draw(progress, seeding.generator(self.config.seed, "gates/alpha", number))
        chance = seeding.generator(self.config.seed, "gates/closed", number)
        gates = {
            name: group.asking(settings.gradient.kind, settings.gradient.share, chance)
            for name, group in host_gates(draw.gates, self.device, dense=settings.execution == "dense").items()
        }
        with frozen(self._weights):
            own = self._processes.own_key
            with seeding.keyed(self.config.seed, "alpha", number, *own), autocast(self.device, settings.precision):
                loss = self.task.loss(self.supernet.child(gates), self.task.batch("alpha", number))
            loss = self.sampler.loss(loss, draw, progress)
            what = f"alpha step {number + 1}, {self._batch('alpha', number)}"
            value = update_alpha(loss, self._alphas, self._alpha_optimizer, what, self._average)
        self._alpha_steps += 1
        return value

    def _batch(self, part: Part, number: int) -> str:
        epoch, place = divmod(number, self.task.steps_per_epoch(part))
        return f"batch {place + 1} of pass {epoch + 1} through {part!r}"

    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        settings = self.config.search
        figures: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        searched = epoch - settings.pretrain_epochs
        if searched <= 0:
            return EpochReport(figures, f"pre-training  loss {means['loss']:.3f}")
        derivation = self.derivation = self.sampler.derive()
        kept = derivation.architecture
        found = kept.posterior or {}
        lines = [f"loss {means['loss']:.3f}"]
        if searched % settings.gap.every == 0 or searched == settings.epochs:
            self.gap = measure_gap(
                self.supernet,
                self.sampler,
                self.task,
                kept,
                settings.gap,
                device=self.device,
                seed=self.config.seed,
                epoch=searched,
                progress=self.progress(epoch * self.steps_per_epoch),
            )
            figures |= self.gap.figures()
            gap = self.gap
            lines.append(
                f"supernet {gap.supernet:.1%}  children {gap.children_mean:.1%} (variance {gap.children_variance:.2f})"
                f"  child kept {gap.child:.1%}  gap {100 * gap.gap:+.1f} points"
            )
        lines.append(f"log P {found['log_prob']:.2f}" if "log_prob" in found else "")
        figures |= {f"derived/{name}": value for name, value in found.items() if isinstance(value, int | float)}
        flatness = self.sampler.flatness()
        for name, share in self.sampler.probabilities().items():
            figures[f"probs/{name}"] = share.tolist()
            figures[f"flatness/{name}"] = flatness[name]
        for name, cost in self.expected_costs().items():
            figures[f"expected/{name}"] = cost
        document = architecture_with_source(kept, self.config, self.task, searched)
        return EpochReport(
            figures,
            "  ".join(filter(None, lines)),
            {Path("genotypes") / f"epoch-{searched:04d}.json": document.to_json()},
            inspect(kept, self._space, flatness),
            figures.get("gap/child"),
        )

    def expected_costs(self) -> dict[str, float]:
        """What the operations of a sampled child cost on average: the sum of cost times inclusion probability."""
        inclusion = {name: share.double().numpy() for name, share in self.sampler.inclusion().items()}
        return {
            "parameters": float(sum((inclusion[name] * cost.parameters).sum() for name, cost in self._costs.items())),
            "macs": float(sum((inclusion[name] * cost.macs).sum() for name, cost in self._costs.items())),
        }

    def state(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet.state_dict(),
            "sampler": self.sampler.state_dict(),
            "weight_optimizer": self._weight_optimizer.state_dict(),
            "alpha_optimizer": self._alpha_optimizer.state_dict(),
            "alpha_steps": self._alpha_steps,
            "task": self.task.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        self.sampler.load_state_dict(state["sampler"])
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self._alpha_steps = int(state["alpha_steps"])
        self.task.load_state_dict(state["task"])


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        path: the run folder.
        architecture: the one that is kept, with its posterior probability and margin.
        gap: the last measurement of the gap meter; None where the run was complete before.
        history: one mapping of figures an epoch, as in metrics.jsonl.
        parameters: learned numbers of the supernet.
    """

    path: Path
    architecture: Architecture
    gap: Gap | None
    history: list[dict[str, Any]]
    parameters: int


def search(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
) -> SearchResult:
    """Search an architecture and write the run folder; where a run of that name stands, go on with it.

    Args:
        config: a recipe's path, a mapping of sections, or a Config; may be left out when resuming.
        resume: a run folder to go on with.
        quiet: no progress on stderr.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.

    Raises:
        ConfigError, DataError: before anything is written.
        NonFiniteError, OutOfMemoryError, StorageError, RunInUseError, CheckpointError, ProcessLostError, Interrupted:
            as they say.
    """
    with begin_run(config, "search", resume, allow_topology_change=allow_topology_change) as run:
        with memory_errors(), run.processes.together():
            task = load_task(run.config, run.device, run.processes)
            job = SearchJob(run.config, task, run.device, run.processes)
        run.open(task, job.length)
        run_job(job, run, quiet=quiet)
        if job.derivation is None:
            job.derivation = job.sampler.derive()
        kept = architecture_with_source(job.derivation.architecture, run.config, task, run.config.search.epochs)
        run.write_text("architecture.json", kept.to_json())
        history = read_metrics(run.path / "metrics.jsonl") if run.is_first else []
        return SearchResult(run.path, kept, job.gap, history, count_parameters(job.supernet))


def derive(
    run: str | Path, *, n: int = 1, samples: int | None = None, checkpoint: Literal["last", "best"] = "last"
) -> Derivation:
    """The likeliest architectures of a search run, from a checkpoint; needs neither its data nor a device.

    Args:
        run: a run folder of `search`.
        n: how many.
        samples: M, where it should differ from the search's.
        checkpoint: the last, or that after the epoch whose child scored best on the alpha part.

    Raises:
        CheckpointError: no usable checkpoint there.
        ConfigError: the sampler has no such setting.
    """
    config = load_run_config(run)
    if samples is not None:
        config = resolve(config, [("sampler.samples", samples)])
    sampler = build_sampler(config, build_space(config))
    _, state = load_chosen_state(Path(run), "search", checkpoint)
    sampler.load_state_dict(state["job"]["sampler"])
    return sampler.derive(n)


def architecture_with_source(architecture: Architecture, config: Config, task: Task[Any], epoch: int) -> Architecture:
    """The architecture with a note of where it comes from."""
    source = {
        "method": config.sampler.model_dump(mode="json"),
        "data": {"name": config.data.name, **task.describe()},
        "seed": config.seed,
        "epoch": epoch,
    }
    return replace(architecture, source=source)
