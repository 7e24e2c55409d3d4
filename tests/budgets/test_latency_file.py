"""Tables of users: both forms are read, in any unit, and what is wrong in them is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datanas.budgets.latency import LatencyTable
from datanas.core.errors import DataError
from datanas.spaces.workload import Workload

ROW = {"primitive": "sep_conv_3x3", "channels": 16, "size": [8, 8], "latency": 2.0}


def written(path: Path, **over: Any) -> Path:
    path.write_text(json.dumps({"unit": "ms", "operations": [ROW], **over}))
    return path


@pytest.mark.parametrize(("unit", "ms"), [("s", 2000.0), ("ms", 2.0), ("us", 0.002)])
def test_the_unit_counts(unit: str, ms: float, tmp_path: Path) -> None:
    found = LatencyTable.load(written(tmp_path / "a.json", unit=unit))
    assert dict(found.times) == {Workload("sep_conv_3x3", 16, 1, (8, 8)): pytest.approx(ms)}
    (tmp_path / "a.csv").write_text(f"primitive,channels,height,width,latency_{unit}\nsep_conv_3x3,16,8,8,2\n")
    assert LatencyTable.load(tmp_path / "a.csv").times == found.times


def test_csv_may_leave_out_what_is_usual(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "channels, primitive, latency_ms, stride, maps, height, width\n4,tanh,0.5,,,,\n8,sep,1,2,4,6,5\n"
    )
    found = LatencyTable.load(tmp_path / "a.csv").times
    assert found == {Workload("tanh", 4): 0.5, Workload("sep", 8, 2, (6, 5), 4): 1.0}


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"unit": "hours"}, "unit: must be one of s, ms, us, got 'hours'"),
        ({"unit": None}, "unit: must be one of"),
        ({"operations": {}}, "no latency table"),
        ({"operations": []}, "holds no operations"),
        ({"operations": [3]}, r"operations\[0\]: must be an object"),
        ({"operations": [{**ROW, "latency": -1}]}, r"operations\[0\]: sep_conv_3x3: a latency must be a finite number"),
        ({"operations": [{**ROW, "latency": float("nan")}]}, "a latency must be a finite number"),
        ({"operations": [{**ROW, "latency": float("inf")}]}, "a latency must be a finite number"),
        ({"operations": [{**ROW, "latency": "2"}]}, "a latency must be a finite number"),
        ({"operations": [{**ROW, "latency": True}]}, "a latency must be a finite number"),
        ({"operations": [{**ROW, "chanels": 3}]}, "chanels: unknown; did you mean 'channels'"),
        ({"operations": [{**ROW, "channels": 0}]}, "channels: must be a whole number of at least 1"),
        ({"operations": [{**ROW, "size": [8]}]}, "size: must be"),
        ({"operations": [{**ROW, "size": [8, 0]}]}, "size: must be"),
        ({"operations": [{**ROW, "primitive": ""}]}, "primitive: must be the name"),
        ({"operations": [ROW, ROW]}, r"operations\[1\]: sep_conv_3x3 of 16 channels at 8x8 is there already"),
        ({"machine": 3}, "machine: must be an object"),
        ({"fit": {"overlap": "1"}}, r"fit\.overlap: must be a number"),
        ({"fit": {"overlab": 1}}, "overlab: unknown; did you mean 'overlap'"),
        ({"fit": {"overlap": -1}}, r"fit\.overlap: must be finite and at least 0"),
        ({"held_out": {"measured_ms": [1.0], "predicted_ms": [], "repeat_error": 0}}, "held_out: must have"),
    ],
)
def test_what_is_wrong_in_json_is_named(over: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        LatencyTable.load(written(tmp_path / "a.json", **over))
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns"),
        ("primitive,channels,latency\nsep,4,1\n", "column 'latency': unknown; did you mean 'latency_"),
        ("primitive,channels,latency_s,latency_ms\nsep,4,1,1\n", "one of latency_s"),
        ("primitive,channels,latency_ms\n", "holds no operations"),
        ("primitive,channels,latency_ms\nsep,4,\n", "line 2: sep: a latency must be a finite number"),
        ("primitive,channels,latency_ms\nsep,4,-2\n", "line 2: sep: a latency must be a finite number"),
        ("primitive,channels,latency_ms\nsep,4,nan\n", "line 2: sep: a latency must be a finite number"),
        ("primitive,channels,latency_ms\nsep,many,1\n", "line 2: channels: must be a whole number"),
        ("primitive,channels,latency_ms\nsep,4,1,7\n", "line 2: has more values than the 3 columns"),
        ("primitive,channels,height,width,latency_ms\nsep,4,8,,1\n", "line 2: height and width: must be"),
    ],
)
def test_what_is_wrong_in_csv_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        LatencyTable.load(tmp_path / "a.csv")


@pytest.mark.parametrize("content", [None, b"no table", b"\xff\xfe\x00", b"[" * 10_000])
def test_a_file_that_is_no_table(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        LatencyTable.load(tmp_path / "a.json")
