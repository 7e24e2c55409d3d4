"""`Search`: the search of a module with choice blocks, for a training loop of one's own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datanas import posterior
from datanas.blocks.averaging import average_gradients
from datanas.blocks.found import Blocks
from datanas.blocks.renewed import renew
from datanas.blocks.resolve import factors_of, resolve
from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.settings import component
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import Gates
from datanas.lookup import find_architecture
from datanas.samplers import samplers
from datanas.samplers.derivation import Derivation
from datanas.samplers.interface import BaseSampler, Draw
from datanas.samplers.reusable import reusable
from datanas.spaces import MODULE

Part = Literal["weights", "alphas", "both"]


class Search:
    """Chooses for the choice blocks of a module while somebody else trains it.

    Weights and alphas learn in turn, on different data (Eq. 6), each from a child that is drawn for the step:

        search = datanas.Search(module, seed=0)
        weights = torch.optim.SGD(search.weights, lr=0.025, momentum=0.9)
        alphas = torch.optim.Adam(search.alphas, lr=3e-3, betas=(0.5, 0.999))
        for (x, y), (x_alpha, y_alpha) in zip(training_data, alpha_data):
            with search.sample("alphas"):
                loss = loss_of(module(x_alpha), y_alpha) + search.regulariser()
                loss.backward()
            alphas.step(); alphas.zero_grad()
            with search.sample("weights"):
                loss_of(module(x), y).backward()
            weights.step(); weights.zero_grad()
        network = search.network()

    Everything random is a function of the seed and of how many children were drawn before, so that processes with the
    same seed draw the same children; their gradients of alpha are averaged where `torch.distributed` is set up, once
    at the end of each block.

    Args:
        module: with `datanas.Choice` and the like in it. It stays the user's: only while a child is drawn does the
            search tell its blocks what to run.
        seed: of the draws.
        sampler: the search method and its settings, by name or as in a recipe, such as {"name": "egs", "samples": 3};
            by default Ensemble Gumbel-Softmax. A method that learns by the gradient through gates alone.

    Attributes:
        weights: the module's parameters.
        alphas: what the method learns, on the host.
        progress: the share of the search that is done, 0 to 1, for methods with schedules; it is the user's to set.

    Raises:
        ConfigError: the module has no choices, or blocks of one name with different candidates; the method is unknown,
            or cannot be used in a loop of one's own.

    >>> mix = datanas.Choice({"linear": torch.nn.Linear(3, 3), "skip": torch.nn.Identity()}, samples=1)
    >>> search = datanas.Search(torch.nn.Sequential(mix, torch.nn.Linear(3, 1)), seed=0)
    >>> with search.sample("alphas"):
    ...     (search.module(torch.ones(2, 3)).mean() + search.regulariser()).backward()
    >>> search
    Search(Sequential, EGS, 0: 2; drawn: 1 alphas)
    """

    def __init__(
        self, module: nn.Module, *, seed: int = 0, sampler: BaseSampler | Mapping[str, Any] | str | None = None
    ) -> None:
        self.module = module
        self.seed = seed
        self.progress = 0.0
        self.blocks = Blocks.of(module)
        self.sampler = _sampler(self.blocks, seed, sampler)
        self.weights: list[nn.Parameter] = list(module.parameters())
        self.alphas: list[nn.Parameter] = list(self.sampler.parameters())
        self.counts: dict[str, int] = {"weights": 0, "alphas": 0, "both": 0}
        self._draw: Draw | None = None
        self._have_run: set[str] = set()

    @contextmanager
    def sample(self, part: Part = "both", *, uniform: bool = False) -> Iterator[None]:
        """Run a block of code in which the module is a child that is drawn for it.

        However often the module is called there, it is the same child. `backward` belongs into the block, as often as
        you like; the step of an optimiser comes after it, where gradients of alpha are averaged over processes.

        Args:
            part: which gradients are made. For "alphas" the weights get none, which saves their share of the backward
                pass; for "weights" alphas get none and no closed candidate runs.
            uniform: draw every candidate alike, for training weights before the search.

        Raises:
            ConfigError: there is no such part.
            RuntimeError: a child is drawn already.
        """
        if part not in self.counts:
            raise ConfigError(f"part must be one of {', '.join(self.counts)}, got {part!r}")
        number, learns = self.counts[part], part != "weights" and torch.is_grad_enabled()
        draw_one = self.sampler.draw_for_alpha if part == "alphas" and not uniform else self.sampler.draw
        options = {"uniform": True} if uniform else {}
        with torch.set_grad_enabled(learns):
            generator = seeding.generator(self.seed, f"gates/{_STREAMS[part]}", number)
            draw = draw_one(min(max(self.progress, 0.0), 1.0), generator, **options)
            draw = reusable(draw, self.alphas)
        gates = {name: Gates.of(table if learns else table.detach()) for name, table in draw.gates.items()}
        if draw.grad_mask is not None and learns:
            gates = {name: each.grad_only_within(draw.grad_mask[name]) for name, each in gates.items()}
        calls = self._calls()
        with ExitStack() as stack:
            stack.enter_context(self.blocks.running(gates))
            if part == "alphas":
                stack.enter_context(frozen(self.weights))
            self._draw = draw
            try:
                yield
            finally:
                self._draw = None
        if learns:
            average_gradients(self.alphas)
        self.counts[part] = number + 1
        self._have_run |= {name for name, count in self._calls().items() if count > calls[name]}

    @contextmanager
    def running(self, architecture: Architecture | str | None = None) -> Iterator[None]:
        """Run a block of code in which the module is the child that an architecture stands for, without gates to learn.

        Args:
            architecture: None for what `derive` gives now.

        Raises:
            ArchitectureError: it is one of other choices.
            RuntimeError: a child is drawn already.
        """
        chosen = self.derive() if architecture is None else find_architecture(architecture)
        factors = factors_of(self.blocks, chosen)
        with self.blocks.running(
            {
                name: Gates.of(torch.tensor([[factors[name].get(each, 0.0) for each in group.primitives]]))
                for name, group in self.blocks.groups().items()
            }
        ):
            yield

    def regulariser(self) -> Tensor:
        """What the method adds to the loss of an alpha step: the architecture distribution constraint (Eq. 12-13).

        It is of the child that is drawn, and a scalar on the host.

        Raises:
            RuntimeError: none is drawn.
        """
        if self._draw is None:
            raise RuntimeError("no child is drawn: call regulariser() within `with search.sample('alphas'):`")
        return self.sampler.loss(torch.zeros(()), self._draw, min(max(self.progress, 0.0), 1.0))

    def expected_cost(self) -> Tensor:
        """What the child that will be kept costs in expectation (Eq. 14), differentiable in alpha.

        The sum of the candidates' costs (`Choice(costs=...)`, else their numbers of parameters), each times the
        probability that the candidate is among the M draws; what is not part of a choice does not count.

        Raises:
            ConfigError: the probabilities of the method are no function of its alphas alone; or a choice is within a
                candidate of another one.
        """
        self.blocks.require_apart("expected_cost")
        logits = getattr(self.sampler, "logits", None)
        if logits is None:
            raise ConfigError(f"{type(self.sampler).__name__} has no probabilities that costs could be weighed by")
        total = torch.zeros(())
        for name, costs in self.blocks.costs().items():
            layout = self.sampler.vectors[name]
            probs = layout.to_edges(layout.log_probs(logits(name)).exp())
            total = (
                total
                + posterior.expected_cost(
                    probs, self.sampler.samples_of(name), torch.tensor([costs], dtype=probs.dtype)
                ).sum()
            )
        return total

    def probabilities(self) -> dict[str, dict[str, float]]:
        """P by name and candidate, without gradient."""
        return {
            name: dict(zip(self.blocks.by_name[name][0].primitives, table[0].tolist(), strict=True))
            for name, table in self.sampler.probabilities().items()
        }

    def ranking(self, n: int = 10) -> Derivation:
        """The `n` likeliest architectures with their log-probabilities, exactly (Eq. 15)."""
        return self.sampler.derive(n)

    def derive(self) -> Architecture:
        """The likeliest architecture, with its log-probability and its margin over the next (Eq. 15)."""
        missed = [name for name in self.blocks.by_name if name not in self._have_run]
        if missed and self._have_run:
            warnings.warn(
                f"{', '.join(missed)}: no forward pass has come by so far, so nothing was learned of what is best",
                UserWarning,
                stacklevel=2,
            )
        return self.ranking(1).architecture

    def network(self, architecture: Architecture | str | None = None, *, weights: bool = False) -> nn.Module:
        """A plain module with the choices made, which shares nothing with the searched one.

        Args:
            architecture: what is kept; None for what `derive` gives.
            weights: keep the weights of the search. Otherwise every part is initialised anew by its own
                `reset_parameters`, as a function of the seed.

        Raises:
            ArchitectureError: it is one of other choices.
            ConfigError: a part has parameters and no `reset_parameters`.
        """
        network = resolve(self.module, self.derive() if architecture is None else architecture)
        if not weights:
            with seeding.keyed(self.seed, "network", reach="process"):
                renew(network)
        return network

    def state_dict(self) -> dict[str, Any]:
        """All that the search needs to go on, but for the module's weights and the optimisers, which are the user's.

        Tensors, numbers and texts, which `torch.load(..., weights_only=True)` reads.
        """
        return {
            "alphas": copy.deepcopy(self.sampler.state_dict()),
            "counts": dict(self.counts),
            "seed": self.seed,
            "progress": self.progress,
            "have_run": sorted(self._have_run),
            "candidates": {name: list(blocks[0].primitives) for name, blocks in self.blocks.by_name.items()},
            "samples": {name: blocks[0].samples for name, blocks in self.blocks.by_name.items()},
            "sampler": self.sampler.config.model_dump(mode="json"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            CheckpointError: it is that of a search of other choices, or of another method or other settings of it.
        """
        own = self.state_dict()
        if missing := sorted(own.keys() - state.keys()):
            raise CheckpointError(f"no state of a search: it lacks {', '.join(missing)}")
        for name in sorted(own["candidates"].keys() | state["candidates"].keys()):
            here, there = (each["candidates"].get(name) for each in (own, state))
            if here != there:
                raise CheckpointError(f"{name}: this search has the candidates {here}, the state {there}")
        for name, here in own["samples"].items():
            if here != (there := state["samples"].get(name)):
                raise CheckpointError(f"{name}: this search has samples={here}, the state samples={there}")
        here, there = own["sampler"], state["sampler"]
        if other := [key for key in here.keys() | there.keys() if here.get(key) != there.get(key)]:
            key = "name" if "name" in other else min(other)
            raise CheckpointError(
                f"sampler.{key}: this search has {here.get(key)!r}, the state {there.get(key)!r}; make the search as "
                "it was made then"
            )
        try:
            self.sampler.load_state_dict(state["alphas"])
        except RuntimeError as error:
            raise CheckpointError(f"the state is that of another method: {error}") from None
        self.counts = {part: int(state["counts"][part]) for part in self.counts}
        self.seed, self.progress = int(state["seed"]), float(state["progress"])
        self._have_run = set(state["have_run"])

    def _calls(self) -> dict[str, int]:
        return {name: sum(block.calls for block in blocks) for name, blocks in self.blocks.by_name.items()}

    def __repr__(self) -> str:
        groups = self.blocks.groups().values()
        names = ", ".join(f"{group.name}: {len(group.primitives)}" for group in groups)
        steps = ", ".join(f"{count} {part}" for part, count in self.counts.items() if count) or "none"
        return f"Search({type(self.module).__name__}, {type(self.sampler).__name__}, {names}; drawn: {steps})"


_STREAMS = {"weights": "weights", "alphas": "alpha", "both": "both"}


def _sampler(blocks: Blocks, seed: int, given: BaseSampler | Mapping[str, Any] | str | None) -> BaseSampler:
    if isinstance(given, BaseSampler):
        sampler = given
    else:
        config = component(samplers, "sampler", given, "egs")
        make: Any = samplers[config.name]
        with seeding.keyed(seed, "alpha"):
            sampler = make(config, blocks.groups(), MODULE)
    settles = type(sampler).after_alpha_step is not BaseSampler.after_alpha_step
    if not sampler.differentiable or settles or sampler.partial_channels > 1:
        raise ConfigError(
            f"sampler.name: {type(sampler).__name__} does more in a step than to descend on a loss, and so cannot be "
            "used in a loop of one's own; egs, gdas, darts or snas can"
        )
    # What is kept is combined by the blocks themselves, each in its own way.
    sampler.normalise = "sum"
    return sampler
