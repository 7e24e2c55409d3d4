"""The best choices in a row under additive bounds, exactly: labels, dominance, and the bound of the Lagrangian dual.

A choice is made in each step, with a score and costs; wanted are those of the largest sum of scores among all whose
costs keep the bounds. For any multipliers l >= 0,

    D(l) = l . bounds + sum over steps of max over choices of (score - l . cost)

is at least the score of every selection within the bounds. The least D(l) is found first. Then the steps are gone
through in order; a label is a beginning, and is dropped where what it can still reach, by the same bound, is more than
`slack` below D, where no rest fits, or where enough others with the same state are as good at no higher cost. If so
enough selections are complete, none that was dropped for its score can be better; otherwise `slack` is doubled.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from datanas.samplers.limits import ROUNDING

FIRST_SLACK = 0.5
_CYCLES, _HALVINGS, _LARGEST = 4, 30, 1e5
_PAIRWISE = 4000
"""Labels among which, with several bounds, dominance is looked for."""


@dataclass(frozen=True)
class Step:
    """One choice.

    A step may belong to a node of a graph that is read or not: what enters a node that is not read costs nothing.

    Attributes:
        scores: of each choice; finite.
        costs: of each choice, where its node is read.
        opens: whether a choice gives the node a value.
        reads: a bit for each node that a choice reads.
        node: the bit of the node that it belongs to, if that is read only where a later node reads it; 0: always read.
        must_open: whether, with this step, some step of its node must have given it a value.
        is_last: whether it is the last of its node.
    """

    scores: Float[np.ndarray, " choices"]
    costs: Float[np.ndarray, "choices costs"]
    opens: Bool[np.ndarray, " choices"]
    reads: Int64[np.ndarray, " choices"]
    node: int = 0
    must_open: bool = False
    is_last: bool = True

    def reduced(self, multipliers: Float[np.ndarray, " costs"]) -> Float[np.ndarray, " choices"]:
        """The most that each choice can add to the Lagrangian."""
        return np.asarray(self.scores - self.charged @ multipliers)

    def with_scores(self, scores: Float[np.ndarray, " choices"]) -> Step:
        """The same choices with other scores."""
        return replace(self, scores=scores)

    @property
    def charged(self) -> Float[np.ndarray, "choices costs"]:
        """What each choice costs whether or not its node is read."""
        return np.zeros_like(self.costs) if self.node else self.costs

    @property
    def least(self) -> Float[np.ndarray, " costs"]:
        """The least that a choice costs, cost by cost."""
        return np.asarray(self.charged.min(axis=0))


Alternatives = Sequence[Sequence[Step]]
"""Ways to go through a part of the steps, of which one is taken."""


@dataclass(frozen=True)
class Selection:
    """A choice in every step.

    Attributes:
        score, costs: their sums.
        ways: of each part the alternative.
        choices: of each step of these.
    """

    score: float
    costs: Float[np.ndarray, " costs"]
    ways: tuple[int, ...]
    choices: tuple[int, ...]


@dataclass
class _Labels:
    """Beginnings: arrays with an entry each, and what was chosen."""

    scores: np.ndarray
    costs: np.ndarray
    states: np.ndarray
    chosen: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def take(self, indices: np.ndarray) -> _Labels:
        chosen = [self.chosen[index] for index in indices.tolist()]
        return _Labels(self.scores[indices], self.costs[indices], self.states[indices], chosen)


def best_selections(
    parts: Sequence[Alternatives],
    bounds: Float[np.ndarray, " costs"],
    n: int,
    multipliers: Float[np.ndarray, " costs"] | None = None,
) -> list[Selection]:
    """The n selections of the largest score within the bounds, best first; fewer where there are fewer.

    Args:
        parts: each with its alternatives.
        bounds: of the costs.
        n: how many.
        multipliers: with which D is low, where they are known.
    """
    bounds = bounds + ROUNDING * np.abs(bounds)
    least = sum((np.min([_least(way) for way in part], axis=0) for part in parts), np.zeros(len(bounds)))
    if (least > bounds).any():
        return []
    if multipliers is None:
        _, multipliers = dual(parts, bounds)
    top = _Dual(bounds, parts, multipliers).value
    widest = top - sum(min(sum(float(step.scores.min()) for step in way) for way in part) for part in parts)
    slack = FIRST_SLACK
    while True:
        is_everything = slack >= widest
        selections = _walk(parts, bounds, multipliers, -np.inf if is_everything else top - slack, n)
        if len(selections) >= n or is_everything:
            return selections[:n]
        slack *= 2


def _least(way: Sequence[Step]) -> np.ndarray:
    return np.asarray(np.sum([step.least for step in way], axis=0))


def _best_way(part: Alternatives, multipliers: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest sum over the steps of a way, and what is chosen there costs."""
    best, spent = -np.inf, np.zeros(len(multipliers))
    for way in part:
        reduced = [step.reduced(multipliers) for step in way]
        value = sum(float(each.max()) for each in reduced)
        if value > best:
            chosen = zip(way, reduced, strict=True)
            best = value
            spent = np.sum([step.charged[int(each.argmax())] for step, each in chosen], axis=0)
    return best, spent


