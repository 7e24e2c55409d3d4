"""The steps of a search: weights and alpha in turn on disjoint parts of the training data (Eq. 6 and 13)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import live_cell
from datanas.core import seeding
from datanas.core.processes import ALONE, Processes
from datanas.data.batches import parse_ratio
from datanas.engine.alpha_reach import flat_warning
from datanas.engine.collapse import collapse, inspect, is_collapsed
from datanas.engine.config import Config
from datanas.engine.gap import Gap, measure_gap
from datanas.engine.hypergradient import unrolled_loss
from datanas.engine.loop import EpochReport, Job
from datanas.engine.schedules import build_sgd, learning_rate, set_learning_rate
from datanas.engine.selection import rank
from datanas.engine.setup import build_sampler, build_space
from datanas.engine.steps import Averaging, autocast, frozen, update, update_alpha
from datanas.engine.uncollapsed import derive_uncollapsed
from datanas.engine.untrained import start_alpha
from datanas.kernels.gates import Gates, host_gates
from datanas.kernels.hardware import place
from datanas.kernels.norm import synchronise
from datanas.samplers import samplers
from datanas.samplers.base import Derivation, Draw, Sampler, Update
from datanas.spaces.base import Costs
from datanas.supernet import Supernet
from datanas.tasks.base import Part, Task

MODES_FILE = "modes.json"
"""Where, inside its folder, a search keeps the architectures that it would have kept on the way."""
MODE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the search after which that is noted."""
_ROUNDING = 1e-9
_REMEDY = (
    "What helps: all the data in few epochs instead of few data many times (--search.epochs, --search.examples), or a "
    "choice among trained candidates: datanas race"
)


