"""What a fit reaches and costs, what it was compared with, and which network to take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from datanas.core.shares import share_interval
from datanas.core.text_table import plain_table
from datanas.engine.evaluation import restore
from datanas.kernels.hardware import median_seconds
from datanas.racing.race import CANDIDATES_FILE, RACE_FILE
from datanas.runs.metrics import decode
from datanas.tasks.base import Task


@dataclass(frozen=True)
class Compared:
    """A network as it was trained in the last rung of the race, as long as the others there.

    Attributes:
        origin: where it comes from, for people.
        score: on the judge's examples.
        shown: the score as people read it.
        ahead: by how much the one that was kept is better, with an interval (low, high) that holds for all of the rung
            together with 95 % probability (Bonferroni); None of itself, and where nothing can be said of it.
        macs, parameters: of its network there.
        ahead_shown: that, as people read it.
    """

    origin: str
    score: float
    shown: str
    ahead: tuple[float, float, float] | None
    macs: int
    parameters: int
    ahead_shown: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a fit reaches and costs.

    Attributes:
        task: its name.
        score, score_name, shown: on the test examples, measured once; as people read it.
        interval: 95 % of the score; None where it does not say how uncertain it is.
        examples: that were tested on; None where the score counts no examples.
        macs, parameters: of the network.
        latency: seconds of one example on `device`, the median of ten.
        origin: where the architecture comes from.
        compared: all of the last rung of the race, the kept one first; none without a race.
        sentence: which network to take, for people.
        further: other figures of the test examples by their names, as people read them.
        interval_shown: that, as people read it.
    """

    task: str
    score: float
    score_name: str
    shown: str
    interval: tuple[float, float] | None
    examples: int | None
    macs: int
    parameters: int
    latency: float
    device: str
    origin: str
    compared: tuple[Compared, ...]
    sentence: str
    further: Mapping[str, str] = field(default_factory=dict)
    interval_shown: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """What `to_json` gave, also after a way through a run folder."""
        known = {each.name: decode(data[each.name]) for each in fields(cls) if each.name in data}
        compared = tuple(
            Compared(**{**each, "score": decode(each["score"]), "ahead": each["ahead"] and tuple(each["ahead"])})
            for each in map(_with_lead_shown, data["compared"])
        )
        return cls(**{**known, "interval": data["interval"] and tuple(data["interval"]), "compared": compared})

    def text(self) -> str:
        """One screen for people."""
        interval = ""
        if self.interval is not None:
            interval = f" [{self.interval_shown or '{:.1%} to {:.1%}'.format(*self.interval)}]"
        on = "" if self.examples is None else f" on {self.examples:,} test examples"
        lines = [
            ", ".join(
                [f"{self.score_name} {self.shown}{interval}{on}", *(f"{k} {v}" for k, v in self.further.items())]
            ),
            f"{self.parameters:,} parameters, {self.macs / 1e6:.1f} M multiply-adds, "
            f"{1000 * self.latency:.1f} ms for one example on {self.device}; {self.origin}",
        ]
        if self.compared:
            head = "trained alike, judged before the final training"
            rows = [[head, self.score_name, "kept one ahead by", "multiply-adds"]]
            for each in self.compared:
                rows.append([each.origin, each.shown, each.ahead_shown, f"{each.macs / 1e6:.1f} M"])
            lines.append(plain_table(rows))
        return "\n".join([*lines, self.sentence])


def _with_lead_shown(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of an earlier version, which knew of leads in shares alone, as people read it."""
    if "ahead_shown" in row or row["ahead"] is None:
        return row
    return {**row, "ahead_shown": "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * each for each in row["ahead"]))}


def measure_outcome(run: Path, race: Path | None) -> Outcome:
    """The figures of a finished training, and those of the race before it."""
    network, task, config = restore(run)
    evaluation = json.loads((run / "evaluation.json").read_bytes())
    score = float(decode(evaluation["score"]))
    network.eval()
    example = task.example()
    with torch.inference_mode():
        latency = median_seconds(lambda: network(example), task.device)
    counts = len(task.chosen()["test"]) if task.metric.counts_examples else None
    interval = evaluation.get("interval")
    if interval is None and counts is not None:  # an earlier version measured it
        interval = share_interval(score, counts)
    compared = () if race is None else _compared(race, type(task))
    source = json.loads((run / "architecture.json").read_bytes()).get("source") or {}
    origin = source.get("origin", "the likeliest of the search")
    return Outcome(
        config.task.name,
        score,
        evaluation["score_name"],
        task.metric.show(score),
        interval and tuple(interval),
        counts,
        evaluation["macs"],
        evaluation["parameters"],
        latency,
        str(task.device),
        origin,
        compared,
        _sentence(compared, origin, type(task)),
        # Those of single classes, such as "iou/cat", are in the evaluation of the training.
        {
            name: task.figure(name).show(decode(value))
            for name, value in evaluation["figures"].items()
            if "/" not in name
        },
        "" if interval is None else task.metric.show_range(*interval),
    )


def _compared(race: Path, task: type[Task[Any]]) -> tuple[Compared, ...]:
    outcome: Mapping[str, Any] = json.loads((race / RACE_FILE).read_bytes())
    pool = json.loads((race / CANDIDATES_FILE).read_bytes())["candidates"]
    last = {number: {key: decode(value) for key, value in row.items()} for number, row in outcome["rungs"][-1].items()}
    winner, leads = str(outcome["winner"]), outcome.get("ahead", {})
    order = sorted(last, key=lambda number: (number != winner, -last[number]["selection_score"]))
    compared = []
    for number in order:
        row, lead = last[number], leads.get(number)
        compared.append(
            Compared(
                pool[int(number)]["origin"],
                row["score"],
                task.metric.show(row["score"]),
                lead and tuple(lead),
                row["macs"],
                row["parameters"],
                "" if lead is None else task.metric.show_interval(*lead),
            )
        )
    return tuple(compared)


def _is_behind(other: Compared) -> bool:
    """By more than chance; one that has run away is."""
    return not math.isfinite(other.score) or (other.ahead is not None and other.ahead[1] > 0)


def _sentence(compared: tuple[Compared, ...], origin: str, task: type[Task[Any]]) -> str:
    if not compared:
        return "nothing was compared: there was no time for a race, so whether another network is better is not known"
    metric = task.metric
    if all(each.ahead is None and math.isfinite(each.score) for each in compared[1:]):
        return (
            f"take this one ({origin}): it has the best {metric.name} of the race; {metric.name} has no interval "
            "here, so whether the others are worse by more than chance is not known"
        )
    beaten = [each.origin for each in compared[1:] if _is_behind(each)]
    undecided = [each.origin for each in compared[1:] if not _is_behind(each)]
    better = f"it is shown to be better than {', '.join(beaten)}" if beaten else ""
    even = f"no difference to {', '.join(undecided)} is shown" if undecided else ""
    return f"take this one ({origin}): {'; '.join(part for part in (better, even) if part)}, as trained in the race"