class _Dual:
    """D at some multipliers, and its slopes."""

    def __init__(self, bounds: np.ndarray, parts: Sequence[Alternatives], multipliers: np.ndarray) -> None:
        ways = [_best_way(part, multipliers) for part in parts]
        self.value = float(multipliers @ bounds) + sum(value for value, _ in ways)
        self.slopes = bounds - np.sum([spent for _, spent in ways], axis=0)


def dual(
    parts: Sequence[Alternatives], bounds: Float[np.ndarray, " costs"]
) -> tuple[float, Float[np.ndarray, " costs"]]:
    """A low D(l) and its multipliers: the least along each in turn, where the slope changes; any would be right."""
    multipliers = np.zeros(len(bounds))
    for _ in range(_CYCLES if len(bounds) > 1 else 1):
        before = multipliers.copy()
        for index in range(len(bounds)):
            multipliers[index] = _flat_at(parts, bounds, multipliers, index)
        if np.allclose(before, multipliers, rtol=1e-3):
            break
    return _Dual(bounds, parts, multipliers).value, multipliers


def _flat_at(parts: Sequence[Alternatives], bounds: np.ndarray, multipliers: np.ndarray, index: int) -> float:
    """The value of one multiplier at which D, which is convex in it, is least."""

    def rises(value: float) -> bool:
        at = multipliers.copy()
        at[index] = value
        return bool(_Dual(bounds, parts, at).slopes[index] >= 0)

    if rises(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not rises(high) and high < _LARGEST:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) else (middle, high)
    return high


def _walk(
    parts: Sequence[Alternatives], bounds: np.ndarray, multipliers: np.ndarray, floor: float, n: int
) -> list[Selection]:
    """The n best selections within the bounds of a score of at least `floor`, and perhaps others behind them."""
    rest_reduced = [
        sum(_best_way(part, multipliers)[0] for part in parts[part_index + 1 :]) for part_index in range(len(parts))
    ]
    least_of = [np.min([_least(way) for way in part], axis=0) for part in parts]
    rest_least = [sum(least_of[part_index + 1 :], np.zeros(len(bounds))) for part_index in range(len(parts))]
    labels = _Labels(np.zeros(1), np.zeros((1, len(bounds))), np.zeros(1, np.int64), [((), ())])
    for part_index, part in enumerate(parts):
        ends = []
        for number, way in enumerate(part):
            begun = _Labels(
                labels.scores, labels.costs, labels.states, [((*ways, number), made) for ways, made in labels.chosen]
            )
            after_reduced = np.cumsum([0.0, *(float(step.reduced(multipliers).max()) for step in reversed(way))])[::-1]
            after_least = np.cumsum([np.zeros(len(bounds)), *(step.least for step in reversed(way))], axis=0)[::-1]
            for index, step in enumerate(way):
                reach = rest_reduced[part_index] + float(after_reduced[index + 1])
                spared = bounds - rest_least[part_index] - after_least[index + 1]
                begun = _extended(begun, step, bounds, spared, multipliers, floor - reach, n)
                if not len(begun.scores):
                    break
            if len(begun.scores):
                ends.append(begun.take(np.arange(len(begun.scores))))
        if not ends:
            return []
        labels = _Labels(
            np.concatenate([each.scores for each in ends]),
            np.concatenate([each.costs for each in ends]),
            np.zeros(sum(len(each.scores) for each in ends), np.int64),
            [chosen for each in ends for chosen in each.chosen],
        )
        labels = labels.take(_undominated(labels.scores, labels.costs, labels.states, n))
    order = np.argsort(-labels.scores, kind="stable")
    return [
        Selection(float(labels.scores[index]), labels.costs[index], *labels.chosen[index])
        for index in order.tolist()
        if labels.scores[index] >= floor
    ]