class SearchJob(Job):
    """A search under way: supernet, sampler, their optimisers, and the number of alpha steps so far."""

    kind = "search"

    def __init__(self, config: Config, task: Task[Any], device: torch.device, processes: Processes = ALONE) -> None:
        settings = config.search
        self.config = config
        self.task = task
        self.device = device
        if settings.shuffled_labels:
            task.shuffle_labels()
        if settings.leaves_aside:
            task.set_aside(settings.judge)
        task.split_search(settings.split, settings.batch_size, settings.examples)
        space = self._space = build_space(config)
        self.sampler: Sampler = build_sampler(config, space)
        with seeding.keyed(config.seed, "supernet"):
            stem = task.make_stem(space.width)
            make_head = partial(task.make_head, stem=stem)
            self.supernet = Supernet(space, stem, make_head, partial=self.sampler.partial)
        place(self.supernet, device)
        if config.sync_batch_norm:
            synchronise(self.supernet, processes)
        self._reach = seeding.reach_of(self.supernet, task)
        self._processes = processes
        self._average = Averaging(processes, self.supernet)
        self.sampler.costs = space.costs(self.supernet.stem, task.example())
        self._weights = list(self.supernet.parameters())
        self._alphas = list(self.sampler.parameters())
        self._weight_optimizer = build_sgd(self._weights, settings.weights)
        self._alpha_optimizer = torch.optim.Adam(
            self._alphas or [torch.zeros(0)],  # of a method without any
            settings.alpha.lr,
            betas=settings.alpha.betas,
            weight_decay=_weight_decay(config),
        )
        self._weight_turn, self._alpha_turn = (int(part) for part in parse_ratio(settings.steps))
        self.turn = self._weight_turn
        self._alpha_steps = 0
        self.steps_per_epoch = task.steps_per_epoch("weights")
        self.epochs = settings.pretrain_epochs + settings.epochs
        self.derivation: Derivation | None = None
        self.warnings: list[str] = []
        self._modes: list[dict[str, Any]] = []
        self.gap: Gap | None = None

    def progress(self, step: int) -> float:
        """Share of the search that is done before `step`; 0 while pre-training."""
        before = self.config.search.pretrain_epochs * self.steps_per_epoch
        return max(0, step - before) / (self.config.search.epochs * self.steps_per_epoch)

    def alpha_steps(self, step: int) -> int:
        """How many alpha steps are made in step `step`."""
        started = not self._pretrains(step) and self.progress(step) >= self.config.search.alpha_start
        return self._alpha_turn if started and self.sampler.learns and step % self._weight_turn == 0 else 0

    def foresee(self) -> list[str]:
        warning = flat_warning(self)
        return [] if warning is None else [warning]

    def _pretrains(self, step: int) -> bool:
        return step < self.config.search.pretrain_epochs * self.steps_per_epoch

    def step(self, step: int) -> dict[str, float]:
        if step == 0:
            start_alpha(self.sampler, self.config, self.task)
        figures: dict[str, float] = {}
        if count := self.alpha_steps(step):
            figures["alpha loss"] = sum(self._alpha_step(step) for _ in range(count)) / count
        figures["loss"] = self._weight_step(step, uniform=self._pretrains(step))
        self._note_mode(step + 1)
        return figures

    def _note_mode(self, done: int) -> None:
        """Keep what would be derived now, where another share of the search has been reached."""
        reached = self.progress(done)
        left = MODE_SHARES[len(self._modes) :]
        passed = sum(share <= reached + _ROUNDING for share in left)
        if passed and self.sampler.learns:
            mode = derive_uncollapsed(self.sampler, self._space).architecture
            entry = {"share": reached, "architecture": json.loads(mode.to_json())}
            self._modes += [entry] * passed

    def _weight_step(self, step: int, *, uniform: bool) -> float:
        settings = self.config.search
        rate = settings.weights.lr if uniform else self._rate(step)
        with torch.no_grad():
            generator = seeding.generator(self.config.seed, "gates/weights", step)
            draw = self.sampler.draw(self.progress(step), generator, uniform=uniform)
        gates = host_gates(draw.gates, self.device, dense=settings.execution == "dense")
        what = f"weight step {step + 1}, {self._batch('weights', step)}"
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "weights", step, *own, reach=self._reach):
            with autocast(self.device, settings.precision):
                batch = self.task.batch("weights", step)
                set_learning_rate(self._weight_optimizer, rate * self.task.rate(batch))
                loss = self.task.loss(self.supernet.child(gates), batch)
            return update(loss, self._weights, self._weight_optimizer, settings.weights.clip, what, self._average)

    def _rate(self, step: int) -> float:
        """The weights' learning rate, for a batch whose factor is 1."""
        epochs = self.config.search.epochs
        return learning_rate(self.config.search.weights, self.progress(step) * epochs, epochs)

    def _alpha_step(self, step: int) -> float:
        settings = self.config.search
        progress = self.progress(step)
        number = self._alpha_steps
        draw = self.sampler.propose(progress, seeding.generator(self.config.seed, "gates/alpha", number))
        gates = self._asked_gates(draw, number)
        what = f"alpha step {number + 1}, {self._batch('alpha', number)}"
        before = {name: parameter.detach().clone() for name, parameter in self.sampler.named_parameters()}
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "alpha", number, *own, reach=self._reach):
            task_loss = self._alpha_loss(gates, step)
            loss = self.sampler.loss(task_loss, draw, progress)
            with frozen(self._weights):  # closed operations run in backward, and may draw there
                value = update_alpha(loss, self._alphas, self._alpha_optimizer, what, self._average, task_loss)
        self.sampler.settle(Update(draw, value, before, settings.alpha.lr))
        self._alpha_steps += 1
        return value

    def _asked_gates(self, draw: Draw, number: int) -> dict[str, Gates]:
        settings = self.config.search
        chance = seeding.generator(self.config.seed, "gates/closed", number)
        gates = {
            name: group.asking(settings.gradient.kind, settings.gradient.share, chance)
            for name, group in host_gates(draw.gates, self.device, dense=settings.execution == "dense").items()
        }
        if draw.asked is None:
            return gates
        return {name: group.only(draw.asked[name]) for name, group in gates.items()}

    def _alpha_loss(self, gates: Mapping[str, Gates], step: int) -> Tensor:
        """The task's loss on the alpha part, from which the gradient reaches the gates if the method learns by it."""
        settings = self.config.search
        batch = self.task.batch("alpha", self._alpha_steps)
        if settings.hypergradient.kind == "unrolled":
            ahead = self.task.batch("weights", step)
            return unrolled_loss(
                self.supernet,
                self.task,
                gates,
                (ahead, batch),
                self._weight_optimizer,
                xi=self._rate(step) * self.task.rate(ahead),
                product=settings.hypergradient.product,
                precision=settings.precision,
            )
        with (
            frozen(self._weights),
            autocast(self.device, settings.precision),
            torch.set_grad_enabled(self.sampler.differentiable),
        ):
            return self.task.loss(self.supernet.child(gates), batch)

    def _batch(self, part: Part, number: int) -> str:
        epoch, place = divmod(number, self.task.steps_per_epoch(part))
        return f"batch {place + 1} of pass {epoch + 1} through {part!r}"

    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        settings = self.config.search
        figures: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        searched = epoch - settings.pretrain_epochs
        if searched <= 0:
            return EpochReport(figures, f"pre-training  loss {means['loss']:.3f}")
        is_last = searched == settings.epochs
        derivation = self.derivation = self.choose() if is_last else self.sampler.derive()
        kept = derivation.architecture
        found = kept.posterior or {}
        lines, reached = [f"loss {means['loss']:.3f}"], None
        if searched % settings.gap.every == 0 or is_last:
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
            reached = self.gap.preference
            lines.append(self.gap.text(self.task))
        lines.append(f"log P {found['log_prob']:.2f}" if "log_prob" in found else "")
        figures |= {f"derived/{name}": value for name, value in found.items() if isinstance(value, int | float)}
        flatness = self.sampler.flatness()
        for name, share in self.sampler.probabilities().items():
            figures[f"probs/{name}"] = share.tolist()
            figures[f"flatness/{name}"] = flatness[name]
        for name, cost in self.expected_costs().items():
            figures[f"expected/{name}"] = cost
        document = architecture_with_source(kept, self.config, self.task, searched)
        decides = self.sampler.learns and self.sampler.differentiable
        begun = is_last or self._alpha_steps > 0 or not decides  # of alpha at rest nothing can be said
        warnings = inspect(kept, self._space, flatness if decides else {}, self.config.train.cells) if begun else []
        fallen = collapse(kept, self._space, _REMEDY) if is_last else None
        if fallen is None and (passed := found.get("passed_over")):
            fallen = f"collapsed: the {passed} likeliest, which were passed over. {_REMEDY}"
        self.warnings = warnings if fallen is None else [*warnings, fallen]
        return EpochReport(
            figures,
            "  ".join(filter(None, lines)),
            {genotype_file(searched): document.to_json(), Path(MODES_FILE): json.dumps({"entries": self._modes})},
            warnings,
            reached,
        )

    def choose(self, n: int = 1) -> Derivation:
        """What the sampler's rule keeps, and the `n` best or likeliest; `best_sample` asks the supernet."""
        if self.sampler.rule != "best_sample":
            return derive_uncollapsed(self.sampler, self._space, n)
        count, seed = self.sampler.derivation.candidates, self.config.seed
        found = self.sampler.candidates(count, seeding.generator(seed, "candidates"))
        settings = self.config.search.gap
        ranking = rank(found, self.supernet, self.task, settings, device=self.device, seed=seed, n=n)
        best = Derivation(ranking[0][0], tuple(ranking[:n]))
        return best.ranked_by(f"{self.task.score} on the alpha part", candidates=len(found))

    def kept_costs(self, architecture: Architecture) -> dict[str, float]:
        """Parameters and multiply-adds of the operations that an architecture opens in the supernet, and their number.

        What every child has, such as the stem, is left out, and so is what no path through its cell leads through.
        """
        live = {name: live_cell(cell).code for name, cell in architecture.cells.items()}
        return {
            "parameters": float(sum((live[name] * cost.parameters).sum() for name, cost in self._costs.items())),
            "macs": float(sum((live[name] * cost.macs).sum() for name, cost in self._costs.items())),
            "operations": float(sum(int(code.sum()) for code in live.values())),
        }

    def has_collapsed(self, architecture: Architecture) -> bool:
        """Whether a cell of the space has lost what makes a network learn."""
        return is_collapsed(architecture, self._space)

    @property
    def _costs(self) -> Mapping[str, Costs]:
        return self.sampler.costs

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
            "modes": list(self._modes),
            "task": self.task.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        self.sampler.load_state_dict(state["sampler"])
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self._alpha_steps = int(state["alpha_steps"])
        self._modes = list(state.get("modes", []))  # runs of earlier versions have none
        self.task.load_state_dict(state["task"])


def _weight_decay(config: Config) -> float:
    """Of alpha."""
    given = config.search.alpha.weight_decay
    return samplers[config.sampler.name].alpha_weight_decay if given is None else given


def architecture_with_source(architecture: Architecture, config: Config, task: Task[Any], epoch: int) -> Architecture:
    """The architecture with a note of where it comes from."""
    source = {
        "method": config.sampler.model_dump(mode="json"),
        "data": {"name": config.data.name, **task.describe()},
        "seed": config.seed,
        "epoch": epoch,
    }
    return replace(architecture, source=source)


def genotype_file(epoch: int) -> Path:
    """Where, inside its folder, a run keeps the architecture of an epoch."""
    return Path("genotypes") / f"epoch-{epoch:04d}.json"
