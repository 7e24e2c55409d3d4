"""ENAS: an LSTM controller trained by REINFORCE on shared weights (Pham et al., ICML 2018)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers import register_sampler
from datanas.samplers.derivation import Derivation, Rule
from datanas.samplers.interface import BaseSampler, Draw, SamplerConfig, Update

BEAM = 16


@dataclass(frozen=True, kw_only=True)
class Walk(Draw):
    """A draw, its log-probability under the controller, and the entropy of its decisions."""

    log_prob: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class _State:
    """Where a walk through the edges stands: what comes in next, and the LSTM's hidden and cell state."""

    token: Tensor
    hidden: tuple[Tensor, Tensor]


@register_sampler("enas")
class ENAS(BaseSampler):
    """Chooses one operation for each edge in turn, given those before (Section 2.2 there).

    The reward is exp(-loss) of a batch of the alpha part: the inverse perplexity that ENAS takes for language; for
    classification, where ENAS takes the accuracy, the geometric mean of the right class's probability. ENAS chooses
    two inputs and operations a node; here an edge that is not wanted gets `none`, where the space has it. ENAS trains
    weights and controller in whole phases and adds the entropy to the reward; here both steps alternate and the
    entropy is a regulariser. The best of a few samples is kept.
    """

    class Config(SamplerConfig):
        name: Literal["enas"] = "enas"
        hidden: int = Field(64, ge=1, description="width of the LSTM")
        temperature: float = Field(5.0, gt=0, description="of the controller's logits")
        tanh_constant: float = Field(2.5, gt=0, description="largest logit")
        baseline_decay: float = Field(0.99, ge=0, lt=1, description="of the moving average of rewards")
        entropy_weight: float = Field(1e-4, ge=0)

    default_rule: ClassVar[Rule] = "best_sample"
    differentiable: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    heeds_limits: ClassVar[bool] = False
    config: Config
    baseline: Tensor
    rewarded: Tensor

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self._first = {}
        tokens = 1  # the start
        for name, group in groups.items():
            self._first[name] = tokens
            tokens += len(group.primitives)
        self.embedding = nn.Embedding(tokens, config.hidden)
        self.lstm = nn.LSTMCell(config.hidden, config.hidden)
        self.decoders = nn.ModuleDict(
            {name: nn.Linear(config.hidden, len(group.primitives), bias=False) for name, group in groups.items()}
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("rewarded", torch.zeros((), dtype=torch.int64))

    def _edges(self) -> Iterator[str]:
        """The group of each decision, in turn."""
        for name, group in self.groups.items():
            yield from [name] * len(group.edges)

    def _start(self) -> _State:
        zero = torch.zeros(1, self.config.hidden)
        return _State(torch.zeros(1, dtype=torch.int64), (zero, zero))

    def _decide(self, state: _State, name: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities of the next operation, shape (ops,), and the LSTM's state."""
        hidden = self.lstm(self.embedding(state.token), state.hidden)
        logits = self.decoders[name](hidden[0])[0] / self.config.temperature
        return (self.config.tanh_constant * logits.tanh()).log_softmax(dim=0), hidden

    def _next(self, name: str, op: int, hidden: tuple[Tensor, Tensor]) -> _State:
        return _State(torch.tensor([self._first[name] + op]), hidden)

    def _walk(self, choose: Callable[[Tensor], int]) -> Walk:
        state = self._start()
        chosen: dict[str, list[int]] = {name: [] for name in self.groups}
        tables: dict[str, list[Tensor]] = {name: [] for name in self.groups}
        total, entropy = torch.zeros(()), torch.zeros(())
        for name in self._edges():
            log_probs, hidden = self._decide(state, name)
            op = choose(log_probs.detach())
            total, entropy = total + log_probs[op], entropy - (log_probs.exp() * log_probs).sum()
            chosen[name].append(op)
            tables[name].append(log_probs.exp())
            state = self._next(name, op, hidden)
        codes = {name: self._code(name, ops) for name, ops in chosen.items()}
        probs = {name: torch.stack(rows) for name, rows in tables.items()}
        return Walk(codes, probs, codes, log_prob=total, entropy=entropy)

    def _code(self, name: str, ops: list[int]) -> Tensor:
        return torch.zeros(self.groups[name].shape).scatter_(1, torch.tensor(ops).unsqueeze(1), 1.0)

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Walk:
        def choose(log_probs: Tensor) -> int:
            weights = torch.ones_like(log_probs) if uniform else log_probs.exp()
            return int(weights.multinomial(1, generator=generator))

        return self._walk(choose)

    def loss(self, task_loss: Tensor, draw: Draw, progress: float) -> Tensor:
        """Minus (reward - baseline) log P, less the weighted entropy; the first reward is its own baseline."""
        assert isinstance(draw, Walk)
        reward = (-task_loss.detach()).exp().cpu()
        baseline = self.baseline if self.rewarded > 0 else reward
        return -(reward - baseline) * draw.log_prob - self.config.entropy_weight * draw.entropy

    def after_alpha_step(self, update: Update) -> None:
        reward = torch.tensor(-update.task_loss).exp()
        decay = self.config.baseline_decay if self.rewarded > 0 else 0.0
        self.baseline.copy_(decay * self.baseline + (1 - decay) * reward)
        self.rewarded += 1

    def vector_probs(self, name: str) -> Tensor:
        """The probabilities of each decision after the likeliest ones before it."""
        with torch.no_grad():
            return self._walk(lambda log_probs: int(log_probs.argmax())).probs[name].double()

    @torch.no_grad()
    def derive(self, n: int = 1) -> Derivation:
        """The likeliest sequences of decisions that a beam search finds."""
        if self.derivation.rule in ("top_operations", "top_edges"):
            return super().derive(n)
        beams: list[tuple[float, tuple[int, ...], _State]] = [(0.0, (), self._start())]
        for name in self._edges():
            longer = []
            for log_prob, ops, state in beams:
                log_probs, hidden = self._decide(state, name)
                longer += [
                    (log_prob + value, (*ops, op), self._next(name, op, hidden))
                    for op, value in enumerate(log_probs.tolist())
                ]
            beams = heapq.nlargest(max(BEAM, n), longer, key=lambda beam: beam[0])
        ranking = [(self._built(ops), log_prob) for log_prob, ops, _ in beams[:n]]
        best, log_prob = ranking[0]
        likeliest = replace(best, posterior={"log_prob": log_prob, "samples": self.samples})
        return Derivation(likeliest, ((likeliest, log_prob), *ranking[1:]), "log P of all decisions")

    def _built(self, ops: tuple[int, ...]) -> Architecture:
        by_group: dict[str, list[int]] = {name: [] for name in self.groups}
        for name, op in zip(self._edges(), ops, strict=True):
            by_group[name].append(op)
        return self.assemble({name: self._code(name, chosen) for name, chosen in by_group.items()})

    @torch.no_grad()
    def candidates(self, n: int, generator: torch.Generator) -> list[Architecture]:
        architectures = (self.assemble(self.draw(1.0, generator).codes) for _ in range(n))
        return list(dict.fromkeys(architectures))
