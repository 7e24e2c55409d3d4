"""Cells as text."""

from __future__ import annotations

import math
import textwrap

from datanas.codes.architecture import Architecture, Cell

_WIDTH = 100


def cell_text(architecture: Architecture) -> str:
    """The cells in lines of at most 100 characters: for every node its inputs and the operations on them."""
    name = (architecture.source or {}).get("name")
    lines = [
        *_wrapped(f"{name}: {architecture!r}" if name else repr(architecture)),
        *_wrapped(posterior_line(architecture)),
    ]
    for group, cell in architecture.cells.items():
        outputs = " ".join(map(str, cell.outputs))
        lines += ["", *_wrapped(f"{cell_title(group, cell)}, output: {outputs}")]
        names = [input_name(cell, node) for node in range(cell.inputs)]
        names += [f"node {node}" for node in range(cell.inputs, cell.nodes)]
        width = max(map(len, names))
        for node in range(cell.inputs, cell.nodes):
            chosen = cell.node_inputs(node)
            start = f"  {names[node]:<{width}} <- "
            if not chosen:
                lines.append(f"{start}nothing")
            for source in sorted({source for _, source in chosen}):
                operations = " + ".join(primitive for primitive, other in chosen if other == source)
                lines += _wrapped(operations, f"{start}{names[source]:<{width}}  ")
                start = " " * len(start)
    return "\n".join(lines) + "\n"


def cell_title(group: str, cell: Cell) -> str:
    """The group and how many operations its cell has."""
    number = len(cell.operations())
    return f"{group}: {number} operation{'s' if number != 1 else ''}"


def posterior_line(architecture: Architecture) -> str:
    """What the choice rests on, its probability or its score; empty where nothing is known."""
    posterior = architecture.posterior or {}
    log_prob, margin, samples, score = (posterior.get(key) for key in ("log_prob", "margin", "samples", "score"))
    parts = []
    if isinstance(score, int | float):
        parts.append(f"{posterior.get('measure', 'score')} {score:.4g}")
    if log_prob is not None:
        parts.append(f"posterior probability {math.exp(min(log_prob, 0.0)):.3g} (log {log_prob:.4g})")
    if margin is not None:
        parts.append(f"margin over the next {margin:.4g}")
    if samples is not None:
        parts.append(f"M = {samples}")
    return ", ".join(parts)


def input_name(cell: Cell, node: int) -> str:
    """DARTS' name for an input node: the output of the last cell but so many."""
    return "input" if cell.inputs == 1 else f"c_{{k-{cell.inputs - node}}}"


def _wrapped(text: str, start: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
