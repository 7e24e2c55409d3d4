"""A search from its first step to its result: weights and alpha in turn, on disjoint parts of the data (Eq. 6 and 13).

`search` is all of it, in the order in which things happen. A step is `SearchJob.step`, its updates `_alpha_step` and
`_weight_step`; what follows an epoch is `end_epoch`. `timetable` says which step does what, `alpha_step` what alpha
descends on, `steps` how an update is made and guarded, `findings` what would be kept now, `search_result` what is left
at the end. Checkpoints, progress and signals are those of `loop`, the run folder and other processes those of `run`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datanas.core import seeding
from datanas.core.processes import ALONE, Processes
from datanas.engine.alpha_reach import flat_warning
from datanas.engine.alpha_step import alpha_gates, alpha_loss
from datanas.engine.budget import around, budget_of
from datanas.engine.budgeted_alpha import expected_inclusion, loss_of, start_within
from datanas.engine.config import Config
from datanas.engine.findings import MODES_FILE, Findings, genotype_file, with_source
from datanas.engine.gap import Gap, measure_gap
from datanas.engine.loop import EpochReport, Job, Loop
from datanas.engine.process import process_kept
from datanas.engine.run import plan_run
from datanas.engine.schedules import build_adam, build_sgd, set_learning_rate
from datanas.engine.search_result import RESULT_FILE, SearchResult, write_result
from datanas.engine.setup import build_sampler, build_space, load_table, load_task, memory_errors
from datanas.engine.steps import Averaging, autocast, update, update_alpha
from datanas.engine.timetable import Timetable
from datanas.engine.untrained import start_alpha
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import host_gates
from datanas.kernels.hardware import move_to
from datanas.kernels.norm import synchronise
from datanas.network import Supernet
from datanas.samplers.derivation import Derivation
from datanas.samplers.interface import BaseSampler, Update
from datanas.tasks.base import Part, Task


@process_kept()
def search(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
) -> SearchResult:
    """The search alone, whatever `search.choice` says; for the rest see `datanas.racing.search.search`."""
    with plan_run(config, "search", resume, allow_topology_change=allow_topology_change) as plan:
        with memory_errors(), plan.processes.together():
            table = load_table(plan.config)
            task = load_task(plan.config, plan.device, plan.processes)
            job = SearchJob(plan.config, task, plan.device, plan.processes)
        run = plan.open(task, job.length)
        with Loop(job, run, quiet=quiet) as loop:
            for step in loop:  # from where the run is; saves, and stops at a signal, between two steps
                loop.add(job.step(step))
                if loop.ends_epoch:
                    loop.report(job.end_epoch(loop.epoch, loop.means()))
        if job.derivation is None and not run.has(RESULT_FILE):
            job.end_epoch(job.epochs, {"loss": 0.0})  # killed after its last checkpoint: the same figures again
        return write_result(job, run, table)


class SearchJob(Job):
    """A search under way: supernet, sampler, their optimisers, and the number of alpha steps so far."""

    kind = "search"

    def __init__(self, config: Config, task: Task[Any], device: torch.device, processes: Processes = ALONE) -> None:
        settings = config.search
        self.config, self.task, self.device, self._processes = config, task, device, processes
        if settings.shuffled_labels:
            task.shuffle_labels()
        if settings.leaves_aside:
            task.set_aside(settings.judge)
        task.split_search(settings.split, settings.batch_size, settings.examples)
        space = build_space(config)
        self.sampler: BaseSampler = build_sampler(config, space)
        with seeding.keyed(config.seed, "supernet"):
            stem = task.make_stem(space.width)
            make_head = partial(task.make_head, stem=stem)
            self.supernet = Supernet(space, stem, make_head, partial_channels=self.sampler.partial_channels)
        move_to(self.supernet, device)
        if config.sync_batch_norm:
            synchronise(self.supernet, processes)
        self.sampler.costs = space.costs(self.supernet.stem, task.example())
        self.budget = budget_of(config, around(task))
        if self.budget is not None:
            self.budget.limit(self.sampler)
        self.budget_loss = loss_of(self.budget, self.sampler)
        self.findings = Findings(config, space, self.sampler, self.budget)
        self.steps_per_epoch = task.steps_per_epoch("weights")
        self.times = Timetable(settings, self.steps_per_epoch, learns=self.sampler.learns)
        self.epochs, self.turn = self.times.epochs, self.times.turn
        self._weights = list(self.supernet.parameters())
        self._alphas = list(self.sampler.parameters())
        self.weight_optimizer = build_sgd(self._weights, settings.weights)
        self._alpha_optimizer = build_adam(self._alphas, settings.alpha, self.sampler.alpha_weight_decay)
        self._average = Averaging(processes, self.supernet)
        self._reach = seeding.reach_of(self.supernet, task)
        self._alpha_steps = 0
        self.derivation: Derivation | None = None
        self.gap: Gap | None = None
        self.warnings: list[str] = []

    def foresee(self) -> list[str]:
        warning = flat_warning(self)
        return [] if warning is None else [warning]

    def step(self, step: int) -> dict[str, float]:
        """Alpha steps, as many as fall on this step, and a weight step."""
        if step == 0:
            start_alpha(self.sampler, self.config, self.task)
            start_within(self.sampler, self.budget_loss)
        figures: dict[str, float] = {}
        if count := self.times.alpha_steps(step):
            figures["alpha loss"] = sum(self._alpha_step(step) for _ in range(count)) / count
        figures["loss"] = self._weight_step(step, uniform=self.times.pretrains(step))
        self.findings.note_mode(self.times.progress(step + 1))
        return figures

    def _weight_step(self, step: int, *, uniform: bool) -> float:
        """Draw a child, and let its weights descend on their part of the data."""
        settings = self.config.search
        rate = settings.weights.lr if uniform else self.times.weight_rate(step)
        with torch.no_grad():
            generator = seeding.generator(self.config.seed, "gates/weights", step)
            draw = self.sampler.draw(self.times.progress(step), generator, uniform=uniform)
        gates = host_gates(draw.gates, self.device, dense=settings.execution == "dense")
        what = f"weight step {step + 1}, {self._batch('weights', step)}"
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "weights", step, *own, reach=self._reach):
            with autocast(self.device, settings.precision):
                batch = self.task.batch("weights", step)
                set_learning_rate(self.weight_optimizer, rate * self.task.lr_scale(batch))
                loss = self.task.loss(self.supernet.child(gates), batch)
            return update(loss, self._weights, self.weight_optimizer, settings.weights.clip, what, self._average)

    def _alpha_step(self, step: int) -> float:
        """Draw a child, and let alpha descend on its part of the data, through the child's gates."""
        settings = self.config.search
        progress = self.times.progress(step)
        number = self._alpha_steps
        draw = self.sampler.draw_for_alpha(progress, seeding.generator(self.config.seed, "gates/alpha", number))
        chance = seeding.generator(self.config.seed, "gates/closed", number)
        gates = alpha_gates(draw, settings, self.device, chance)
        what = f"alpha step {number + 1}, {self._batch('alpha', number)}"
        before = {name: parameter.detach().clone() for name, parameter in self.sampler.named_parameters()}
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "alpha", number, *own, reach=self._reach):
            task_loss = alpha_loss(self, gates, step, number)
            loss = self.sampler.loss(task_loss, draw, progress)
            if self.budget_loss is not None:
                inclusion = self.sampler.inclusion_of(draw.probs)
                loss = loss + self.budget_loss.loss(inclusion).to(loss.device)
            with frozen(self._weights):  # closed operations run in backward, and may draw there
                value = update_alpha(loss, self._alphas, self._alpha_optimizer, what, self._average, task_loss)
        self.sampler.after_alpha_step(Update(draw, value, before, settings.alpha.lr))
        if self.budget_loss is not None:
            self.budget_loss.adapt(inclusion)
        self._alpha_steps += 1
        return value

    def _batch(self, part: Part, number: int) -> str:
        epoch, index = divmod(number, self.task.steps_per_epoch(part))
        return f"batch {index + 1} of pass {epoch + 1} through {part!r}"

    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        """Derive what would be kept now, measure the gap where it is due, and look for what is wrong."""
        settings = self.config.search
        figures: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        searched = epoch - settings.pretrain_epochs
        if searched <= 0:
            return EpochReport(figures, f"pre-training  loss {means['loss']:.3f}")
        is_last = searched == settings.epochs
        self.derivation = self.choose() if is_last else self.findings.interim()
        kept = self.derivation.architecture
        notes = kept.posterior or {}
        lines, score = [f"loss {means['loss']:.3f}"], None
        if searched % settings.gap.every == 0 or is_last:
            self.gap = self._measure_gap(epoch)
            figures |= self.gap.figures()
            score = self.gap.selection_score
            lines.append(self.gap.text(self.task))
        if "log_prob" in notes:
            lines.append(f"log P {notes['log_prob']:.2f}")
        figures |= {f"derived/{name}": value for name, value in notes.items() if isinstance(value, int | float)}
        figures |= self.findings.figures()
        if self.budget_loss is not None:
            figures |= self.budget_loss.figures(expected_inclusion(self.sampler))
        warnings = self.findings.warnings(kept, has_begun=is_last or self._alpha_steps > 0)
        collapse = self.findings.collapse(kept) if is_last else None
        self.warnings = warnings if collapse is None else [*warnings, collapse]
        files = {
            genotype_file(searched): with_source(kept, self.config, self.task, searched).to_json(),
            Path(MODES_FILE): json.dumps({"entries": self.findings.modes}),
        }
        return EpochReport(figures, "  ".join(lines), files, warnings, score, self.findings.heat_maps())

    def choose(self, n: int = 1) -> Derivation:
        """What is kept at the end, and the `n` best or likeliest."""
        return self.findings.choose(self.supernet, self.task, self.device, n)

    def _measure_gap(self, epoch: int) -> Gap:
        assert self.derivation is not None
        return measure_gap(
            self.supernet,
            self.sampler,
            self.task,
            self.derivation.architecture,
            self.config.search.gap,
            device=self.device,
            seed=self.config.seed,
            epoch=epoch - self.config.search.pretrain_epochs,
            progress=self.times.progress(epoch * self.steps_per_epoch),
        )

    def state(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet.state_dict(),
            "sampler": self.sampler.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "alpha_optimizer": self._alpha_optimizer.state_dict(),
            "alpha_steps": self._alpha_steps,
            "modes": list(self.findings.modes),
            "task": self.task.state_dict(),
            **({} if self.budget_loss is None else {"budget": self.budget_loss.state_dict()}),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        self.sampler.load_state_dict(state["sampler"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self._alpha_steps = int(state["alpha_steps"])
        if self.budget_loss is not None:
            self.budget_loss.load_state_dict(state["budget"])
        self.findings.modes = list(state.get("modes", []))  # runs of earlier versions have none
        self.task.load_state_dict(state["task"])
