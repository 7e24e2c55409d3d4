"""What a report says of sound, incomplete, damaged, running and mixed run folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.core.errors import CheckpointError, ConfigError, StorageError
from datanas.report.page import write
from datanas.report.page.write import write_report
from datanas.runs.lock import Lock

Page = Callable[..., str]
SEARCHED = ["What was found", "How the choice was made", "Supernet, sampled children", "Losses", "Settings and how"]
TRAINED = ["What was found", "How it learned", "On the test part", "Where multiply-adds, parameters", "Settings"]


def headings(page: str, level: str = "h3") -> list[str]:
    return re.findall(f"<{level}>(.*?)</{level}>", page)


@pytest.mark.parametrize(("name", "expected"), [("found", SEARCHED), ("trained", TRAINED), ("plain", TRAINED)])
def test_a_sound_run_has_all_its_sections_and_no_faults(
    page: Page, finished: Path, name: str, expected: list[str]
) -> None:
    made = page(finished / name)
    assert len(headings(made)) == len(expected)
    assert all(head.startswith(start) for head, start in zip(headings(made), expected, strict=True))
    assert write_report([finished / name], finished.parent / "again.html").notes == []


def test_the_page_is_whole_and_asks_for_nothing_outside_it(page: Page, finished: Path, shown: Any) -> None:
    found = shown(page(finished / "found", finished / "trained"))
    for tag, attributes in found.elements:
        for name in ("src", "href", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert tag != "iframe"
    (policy,) = [each for _, each in found.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in (policy["content"] or "")
    assert "eval" not in (policy["content"] or "")


def test_every_picture_chart_and_slider_has_words(page: Page, finished: Path, shown: Any) -> None:
    found = shown(page(finished / "found", finished / "trained"))
    pictures = [each for tag, each in found.elements if tag in ("img",)]
    assert pictures
    assert all(each["alt"] for each in pictures)
    named = [each for tag, each in found.elements if each.get("role") == "img" or tag == "input"]
    assert len(named) > 10
    assert all(each.get("aria-label") for each in named)
    assert {each.get("type") for tag, each in found.elements if tag == "input"} == {"range"}


def test_links_of_the_contents_lead_somewhere(page: Page, finished: Path, shown: Any) -> None:
    found = shown(page(finished / "found", finished / "trained"))
    names = [each["id"] for _, each in found.elements if "id" in each]
    links = [each["href"] for tag, each in found.elements if tag == "a"]
    assert len(set(names)) == len(names)
    assert {link.removeprefix("#") for link in links} <= set(names)


def test_time_stands_beside_what_is_counted(page: Page, finished: Path, shown: Any) -> None:
    made = page(finished / "trained")
    text = shown(made).text
    assert "Together" in text
    assert " of a pass in which nothing else is timed" in text
    heads = re.findall(r"<thead>(.*?)</thead>", made, re.S)
    assert sum("multiply-adds" in head and "milliseconds" in head for head in heads) == 2
    assert '"field": "quantity"' in made.replace('":"', '": "')


def test_times_in_a_table_of_their_own_as_earlier_versions_kept_them_are_shown(page: Page, copy: Path) -> None:
    file = copy / "trained" / "exhibits.json"
    found = json.loads(file.read_text())
    table = {"kind": "table", "title": "Time by part", "columns": ["part", "milliseconds"], "rows": [["stem", 1.5]]}
    file.write_text(json.dumps({**found, "costs": [table]}))
    assert "Time by part: shares" in page(copy / "trained")


def test_scores_stand_with_their_intervals(page: Page, finished: Path, shown: Any) -> None:
    evaluation = json.loads((finished / "trained" / "evaluation.json").read_text())
    text = shown(page(finished / "trained")).text
    assert f"accuracy {evaluation['score']:.1%} on the test part, 95 % interval" in text
    assert "(12 examples)" in text
    assert text.count("A 95 % interval is a range") == 1


def test_steps_of_the_slider_are_the_epochs_with_p_as_it_was(page: Page, finished: Path) -> None:
    (steps,) = re.findall(r'class="steps">(.*?)</script>', page(finished / "found"))
    data = json.loads(steps)
    lines = [json.loads(line) for line in (finished / "found" / "metrics.jsonl").read_text().splitlines()]
    assert [each.partition(":")[0] for each in data["said"]] == ["epoch 1", "epoch 2"]
    for tables, line in zip(data["tables"], lines, strict=True):
        for table, group in zip(tables, ("normal", "reduce"), strict=True):
            assert table == [[round(p, 4) for p in row] for row in line[f"probs/{group}"]]


def test_dots_of_the_slider_are_what_would_have_been_kept_then(page: Page, copy: Path) -> None:
    files = sorted((copy / "found" / "genotypes").iterdir())
    first = json.loads(files[0].read_text())
    first["cells"]["normal"]["code"] = first["cells"]["normal"]["code"][::-1]
    files[0].write_text(json.dumps(first))
    (steps,) = re.findall(r'class="steps">(.*?)</script>', page(copy / "found"))
    shown = [marks[0] for marks in json.loads(steps)["marks"]]
    codes = [json.loads(file.read_text())["cells"]["normal"]["code"] for file in files]
    expected = [
        [[row, column] for row, digits in enumerate(code) for column, digit in enumerate(digits) if digit != "0"]
        for code in codes
    ]
    assert shown == expected
    assert shown[0] != shown[1]


def test_several_runs_stand_side_by_side(page: Page, finished: Path, shown: Any) -> None:
    made = page(finished / "found", finished / "trained", finished / "plain")
    assert headings(made, "h2") == ["Side by side", "found", "trained", "plain"]
    assert headings(made)[:4] == ["The runs", "Scores side by side", "Curves side by side", "Cells side by side"]
    assert "By these intervals: " in shown(made).text


def test_a_search_brings_its_race_along(page: Page, copy: Path) -> None:
    race = copy / "found" / "race"
    race.mkdir()
    (race / "config.yaml").write_text("seed: 0\n")
    (race / "env.json").write_text('{"kind": "race"}')
    (copy / "trained" / "race").mkdir()  # of a training nothing inside is a run
    (copy / "trained" / "race" / "config.yaml").write_text("seed: 0\n")
    assert headings(page(copy / "found", copy / "trained"), "h2")[1:] == ["found", "found/race", "trained"]


def test_the_same_run_twice_is_shown_once(page: Page, finished: Path) -> None:
    assert headings(page(finished / "found", finished / "." / "found"), "h2") == ["found"]


def test_scores_of_different_data_are_not_compared(page: Page, copy: Path, shown: Any) -> None:
    record = json.loads((copy / "plain" / "data.json").read_text())
    (copy / "plain" / "data.json").write_text(json.dumps({**record, "data": "other"}))
    made = page(copy / "trained", copy / "plain")
    assert "different tasks or data" in shown(made).text
    assert "Scores side by side" not in headings(made)


def test_names_from_outside_are_text_and_no_markup(page: Page, copy: Path, shown: Any) -> None:
    evil = '<script>alert(1)</script><img src=x onerror="alert(2)">'
    before = shown(page(copy / "trained"))
    file = copy / "trained" / "exhibits.json"
    data = json.loads(file.read_text())
    for exhibit in data["exhibits"]:
        if exhibit["kind"] == "confusion":
            exhibit["classes"][0] = evil
        elif exhibit["kind"] == "table":
            exhibit["rows"][0][0] = evil
    file.write_text(json.dumps(data))
    found = shown(page(copy / "trained"))
    assert evil in found.text
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in before.elements]
    assert not [each for _, each in found.elements if "onerror" in each]


def test_a_run_without_exhibits_says_what_makes_them(page: Page, copy: Path, shown: Any) -> None:
    (copy / "trained" / "exhibits.json").unlink()
    made = page(copy / "trained")
    assert f"datanas evaluate {copy / 'trained'}" in shown(made).text
    evaluation = json.loads((copy / "trained" / "evaluation.json").read_text())
    ends = " to ".join(f"{end:.1%}" for end in evaluation["interval"])
    assert f"95 % interval {ends} ({evaluation['examples']} examples)" in shown(made).text


def test_of_an_older_run_the_interval_is_by_the_count_of_its_exhibits(page: Page, copy: Path, shown: Any) -> None:
    file = copy / "trained" / "evaluation.json"
    evaluation = json.loads(file.read_text())
    ends = " to ".join(f"{end:.1%}" for end in evaluation.pop("interval"))
    for name in ("examples", "examples_are", "interval_shown", "metric"):
        del evaluation[name]
    file.write_text(json.dumps(evaluation))
    assert f"95 % interval {ends} (" in shown(page(copy / "trained")).text
    (copy / "trained" / "exhibits.json").unlink()
    assert "95 % interval" not in shown(page(copy / "trained")).text, "of how many examples is not known"


def test_a_training_that_stopped_says_so_and_shows_its_curves(page: Page, copy: Path, shown: Any) -> None:
    for name in ("evaluation.json", "exhibits.json"):
        (copy / "trained" / name).unlink()
    made = page(copy / "trained")
    assert "It has not been measured" in shown(made).text
    assert "Loss" in headings(made, "h4")


def test_a_search_under_way_shows_what_it_has(page: Page, copy: Path, shown: Any) -> None:
    for name in ("result.json", "architecture.json"):
        (copy / "found" / name).unlink()
    lock = Lock(copy / "found" / "lock")
    try:
        text = shown(page(copy / "found")).text
    finally:
        lock.release()
    assert "A search, classification on npz, running, 2 of 2 epochs." in text
    assert "The run is under way" in text
    assert "No cell has been kept yet" in text
    assert "c\u2096\u208b\u2082 → 2" in page(copy / "found"), "edges are named by the last genotype"


def test_a_run_that_has_just_begun_has_little_to_show(page: Page, tmp_path: Path, shown: Any) -> None:
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.yaml").write_text("search: {epochs: 3}\n")
    (tmp_path / "young" / "env.json").write_text('{"kind": "search"}')
    text = shown(page(tmp_path / "young")).text
    assert "No epoch has been completed yet" in text
    assert "it goes on with" in text.lower()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "half a line of metrics": lambda run: (run / "metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n'),
    "metrics of other types": lambda run: (run / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 1, "probs/normal": "high", "train/loss": [], "gap/supernet": null}\n'
    ),
    "a result that is a list": lambda run: (run / "result.json").write_text("[]"),
    "a result without sense": lambda run: (run / "result.json").write_text('{"gap": 1, "kept": "no", "warnings": 3}'),
    "an evaluation without sense": lambda run: (run / "evaluation.json").write_text('{"score": "high"}'),
    "exhibits of another version": lambda run: (run / "exhibits.json").write_text(
        '{"exhibits": [{"kind": "hologram"}], "costs": 7, "examples": "many"}'
    ),
    "no JSON": lambda run: [path.write_bytes(b"\xff{") for path in run.glob("*.json")],
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(missing_ok=True),
    "genotypes of other cells": lambda run: [path.write_text("{}") for path in run.glob("genotypes/*")],
    "empty files": lambda run: [path.write_bytes(b"") for path in run.glob("*.*")],
    "a config that is no YAML": lambda run: (run / "config.yaml").write_bytes(b"{ not: [sound"),
}


@pytest.mark.parametrize("name", ["found", "trained"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_said_and_the_rest_is_shown(
    page: Page, copy: Path, name: str, damage: str, shown: Any
) -> None:
    DAMAGE[damage](copy / name)
    made = page(copy / name, copy / "plain")
    assert "Settings and how to repeat it" in headings(made)
    assert shown(made).text.count("95 % interval") >= 1, "the sound run stands beside it"


def test_faults_are_noted_by_the_name_of_the_run(page: Page, copy: Path) -> None:
    (copy / "found" / "metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    page(copy / "found")  # with the charts' program out of the way
    assert write_report([copy / "found"]).notes == ["found: metrics.jsonl: line 1 is damaged"]


def test_the_target_is_in_the_folder_of_a_single_run(page: Page, copy: Path) -> None:
    page(copy / "found")
    assert write_report([copy / "found"]).path == copy / "found" / "report.html"
    assert write_report([copy / "found"]).path.is_file(), "an earlier report is replaced"


@pytest.mark.parametrize(
    ("target", "message"), [(None, "it needs a name"), ("folder", "is a folder"), ("notes.html", "is no report")]
)
def test_a_target_that_will_not_do_is_refused_and_stays(
    page: Page, finished: Path, tmp_path: Path, target: str | None, message: str
) -> None:
    page(finished / "found")
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    with pytest.raises(ConfigError, match=message):
        write_report([finished / "found", finished / "trained"], None if target is None else tmp_path / target)
    assert (tmp_path / "notes.html").read_text() == "<p>mine</p>"


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(
    page: Page, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page(finished / "found")

    def refuse(path: Path, data: bytes) -> None:
        raise StorageError(f"{path}: cannot be written")

    monkeypatch.setattr(write, "write_atomic", refuse)
    with pytest.raises(StorageError):
        write_report([finished / "trained"], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_is_no_run_is_refused(page: Page, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        page(finished / "found", tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_report_is_small(page: Page, finished: Path) -> None:
    """With the charts' program, of 0.9 MB, it has to stay below 2 MB."""
    assert len(page(finished / "found", finished / "trained", finished / "plain")) < 500_000
