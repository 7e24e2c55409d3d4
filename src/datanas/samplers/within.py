"""The likeliest codes of choice groups whose live operations keep additive bounds, exactly.

Which operations of a group are live depends on which nodes its input reaches. Given the set of these, it is known of
every entry of a vector whether its source is reached; what is left is which nodes are read, and that is known when the
nodes are gone through from the last to the first. So `labels.best_selections` can choose a code for each vector, among
those that compete (`kinds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from datanas.draw_polynomial import TIE
from datanas.samplers.kinds import Kinds, Members
from datanas.samplers.labels import FIRST_SLACK, Step, best_selections, dual
from datanas.samplers.limits import Limits
from datanas.samplers.live import Code, best_paths
from datanas.samplers.vectors import Vectors, by_group

Path = tuple[float, tuple[Code, ...]]
Sets = Sequence[Sequence[int]]
"""For each group some sets of reached nodes."""


def likeliest_within(
    probs: Mapping[str, Tensor],
    vectors: Mapping[str, Vectors],
    samples: int | Mapping[str, int],
    limits: Limits,
    n: int = 1,
    *,
    raw: bool = False,
) -> list[Path]:
    """The n likeliest codes of all vectors of all groups within the bounds, each with its log-probability.

    The codes of a path stand in the order of the groups and of `Vectors.rows`; the log-probability is not conditional
    on being live.

    Args:
        raw: whether dead architectures count too, with what is live in them.

    Raises:
        ConfigError: there are too many codes to compare.
    """
    limits, counts = limits.scaled, by_group(samples, vectors)
    sides = [
        _Group(probs[name].double(), layout, limits.tables[name], counts[name], raw=raw)
        for name, layout in vectors.items()
    ]
    best = _best(sides, [[side.everything] for side in sides], limits.bounds, n)
    worst = best[n - 1][0] if len(best) >= n else -math.inf
    sets = _sets_that_may_win(sides, worst)
    if any(len(each) > 1 for each in sets):
        best = _best(sides, sets, limits.bounds, n)
    return best_paths(best, n)


def least_cost(vectors: Mapping[str, Vectors], limits: Limits, index: int, samples: int | Mapping[str, int]) -> float:
    """What the live operations of a live architecture cost at least, by the cost of this number."""
    total, counts = 0.0, by_group(samples, vectors)
    for name, layout in vectors.items():
        flat = layout.mask.double() / layout.mask.sum(dim=1, keepdim=True)
        side = _Group(flat, layout, limits.tables[name][..., index : index + 1], counts[name], raw=False)
        ways = [way for reached in side.reachable() if (way := side.unscored(reached)) is not None]
        enough = np.array([max(sum(float(step.costs.max()) for step in way) for way in ways)])
        total += float(best_selections([ways], enough, 1)[0].costs[0])
    return total


def _best(sides: Sequence[_Group], sets: Sets, bounds: np.ndarray, n: int) -> list[Path]:
    sets = [[each for each in some if side.way(each) is not None] for side, some in zip(sides, sets, strict=True)]
    if not all(sets):
        return []
    ways = [[side.way(each) for each in some] for side, some in zip(sides, sets, strict=True)]
    ways_found = [[way for way in part if way] for part in ways]
    top, multipliers = dual(ways_found, bounds)
    best = _paths(sides, sets, ways_found, bounds, 1, multipliers)
    if n == 1 or not best:
        return best
    slack = FIRST_SLACK + 2 * (top - best[0][0])
    while True:
        for side in sides:
            side.widen(multipliers, slack, n)
        wider = [[side.way(each) for each in some] for side, some in zip(sides, sets, strict=True)]
        paths = _paths(sides, sets, [[way for way in part if way] for part in wider], bounds, n, multipliers)
        is_sure = sum(score >= top - slack for score, _ in paths) >= n or all(side.is_whole for side in sides)
        for side in sides:
            side.narrow()
        if is_sure:
            return paths
        slack *= 2


def _paths(
    sides: Sequence[_Group],
    sets: Sets,
    parts: Sequence[Sequence[Sequence[Step]]],
    bounds: np.ndarray,
    n: int,
    multipliers: np.ndarray,
) -> list[Path]:
    paths = []
    for selection in best_selections(parts, bounds, n, multipliers):
        left, codes = list(selection.choices), []
        for side, some, way in zip(sides, sets, selection.ways, strict=True):
            count = len(side.layout.rows)
            codes += side.codes(some[way], left[:count])
            left = left[count:]
        paths.append((selection.score, tuple(codes)))
    return paths


def _sets_that_may_win(sides: Sequence[_Group], worst: float) -> Sets:
    """For each group the sets of reached nodes with which a code may be as likely as `worst`."""
    most = [{reached: side.most(reached) for reached in side.reachable()} for side in sides]
    best = [max(each.values()) for each in most]
    return [
        [reached for reached, value in each.items() if sum(best) - top + value >= worst - TIE]
        for each, top in zip(most, best, strict=True)
    ]


@dataclass
class _Vector:
    """A vector, given which nodes are reached: the codes that compete in it, and the step that they make."""

    step: Step
    codes: list[Code]
    kinds: Kinds | None = None


class _Group:
    """A choice group under bounds. A set of reached nodes is a number with a bit for each, inputs included.

    Attributes:
        everything: the set of all nodes.
        is_whole: whether `widen` has left nothing out.
    """

    def __init__(self, probs: Tensor, layout: Vectors, table: np.ndarray, samples: int, *, raw: bool) -> None:
        self.layout, self._probs, self._samples, self._raw = layout, probs, samples, raw
        group = layout.group
        self._inputs = (1 << group.inputs) - 1
        self._targets = [layout.target(rows[0]) for rows in layout.by_target]
        self._hidden = sum(1 << target for target in self._targets if target not in group.outputs)
        self._outputs = sum(1 << node for node in group.outputs)
        self.everything = self._inputs | sum(1 << target for target in self._targets)
        self.is_whole = True
        self._cost = torch.from_numpy(np.ascontiguousarray(table))
        self._known: dict[tuple[int, int, bool], _Vector] = {}
        self._wider: dict[tuple[int, int, bool], _Vector] = {}
        self._window: tuple[np.ndarray, float, int] | None = None

    def reachable(self) -> list[int]:
        """All sets of reached nodes, of which one is an output unless dead groups count too."""
        sets = [
            self._inputs | sum(1 << target for target in some)
            for count in range(len(self._targets), -1, -1)
            for some in combinations(self._targets, count)
        ]
        return [each for each in sets if self._raw or each & self._outputs]

    def most(self, reached: int) -> float:
        """At least the log-probability of every code with this set: that nothing leads into the nodes outside it."""
        total = 0.0
        for row in self.layout.rows:
            if reached >> self.layout.target(row) & 1:
                continue
            opening = self.layout.leaving(row, _nodes(reached))
            share = float(self._probs[row, ~opening & self.layout.mask[row]].sum() / self._probs[row].sum())
            total += self._samples * math.log(share) if share > 0 else -math.inf
        return total

    def way(self, reached: int) -> list[Step] | None:
        """The vectors from the last node to the first; None where one of them has no code."""
        steps = [self._vector(row, reached).step for row in reversed(self.layout.rows)]
        return steps if all(len(step.scores) for step in steps) else None

    def unscored(self, reached: int) -> list[Step] | None:
        """The same with nothing to prefer but low costs."""
        way = self.way(reached)
        return None if way is None else [step.with_scores(np.zeros(len(step.scores))) for step in way]

    def codes(self, reached: int, made: Sequence[int]) -> list[Code]:
        """The codes of a selection, in the order of `Vectors.rows`."""
        rows = reversed(self.layout.rows)
        return [self._vector(row, reached).codes[index] for row, index in zip(rows, made, strict=True)][::-1]

    def widen(self, multipliers: np.ndarray, slack: float, n: int) -> None:
        """Let the n best codes of each number of each kind compete that are, by the dual's measure, within `slack`."""
        self._window, self._wider, self.is_whole = (multipliers, slack, n), {}, True

    def narrow(self) -> None:
        """Let only the best compete again."""
        self._window, self._wider = None, {}

    def _vector(self, row: int, reached: int) -> _Vector:
        layout = self.layout
        sources = sum(1 << source for source in layout.sources(row))
        key = row, reached & sources, bool(reached >> layout.target(row) & 1)
        if key not in self._known:
            self._known[key] = self._compared(row, reached)
        if self._window is None:
            return self._known[key]
        if key not in self._wider:
            self._wider[key] = self._widened(self._known[key], row, reached)
        return self._wider[key]

    def _compared(self, row: int, reached: int) -> _Vector:
        layout = self.layout
        entries = layout.mask[row].nonzero().squeeze(1).tolist()
        probs, live = self._probs[row, entries], layout.leaving(row, _nodes(reached))[entries].numpy()
        allowed = np.ones(len(entries), bool) if reached >> layout.target(row) & 1 else ~live
        if layout.group.single:
            indices = [index for index in range(len(entries)) if allowed[index] and probs[index] > 0]
            log_probs = self._samples * probs[indices].log().numpy()
            return self._as_step([(index,) for index in indices], log_probs, row, reached, None)
        costs, reads = self._costs(row, reached)
        null = None if layout.null is None else entries.index(layout.null)
        kinds: dict[tuple[object, ...], list[int]] = {}
        for index in np.flatnonzero(allowed).tolist():
            if index != null:
                key = (*costs[index].tolist(), bool(live[index]), int(reads[index]))
                kinds.setdefault(key, []).append(index)
        ranked = Kinds(probs, list(kinds.values()), self._samples, null)
        return self._as_step(ranked.members, ranked.log_probs, row, reached, ranked)

    def _widened(self, known: _Vector, row: int, reached: int) -> _Vector:
        assert self._window is not None
        if known.kinds is None:
            return known
        multipliers, slack, n = self._window
        gained = known.step.reduced(multipliers)
        floors = known.step.scores - (gained - gained.max()) - slack
        taken, is_cut = known.kinds.next_best(floors.tolist(), n)
        self.is_whole &= not is_cut
        return self._as_step([each for _, each in taken], np.array([value for value, _ in taken]), row, reached, None)

    def _costs(self, row: int, reached: int) -> tuple[np.ndarray, np.ndarray]:
        """What each entry costs, (entries, costs), and a bit for the node that it reads, if that may be unread."""
        layout = self.layout
        entries = layout.mask[row].nonzero().squeeze(1).tolist()
        live = layout.leaving(row, _nodes(reached))[entries]
        by_cost = [layout.to_vectors(self._cost[..., k])[row, entries] for k in range(self._cost.shape[2])]
        costs = torch.stack(by_cost, 1) * live[:, None]
        source = torch.tensor([[float(source)] for source, _ in layout.group.edges]).expand(layout.group.shape)
        sources = layout.to_vectors(source.contiguous())[row, entries].long().numpy()
        reads = np.where(live.numpy(), np.int64(1) << sources, 0) & self._hidden
        return costs.numpy(), reads

    def _as_step(
        self, members: Sequence[Members], scores: np.ndarray, row: int, reached: int, kinds: Kinds | None
    ) -> _Vector:
        layout = self.layout
        entries = layout.mask[row].nonzero().squeeze(1).tolist()
        costs, reads = self._costs(row, reached)
        live = layout.leaving(row, _nodes(reached))[entries].numpy()
        chosen = np.zeros((len(members), len(entries)), bool)
        for index, each in enumerate(members):
            chosen[index, list(each)] = True
        target = layout.target(row)
        step = Step(
            scores,
            chosen.astype(float) @ costs,
            (chosen & live).any(axis=1),
            np.array([np.bitwise_or.reduce(reads[list(each)], initial=0) for each in members], np.int64),
            (1 << target) & self._hidden,
            bool(reached >> target & 1),
            any(row == rows[0] for rows in layout.by_target),  # they are gone through backwards
        )
        return _Vector(step, [tuple(entries[k] for k in each) for each in members], kinds)


def _nodes(reached: int) -> list[int]:
    return [node for node in range(reached.bit_length()) if reached >> node & 1]