def _extended(
    labels: _Labels,
    step: Step,
    bounds: np.ndarray,
    spared: np.ndarray,
    multipliers: np.ndarray,
    floor: float,
    n: int,
) -> _Labels:
    """The beginnings with one more choice, without those that cannot be among the best.

    Args:
        spared: what the beginning may cost if the cheapest rest follows.
        floor: what the beginning must reach, by the bound of the dual, if the best rest follows.
    """
    is_read = np.ones(len(labels.scores), bool) if not step.node else (labels.states & step.node) != 0
    scores = labels.scores[:, None] + step.scores[None]
    costs = labels.costs[:, None] + step.costs[None] * is_read[:, None, None]
    reached = scores + (bounds - costs) @ multipliers
    feasible = (costs <= spared).all(axis=-1) & (reached >= floor)
    opened = (labels.states[:, None] & 1) | step.opens[None].astype(np.int64)
    if step.is_last:
        feasible &= (opened == 1) | (not step.must_open)
        opened = np.zeros_like(opened)
    reads = np.where(is_read[:, None], step.reads[None], 0)
    states = (labels.states[:, None] & ~np.int64(1)) | reads | opened
    first, second = np.nonzero(feasible)
    scores, costs, states = scores[feasible], costs[feasible], states[feasible]
    chosen = _undominated(scores, costs, states, n)
    made = [
        (labels.chosen[i][0], (*labels.chosen[i][1], j))
        for i, j in zip(first[chosen].tolist(), second[chosen].tolist(), strict=True)
    ]
    return _Labels(scores[chosen], costs[chosen], states[chosen], made)


def _undominated(scores: np.ndarray, costs: np.ndarray, states: np.ndarray, n: int) -> np.ndarray:
    """Which labels have fewer than n others in their state that are as good at no higher cost."""
    undominated: list[int] = []
    cheapest_first = np.lexsort((*costs.T, -scores)) if costs.shape[1] else np.argsort(-scores, kind="stable")
    for state in np.unique(states).tolist():
        order = cheapest_first[states[cheapest_first] == state]
        if costs.shape[1] == 0:
            undominated += order[:n].tolist()
        elif costs.shape[1] == 1:
            undominated += _undominated_at_one_cost(order, costs[:, 0], n)
        elif len(order) > _PAIRWISE:
            undominated += order.tolist()
        else:
            undominated += _undominated_at_many(order, costs, n)
    return np.array(sorted(undominated), np.int64)


def _undominated_at_one_cost(order: np.ndarray, costs: np.ndarray, n: int) -> list[int]:
    undominated: list[int] = []
    cheapest: list[float] = []  # the n least costs so far, negated: the largest of them comes first
    for index, cost in zip(order.tolist(), costs[order].tolist(), strict=True):
        if len(cheapest) < n:
            heapq.heappush(cheapest, -cost)
        elif cost < -cheapest[0]:
            heapq.heapreplace(cheapest, -cost)
        else:
            continue
        undominated.append(index)
    return undominated


def _undominated_at_many(order: np.ndarray, costs: np.ndarray, n: int) -> list[int]:
    undominated: list[int] = []
    seen = np.empty((len(order), costs.shape[1]))
    for index in order.tolist():
        better = int((seen[: len(undominated)] <= costs[index]).all(axis=1).sum())
        if better < n:
            seen[len(undominated)] = costs[index]
            undominated.append(index)
    return undominated
