"""What a few seeds say about methods and their differences, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from datanas.core.errors import nearest

NOT_SHOWN = "no difference shown"
_ROUNDING = 1e-9  # relative; differences of scores vary by so much from rounding alone


def interval(
    values: Collection[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron, 1979); not a number for a single value.

    For few seeds it is too narrow, as it never reaches beyond the data: of five, a 95 % interval covers about 84 %.

    Raises:
        ValueError: there is no value, one is not finite, or the confidence is not between 0 and 1.
    """
    from scipy import stats  # here, since every command would wait for it

    sample = np.asarray(list(values), dtype=np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError("an interval needs at least one value, got none")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample[~np.isfinite(sample)][0]}")
    if sample.size == 1:
        return math.nan, math.nan
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    bounds = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and its interval, both in the unit of the score whatever its direction."""

    mean: float
    low: float
    high: float
    pairs: int
    confidence: float
    higher_is_better: bool = True

    @property
    def verdict(self) -> str:
        """Which is "better" or "worse" where the interval leaves out zero, else "no difference shown"."""
        if self.pairs < 2 or not (self.low > 0 or self.high < 0):
            return NOT_SHOWN
        return "better" if (self.low > 0) == self.higher_is_better else "worse"

    def as_json(self) -> dict[str, Any]:
        """The entry of comparison.json; null for what is not a number."""
        figures = {"mean": _or_none(self.mean), "low": _or_none(self.low), "high": _or_none(self.high)}
        return {**figures, "pairs": self.pairs, "verdict": self.verdict}


def paired(
    values: Mapping[int, float],
    against: Mapping[int, float],
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """`values - against`, seed by seed, over the seeds that both have.

    The interval spans the bootstrap's and Student's: the bootstrap alone leaves out zero whenever five differences have
    one sign, which chance alone does once in 16; Student's knows that few seeds say little about the spread.

    Differences that are all the same, from coarse scores or from seeds that change nothing, tell nothing of the spread,
    so they have no interval.

    Raises:
        ValueError: a score is not finite, or the confidence is not between 0 and 1.
    """
    from scipy import stats

    seeds = sorted(values.keys() & against.keys())
    scores = np.array([[values[each], against[each]] for each in seeds], dtype=np.float64).reshape(-1, 2)
    differences = scores[:, 0] - scores[:, 1]
    mean, low, high = math.nan, math.nan, math.nan
    if seeds:
        low, high = interval(differences.tolist(), confidence=confidence, resamples=resamples, seed=seed)
        mean = float(differences.mean())
    if len(seeds) > 1:
        if np.ptp(differences) <= _ROUNDING * np.abs(scores).max():
            low, high = math.nan, math.nan
        else:
            reach = stats.t.ppf((1 + confidence) / 2, len(seeds) - 1) * stats.sem(differences)
            low, high = min(low, mean - float(reach)), max(high, mean + float(reach))
    return Difference(mean, low, high, len(seeds), confidence, higher_is_better)


@dataclass(frozen=True)
class Winner:
    """The column with the best mean, and whether it is shown to be better than all others."""

    decided: bool
    best: str | None
    runner_up: str | None
    text: str


def winner(
    columns: Mapping[str, Mapping[int, float]],
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Winner:
    """Who has the best mean, decided if its paired difference from every other column leaves out zero.

    Each of the K - 1 intervals has the error (1 - confidence) / (K - 1) (Bonferroni). The leader is chosen after the
    fact, yet where all are equal, one of K is wrongly named with K / 2(K - 1) of 1 - confidence at most.

    Raises:
        ValueError: a score is not finite, or the confidence is not between 0 and 1.
    """
    sign = 1 if higher_is_better else -1
    means = {name: sign * float(np.mean(list(scores.values()))) for name, scores in columns.items() if scores}
    order = sorted(means, key=lambda name: -means[name])
    order += [name for name in columns if name not in means]
    if len(order) < 2:
        text = f"nothing to compare {order[0]} with" if order else "nothing to compare"
        return Winner(False, order[0] if means else None, None, text)
    if not means:
        return Winner(False, None, None, f"{NOT_SHOWN} between {', '.join(order)}: none has a score")
    best, *others = order
    level = 1 - (1 - confidence) / len(others)
    differences = {
        name: paired(
            columns[best],
            columns[name],
            higher_is_better=higher_is_better,
            confidence=level,
            resamples=resamples,
            seed=seed,
        )
        for name in others
    }
    runner_up = others[0] if others[0] in means else None
    still_open = [name for name in others if differences[name].verdict != "better"]
    if not still_open:
        return Winner(True, best, runner_up, _decided_text(best, others, differences[others[0]], level))
    return Winner(False, best, runner_up, _open_text(best, {name: differences[name] for name in still_open}))


def _decided_text(best: str, others: Sequence[str], lead: Difference, level: float) -> str:
    than = f"; shown against each of the {len(others)} others" if len(others) > 1 else ""
    figures = f"{lead.mean:+.3g} [{lead.low:+.3g}, {lead.high:+.3g}] against {others[0]} at {100 * level:.4g} %"
    return f"{best} is best ({figures}, {lead.pairs} seeds{than})"


def _open_text(best: str, differences: Mapping[str, Difference]) -> str:
    behind = [name for name, difference in differences.items() if difference.verdict == "worse"]
    if behind:
        return f"no winner: {best} leads by its mean, but is worse than {', '.join(behind)} on the seeds of both"
    few = [name for name, difference in differences.items() if difference.pairs < 2]
    text = f"{NOT_SHOWN} between {best} and {', '.join(differences)}"
    if not few:
        return text
    whom = f" with {', '.join(few)}" if len(few) < len(differences) else ""
    return f"{text} (fewer than two seeds in common{whom})"


def summarise(
    rows: Sequence[Mapping[str, Any]],
    reference: str | None,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """The entries "rows" and "winner" of comparison.json, from rows with a name, a kind and figures by seed.

    A row gets its mean, its standard deviation (of n - 1), the interval of its mean and its differences, paired by
    seed: to the row `reference`, to random cells of the same size and to the same search with shuffled labels.
    The intervals of the rows are not adjusted for their number, the winner's are. What beats every other method but
    not every control is no winner: then its victory says little about searching. `rows` stay as they are.

    Raises:
        ValueError: two rows have one name, no row is named `reference`, or a score is not finite.
    """
    names = [row["name"] for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two rows are named {twice!r}")
    if reference is not None and reference not in names:
        raise ValueError(f"no row is named {reference!r}, the reference; {nearest(reference, names)}")
    settings: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    scores = {row["name"]: _figures(row, "score") for row in rows}

    def difference(name: str, against: Mapping[int, float]) -> dict[str, Any] | None:
        comparison = paired(scores[name], against, higher_is_better=higher_is_better, **settings)
        return comparison.as_json() if comparison.pairs else None

    filled = []
    for row in rows:
        name, values = row["name"], list(scores[row["name"]].values())
        low, high = interval(values, **settings) if values else (math.nan, math.nan)
        filled.append(
            {
                **row,
                "mean": float(np.mean(values)) if values else None,
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "low": _or_none(low),
                "high": _or_none(high),
                "difference": None if reference in (None, name) else difference(name, scores[reference or ""]),
                "same_size": difference(name, _figures(row, "same_size_score")),
                "shuffled": difference(name, _figures(row, "shuffled_score")),
            }
        )
    methods = {row["name"]: scores[row["name"]] for row in rows if row["kind"] == "method"}
    outcome = winner(methods, higher_is_better=higher_is_better, **settings)
    leader = next((row for row in filled if row["name"] == outcome.best), None)
    if outcome.decided and leader is not None:
        against = {"random cells of its size": leader["same_size"], "its search on shuffled labels": leader["shuffled"]}
        against |= {
            row["name"]: difference(leader["name"], scores[row["name"]]) for row in rows if row["kind"] == "control"
        }
        open_ones = [f"{name} ({each['verdict']})" for name, each in against.items() if _is_not_better(each)]
        if open_ones:
            text = f"no winner: {outcome.best} is ahead of the other methods, but not shown to be better than "
            outcome = replace(outcome, decided=False, text=text + ", ".join(open_ones))
    return {"rows": filled, "winner": asdict(outcome)}


def _is_not_better(difference: Mapping[str, Any] | None) -> bool:
    """Whether a control that was made says less than "better"."""
    return difference is not None and difference["verdict"] != "better"


def _figures(row: Mapping[str, Any], key: str) -> dict[int, float]:
    """A row's figures named `key` by seed, where there are any."""
    figures = {int(seed): run[key] for seed, run in row["seeds"].items() if run.get(key) is not None}
    for seed, value in figures.items():
        if not math.isfinite(value):
            raise ValueError(f"{row['name']}, seed {seed}: {key} must be finite, got {value}")
    return figures


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
