"""One screen that says what a run is, what was found and how sure it is, in plain words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError
from datanas.report.cells import cell_text
from datanas.runs.metrics import decode
from datanas.runs.overview import Overview, overview

_SURE, _EVEN = 3.0, 0.5  # nats over the next likeliest


def run_text(path: Path) -> str:
    """What to say of a run folder, whatever its kind, however far it is.

    Raises:
        CheckpointError: it is none.
    """
    run = overview(path)
    lines = [_head(run), *_inner(run)]
    architecture = _architecture(path)
    if architecture is not None:
        lines += ["", cell_text(architecture)]
    return "\n".join([*lines, *findings(run, architecture)])


def findings(run: Overview, architecture: Architecture | None) -> list[str]:
    """What a run has found and what can be done with it, a line each; those that begin with "warning: " are warnings.

    Raises:
        OSError, ValueError, KeyError, TypeError: a file of a complete run is not what it should be.
    """
    of_kind = _OF_KIND.get(run.kind)
    lines = of_kind(run, architecture) if of_kind is not None and run.state == "complete" else []
    if run.state == "stopped" and run.kind in (*_OF_KIND, "compare"):
        lines.append(f"it goes on with: datanas {run.kind} --resume {run.path}")
    return lines


def _head(run: Overview) -> str:
    about = f": {run.about}" if run.about else ""
    epochs = f", {run.progress} epochs" if run.progress else ""
    return f"{run.path}, a {run.kind} run{about}; {run.state}{epochs}"


def _inner(run: Overview) -> list[str]:
    return [f"  {part.path.name}: {part.state}, {part.score or 'no score yet'}" for part in run.inner]


def _architecture(path: Path) -> Architecture | None:
    try:
        return Architecture.load(path / "architecture.json")
    except ArchitectureError:
        return None


def _of_search(run: Overview, architecture: Architecture | None) -> list[str]:
    result = _json(run.path / "result.json")
    lines = [_sureness((architecture.posterior if architecture else None) or result.get("posterior") or {})]
    gap = result.get("gap")
    if isinstance(gap, Mapping):
        lines.append(
            f"with the supernet's weights the supernet scores {gap['supernet']:.3g}, sampled children "
            f"{gap['children_mean']:.3g}, the kept one {gap['child']:.3g}; what it reaches when trained says datanas "
            f"train {run.path}"
        )
    return [*filter(None, lines), *(f"warning: {warning}" for warning in result.get("warnings", ()))]


def _sureness(notes: Mapping[str, Any]) -> str:
    """How sure a search is of what it kept, by the margin over the next likeliest in nats."""
    margin = notes.get("margin")
    if not isinstance(margin, int | float) or not math.isfinite(margin):
        return ""
    times = math.exp(min(margin, 10.0))
    if margin >= _SURE:
        how = f"{times:.0f} times" if margin < math.log(1000) else "more than a thousand times"
        return f"the search has decided: the next likeliest cell is {how} less likely"
    if margin >= _EVEN:
        return f"the search leans to this cell: the next likeliest is {times:.1f} times less likely"
    return (
        f"the search has not decided: the next likeliest cell is only {times:.2f} times less likely, so chance chose "
        "between them; a race tells them apart: datanas race"
    )


def _of_race(run: Overview, _: Architecture | None) -> list[str]:
    return list(_json(run.path / "race.json").get("sentences", ()))


def _of_front(run: Overview, _: Architecture | None) -> list[str]:
    sentences = _json(run.path / "pareto.json").get("sentences", ())
    files = run.path / "architectures"
    return [*sentences, f"the table: {run.path / 'table.md'}; to train one in full: datanas train {files}/NAME.json"]


def _of_training(run: Overview, _: Architecture | None) -> list[str]:
    evaluation = _json(run.path / "evaluation.json")
    ends = evaluation.get("interval_shown")
    interval = f", 95 % interval {ends}," if ends else ""
    return [
        f"{run.score}{interval} on the part {evaluation.get('part', 'test')}, measured once at the end; "
        f"{evaluation['parameters']:,} parameters, {evaluation['macs'] / 1e6:,.1f} M multiply-adds",
        f"what it predicts: datanas predict {run.path} INPUT",
    ]


def _of_fit(run: Overview, _: Architecture | None) -> list[str]:
    outcome = _json(run.path / "fit.json")
    interval = f", 95 % interval {outcome['interval_shown']}" if outcome.get("interval_shown") else ""
    return [
        f"{run.score}{interval}; {outcome['parameters']:,} parameters, {outcome['macs'] / 1e6:.1f} M multiply-adds",
        str(outcome.get("sentence", "")),
        f"what it predicts: datanas predict {run.path} INPUT",
    ]


_OF_KIND = {"search": _of_search, "race": _of_race, "pareto": _of_front, "train": _of_training, "fit": _of_fit}


def _json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    return decode(document) if isinstance(document, dict) else {}
