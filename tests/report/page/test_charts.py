"""What charts are given to draw."""

from __future__ import annotations

import pytest

from datanas.report.page.charts import share_chart


def test_bars_are_shares_of_each_quantity() -> None:
    spec = share_chart(["stem", "head"], {"parameters": [3, 1], "milliseconds": [0, 0]})
    rows = {(row["quantity"], row["name"]): row["share"] for row in spec["data"]["values"]}
    assert rows["parameters", "stem"] == pytest.approx(0.75)
    assert rows["parameters", "head"] == pytest.approx(0.25)
    assert rows["milliseconds", "stem"] == 0
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["parameters", "milliseconds"]
    assert spec["layer"][0]["encoding"]["color"]["legend"] is not None


def test_one_quantity_needs_no_legend() -> None:
    spec = share_chart(["stem"], {"milliseconds": [2]})
    assert spec["layer"][0]["encoding"]["color"]["legend"] is None
