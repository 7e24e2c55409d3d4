"""What is said of the constraint over a whole architecture is what the runs in docs/results have reached."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.docs.intervals import is_said
from tests.pages import ROOT, table, text

PAGE = "docs/networks.md"
KEPT: Any = json.loads((ROOT / "docs/results/constraints.json").read_text())
ROWS = {
    "vectors": "of each vector, the default",
    "none": "none",
    "architecture": "`over: architecture`",
    "deeper": "`depth_power: 2`",
}


@pytest.mark.parametrize(("name", "row"), ROWS.items())
def test_rows_are_what_was_reached(name: str, row: str) -> None:
    shown = table(PAGE, "constraint", "seed 0").rows[row]
    assert [float(entry) for entry in shown[1:4]] == KEPT["accuracy"][name]
    assert shown[-1] == ", ".join(f"{gap:+.1f}" for gap in KEPT["gap"][name])
    if name != "vectors":
        pairs = zip(KEPT["accuracy"][name], KEPT["accuracy"]["vectors"], strict=True)
        assert is_said(PAGE, [one - other for one, other in pairs])


def test_all_are_within_the_bound_and_the_command_is_named() -> None:
    assert max(map(max, KEPT["macs"].values())) <= 1_500_000
    assert KEPT["command"] in text(PAGE)
