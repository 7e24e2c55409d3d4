"""What a fit reaches and costs, what it was compared with, and which network to take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from datanas.core.text_table import plain_table
from datanas.engine.evaluation import restore
from datanas.kernels.hardware import median_seconds
from datanas.racing.race import CANDIDATES_FILE, RACE_FILE
from datanas.tasks import tasks
from datanas.tasks.base import Task

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Compared:
    """A network as it was trained in the last rung of the race, as long as the others there.

    Attributes:
        origin: where it comes from, for people.
        score: on the judge's examples.
        behind: the score of the one that was kept less its own, with a 95 % interval (low, high); None where a score is
            no share of examples.
        macs, parameters: of its network there.
    """

    origin: str
    score: float
    behind: tuple[float, float, float] | None
    macs: int
    parameters: int


@dataclass(frozen=True)
class Outcome:
    """What a fit reaches and costs.

    Attributes:
        task: its name.
        score, score_name: on the test examples, measured once.
        interval: 95 % (Wilson), where the score is a share of examples.
        examples: that were tested on; None where the score counts no examples.
        macs, parameters: of the network.
        latency: seconds of one example on `device`, the median of ten.
        origin: where the architecture comes from.
        compared: all of the last rung of the race, the kept one first; none without a race.
        sentence: which network to take, for people.
    """

    task: str
    score: float
    score_name: str
    interval: tuple[float, float] | None
    examples: int | None
    macs: int
    parameters: int
    latency: float
    device: str
    origin: str
    compared: tuple[Compared, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """One screen for people."""
        metric = tasks[self.task].metric
        interval = (
            "" if self.interval is None else f" [{metric.show(self.interval[0])}, {metric.show(self.interval[1])}]"
        )
        on = "" if self.examples is None else f" on {self.examples:,} test examples"
        lines = [
            f"{self.score_name} {metric.show(self.score)}{interval}{on}",
            f"{self.parameters:,} parameters, {self.macs / 1e6:.1f} M multiply-adds, "
            f"{1000 * self.latency:.1f} ms for one example on {self.device}; {self.origin}",
        ]
        if self.compared:
            rows = [
                [
                    "trained alike, judged before the final training",
                    self.score_name,
                    "kept one ahead by",
                    "multiply-adds",
                ]
            ]
            for each in self.compared:
                ahead = ""
                if each.behind is not None and each is not self.compared[0]:
                    ahead = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(metric.scale * part for part in each.behind))
                rows.append([each.origin, metric.show(each.score), ahead, f"{each.macs / 1e6:.1f} M"])
            lines.append(plain_table(rows))
        return "\n".join([*lines, self.sentence])


def measure_outcome(run: Path, race: Path | None) -> Outcome:
    """The figures of a finished training, and those of the race before it."""
    network, task, config = restore(run)
    found = json.loads((run / "evaluation.json").read_bytes())
    network.eval()
    example = task.example()
    latency = median_seconds(lambda: network(example), task.device)
    counts = len(task.chosen()["test"]) if task.metric.counts_examples else None
    interval = None if counts is None else share_interval(found["score"], counts)
    compared = () if race is None else _compared(race, type(task))
    source = json.loads((run / "architecture.json").read_bytes()).get("source") or {}
    origin = source.get("origin", "the likeliest of the search")
    return Outcome(
        config.task.name,
        found["score"],
        found["score_name"],
        interval,
        counts,
        found["macs"],
        found["parameters"],
        latency,
        str(task.device),
        origin,
        compared,
        _sentence(compared, origin),
    )


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` examples."""
    found = stats.binomtest(round(share * count), count).proportion_ci(_CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _compared(race: Path, task: type[Task[Any]]) -> tuple[Compared, ...]:
    outcome = json.loads((race / RACE_FILE).read_bytes())
    pool = json.loads((race / CANDIDATES_FILE).read_bytes())["candidates"]
    last: Mapping[str, Any] = outcome["rungs"][-1]
    kept = str(outcome["winner"])
    examples = outcome["examples"]
    order = sorted(last, key=lambda number: (number != kept, -last[number]["selection_score"]))

    def behind(number: str) -> tuple[float, float, float] | None:
        if not task.metric.counts_examples:
            return None
        first, other = last[kept]["score"], last[number]["score"]
        reach = 1.96 * ((first * (1 - first) + other * (1 - other)) / examples) ** 0.5
        return first - other, first - other - reach, first - other + reach

    return tuple(
        Compared(
            pool[int(number)]["origin"],
            last[number]["score"],
            behind(number),
            last[number]["macs"],
            last[number]["parameters"],
        )
        for number in order
    )


def _sentence(compared: tuple[Compared, ...], origin: str) -> str:
    if not compared:
        return "nothing was compared: there was no time for a race, so whether another network is better is not known"
    shown = [each.origin for each in compared[1:] if each.behind is not None and each.behind[1] > 0]
    open_ = [each.origin for each in compared[1:] if each.origin not in shown]
    better = f"it is shown to be better than {', '.join(shown)}" if shown else ""
    even = f"no difference to {', '.join(open_)} is shown" if open_ else ""
    return f"take this one ({origin}): {'; '.join(part for part in (better, even) if part)}, as trained in the race"
