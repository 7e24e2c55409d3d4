"""Several processes as one run: what they find, what they write, and what becomes of the others when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.faults import faulty
from tests.faults.trial import Outcome, Started, Tally, as_torchrun_would, differences, free_port

from datanas.runs import read_metrics
from datanas.runs.checkpoint import latest_step, load_checkpoint

Command = Callable[..., Outcome]
Two = Callable[..., tuple[Outcome, Outcome]]
TWENTY = ["--search.epochs", 7]
"""21 steps."""


def alphas(file: Path, rank: int) -> torch.Tensor:
    """(steps, numbers): the alphas of a process after each step."""
    lines = Path(f"{file}.{rank}").read_text().splitlines()
    return torch.stack([torch.cat([torch.tensor(part).flatten() for part in json.loads(line)]) for line in lines])


def farthest(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


def test_all_processes_hold_the_same_alphas_after_every_step(two: Two, arguments: list[str], tmp_path: Path) -> None:
    outcomes = two("search", *arguments, record_alphas=str(tmp_path / "alphas"))
    assert [each.code for each in outcomes] == [0, 0], outcomes
    first, second = (alphas(tmp_path / "alphas", rank) for rank in range(2))
    assert len(first) == 12
    assert torch.equal(first, second)
    assert farthest(first[0], first[-1]) > 0.01


def test_only_the_first_speaks_and_writes(two: Two, arguments: list[str], tmp_path: Path) -> None:
    first, second = two("search", *arguments[1:])
    assert (second.out, second.err) == ("", "")
    assert "supernet" in first.out
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert len(list((tmp_path / "run").glob("events.*"))) == 1


@pytest.mark.parametrize("more", [[], ["--search.gradient.kind", "subsampled"], ["--search.steps", "1:2"]])
def test_two_with_half_a_batch_are_as_one_with_the_whole(
    more: list[str], two: Two, command: Command, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Where no example's features depend on another's: batch norm keeps to its first statistics here."""
    given = {"still_statistics": True}
    one = command("search", *tiny(tmp_path, "one"), *TWENTY, *more, record_alphas=str(tmp_path / "one-alphas"), **given)
    assert one.code == 0, one.err
    outcomes = two("search", *tiny(tmp_path, "two"), *TWENTY, *more, record_alphas=str(tmp_path / "alphas"), **given)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    first, second = alphas(tmp_path / "one-alphas", 0), alphas(tmp_path / "alphas", 0)
    assert len(first) == 21
    assert farthest(first[0], first[-1]) > 0.1
    assert farthest(first, second) < 1e-4
    ones, twos = (read_metrics(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(ones, twos, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)
        assert a["gap/child"] == pytest.approx(b["gap/child"], abs=1e-9)


def test_what_batch_norm_changes(two: Two, command: Command, tiny: Callable[..., list[str]], tmp_path: Path) -> None:
    """With statistics of half a batch each, two processes are not one; with those of the whole batch they are again."""
    found = {}
    command("search", *tiny(tmp_path, "one"), *TWENTY, record_alphas=str(tmp_path / "one-alphas"))
    found["one"] = alphas(tmp_path / "one-alphas", 0)
    for name, more in {"own": [], "synchronised": ["--sync_batch_norm", "true"]}.items():
        outcomes = two("search", *tiny(tmp_path, name), *TWENTY, *more, record_alphas=str(tmp_path / name) + "-alphas")
        assert [each.code for each in outcomes] == [0, 0], outcomes
        found[name] = alphas(tmp_path / f"{name}-alphas", 0)
    # After the first step the weights are the same and one gradient has been taken; later, differences grow.
    assert farthest(found["one"][-1], found["own"][-1]) > 1e-3
    assert farthest(found["one"][:10], found["synchronised"][:10]) < 1e-4


def test_a_training_by_two_is_that_by_one(
    two: Two, command: Command, reference: Mapping[str, Path], tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """With synchronised statistics, and without dropped paths, which each process draws for itself.

    Two epochs: later a tie of a maximum pooling, broken otherwise, shows in all weights.
    """
    more = ["--sync_batch_norm", "true", "--train.drop_path", 0, "--train.epochs", 2]
    given = ["train", reference["search"]]
    assert command(*given, *tiny(tmp_path, "one"), *more).code == 0
    outcomes = two(*given, *tiny(tmp_path, "two"), *more)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    states = [load_checkpoint(tmp_path / name)[1]["job"]["network"] for name in ("one", "two")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    first, second = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert first["loss"] == pytest.approx(second["loss"], abs=1e-3)


def test_what_two_measure_is_what_one_measures(
    two: Two, command: Command, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """In small batches, so that both have some; each is of the same examples and the same gates as with one."""
    given = {"still_statistics": True, "small_evaluation": 7}
    assert command("search", *tiny(tmp_path, "one"), **given).code == 0
    outcomes = two("search", *tiny(tmp_path, "two"), **given)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    for one, both in zip(*(read_metrics(tmp_path / name) for name in ("one", "two")), strict=True):
        for name in ("gap/supernet", "gap/child", "gap/children_mean", "gap/children_variance"):
            assert both[name] == pytest.approx(one[name], abs=1e-9), name


def test_statistics_that_are_taken_anew_are_those_of_all(
    two: Two, command: Command, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """With the statistics of the whole batch, what is measured after a step is what one process measures."""
    more = ["--sync_batch_norm", "true", "--search.epochs", 1]
    assert command("search", *tiny(tmp_path, "one"), *more, small_evaluation=7).code == 0
    outcomes = two("search", *tiny(tmp_path, "two"), *more, small_evaluation=7)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    (one,), (both,) = (read_metrics(tmp_path / name) for name in ("one", "two"))
    for name in ("gap/supernet", "gap/child", "gap/children_mean"):
        assert both[name] == pytest.approx(one[name], abs=1e-9), name


def test_buffers_are_the_same_in_all_and_dropped_paths_are_not(
    two: Two, command: Command, reference: Mapping[str, Path], tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    given = ["train", reference["search"]]
    assert command(*given, *tiny(tmp_path, "one"), record_numbers=str(tmp_path / "one-numbers")).code == 0
    outcomes = two(*given, *tiny(tmp_path, "two"), record_numbers=str(tmp_path / "numbers"), small_evaluation=7)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    alone = [json.loads(line) for line in (tmp_path / "one-numbers.0").read_text().splitlines()]
    first, second = (
        [json.loads(line) for line in (tmp_path / f"numbers.{rank}").read_text().splitlines()] for rank in range(2)
    )
    assert [drawn for drawn, _ in first] == [drawn for drawn, _ in alone]
    assert all(one != other for (one, _), (other, _) in zip(first, second, strict=True))
    assert [buffers for _, buffers in first] == [buffers for _, buffers in second]


def test_other_data_in_one_process(two: Two, arguments: list[str], digits: Path, tmp_path: Path, tally: Tally) -> None:
    with np.load(digits) as found:
        data = {name: found[name].copy() for name in found.files}
    data["train_x"][5, 3, 3] ^= 1
    np.savez(tmp_path / "other.npz", **data)
    outcomes = two("search", *arguments, faults={1: {"other_data": str(tmp_path / "other.npz")}})
    is_told = "process 1 has other examples than the first" in outcomes[0].err
    survived = [each.code for each in outcomes] == [8, 8] and is_told and not (tmp_path / "run").exists()
    tally("13. data that changed since the run began", survived, outcomes)


def test_a_second_signal_ends_one_that_waits_for_the_others(
    two: Two, arguments: list[str], pair: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    number = int(signal.SIGTERM)
    outcomes = two(
        "search",
        *arguments,
        faults={0: {"signal_twice_in_step": [5, number]}, 1: {"sleep_in_step": [5, 3]}},
    )
    assert outcomes[0].code == -number, outcomes[0].err
    assert outcomes[1].code == 1, outcomes[1].err
    assert latest_step(tmp_path / "run") == 3
    again = two("search", *arguments)
    found = differences(tmp_path / "run", pair["search"])
    tally("3. a signal to one of two processes", [each.code for each in again] == [0, 0] and not found, found)


@pytest.fixture
def in_group(fork_server: Any, tmp_path: Path) -> Callable[[str], list[Any]]:
    """What each of two processes sees of a scenario of faulty.py."""

    def run(scenario: str) -> list[Any]:
        outputs = [tmp_path / f"seen-{rank}" for rank in range(2)]
        running = [
            fork_server.Process(target=faulty.run_in_group, args=(scenario, str(output), place))
            for output, place in zip(outputs, as_torchrun_would(2), strict=True)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(60)
            assert process.exitcode == 0
        return [json.loads(output.read_text()) for output in outputs]

    return run


def test_where_one_fails_all_stop(in_group: Callable[[str], list[Any]]) -> None:
    first, second = in_group("one_fails_together")
    assert first == "ProcessLostError 1 process 1 has stopped with an error of its own"
    assert second == "ConfigError 2 mine"


def test_where_all_fail_only_the_first_says_why(in_group: Callable[[str], list[Any]]) -> None:
    assert in_group("both_fail_together") == ["ConfigError 2 ours", "EndedElsewhere 2 the first process has ended"]


def test_where_the_first_fails_for_all(in_group: Callable[[str], list[Any]]) -> None:
    assert in_group("first_fails") == ["DataError 8 bad", "EndedElsewhere 8 the first process has ended"]


def test_what_is_exchanged(in_group: Callable[[str], list[Any]]) -> None:
    expected = [[[0.5, 0.5], [5.5], [5.0, 5.0]], [1.0, 2.0], [[0], [1]], [list(range(200)), []]]
    assert in_group("exchanges") == [expected, expected]


def test_a_program_keeps_its_processes(in_group: Callable[[str], list[Any]]) -> None:
    for found in in_group("joins_again"):
        assert found[0] is True
        assert found[1] == "devices: this program runs as 2 processes on cpu already"
        assert found[2] == "2"  # what torchrun has started, whatever devices says
        assert found[3] == "devices: 3 on 1 machines, but torchrun has started 2"


@pytest.mark.parametrize("kind", ["search", "train"])
def test_two_are_the_same_two_again(
    kind: str, two: Two, arguments: list[str], pair: Mapping[str, Path], tmp_path: Path
) -> None:
    outcomes = two(kind, *([pair["search"]] if kind == "train" else []), *arguments)
    assert [each.code for each in outcomes] == [0, 0], outcomes
    assert differences(tmp_path / "run", pair[kind]) == []


@pytest.mark.parametrize(
    ("signum", "rank"),
    [
        (signal.SIGTERM, 1),
        (signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.complete),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.complete),
    ],
)
def test_a_signal_to_one_stops_both(
    rank: int, signum: int, two: Two, arguments: list[str], pair: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    first, second = two("search", *arguments, faults={rank: {"signal_after_step": [5, int(signum)]}})
    assert (first.code, second.code) == (128 + signum, 128 + signum), (first.err, second.err)
    assert latest_step(tmp_path / "run") == 5
    again = two("search", *arguments)
    found = differences(tmp_path / "run", pair["search"])
    tally("3. a signal to one of two processes", [each.code for each in again] == [0, 0] and not found, found)


@pytest.mark.parametrize(
    ("kind", "rank"),
    [
        ("search", 1),
        ("train", 0),
        pytest.param("search", 0, marks=pytest.mark.complete),
        pytest.param("train", 1, marks=pytest.mark.complete),
    ],
)
def test_one_is_killed(
    rank: int, kind: str, two: Two, arguments: list[str], pair: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    given = [kind, *([pair["search"]] if kind == "train" else []), *arguments]
    outcomes = two(*given, faults={rank: {"kill_after_step": 8}})
    assert outcomes[rank].code == -signal.SIGKILL
    other = outcomes[1 - rank]
    assert other.code == 1
    assert "error: lost contact with another process of this run" in other.err
    again = two(*given)
    found = differences(tmp_path / "run", pair[kind])
    survived = [each.code for each in again] == [0, 0] and not found
    tally("14. one of two processes killed", survived, (again, found))


def test_what_is_not_finite_stops_all(two: Two, arguments: list[str], tmp_path: Path, tally: Tally) -> None:
    first, second = two("search", *arguments, faults={1: {"poison": ["gradient", 15, "nan"]}})
    is_told = "error: alpha step 8, batch 2 of pass 3 through 'alpha': the gradient is nan" in first.err
    survived = (first.code, second.code, second.err) == (4, 4, "") and is_told and latest_step(tmp_path / "run") == 6
    tally("9. a loss, gradient or alpha that is not finite", survived, (first, second))


def test_a_full_batch_that_cannot_be_shared(two: Two, arguments: list[str], tmp_path: Path) -> None:
    first, second = two("search", *arguments, "--search.batch_size", 15)
    assert (first.code, second.code, second.err) == (2, 2, "")
    assert "15 examples cannot be divided equally among 2 processes; take a multiple of 2" in first.err
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_stops_all(two: Two, reference: Mapping[str, Path]) -> None:
    from datanas.runs import RunFolder

    run = reference["search"]
    with RunFolder.open(run):
        first, second = two("search", "--quiet", "--resume", run)
    assert (first.code, second.code, second.err) == (7, 7, "")


def test_another_number_of_processes(
    command: Command, two: Two, arguments: list[str], reference: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    assert command("search", *arguments, kill_after_step=8).code == -signal.SIGKILL
    run = tmp_path / "run"
    before = load_checkpoint(run)[1]["job"]
    first, second = two("search", *arguments)
    assert (first.code, second.code) == (2, 2), first.err
    assert "(processes 1 -> 2) and would not go on bit for bit; --allow-topology-change goes on" in first.err
    assert latest_step(run) == 6
    # No step is left to make: what is saved again is what was loaded.
    allowed = two("search", *arguments, "--search.epochs", 2, "--allow-topology-change")
    assert [each.code for each in allowed] == [0, 0], allowed
    assert repr(load_checkpoint(run)[1]["job"]) == repr(before)
    further = two("search", *arguments, "--search.epochs", 3, "--allow-topology-change")
    note = json.loads((run / "env.json").read_text())["resumed"][-1]
    marked = note["bit_exact"] is False and "processes 1 -> 2" in note["because"]
    survived = [each.code for each in further] == [0, 0] and latest_step(run) == 9 and marked
    tally("12. another number of processes", survived, (further, note))


def test_devices_starts_the_others_itself(arguments: list[str], pair: Mapping[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datanas", "search", *arguments, "--devices", "2"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    found = differences(tmp_path / "run", pair["search"])
    # The configuration names the number of processes, the rest is the same.
    assert found == []


def test_one_that_devices_started_is_killed(
    command: Command, arguments: list[str], tmp_path: Path, tally: Tally
) -> None:
    """The first process runs the real command; the one that it starts is told by a plugin to die."""
    plugin = tmp_path / "dying.py"
    plugin.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(faulty.__file__).parent)!r})\n"
        "import faulty\n"
        "faulty.only_in([1, 'kill_after_step', 8])\n"
    )
    given = [sys.executable, "-m", "datanas", "search", *arguments, "--devices", "2", "--plugin", str(plugin)]
    done = subprocess.run(given, capture_output=True, text=True, timeout=200)
    assert done.returncode in (1, -signal.SIGKILL), done.stderr
    told = "lost contact with another process" in done.stderr or "a process of this run has failed" in done.stderr
    again = command("search", *arguments, "--allow-topology-change")
    tally("14. one of two processes killed", told and again.code == 0 and latest_step(tmp_path / "run") == 12, done)


def test_torchrun(arguments: list[str], pair: Mapping[str, Path], tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run([*launcher, "datanas", "search", *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "run", pair["search"]) == []


def test_two_machines(
    begin: Callable[..., Started], arguments: list[str], pair: Mapping[str, Path], tmp_path: Path
) -> None:
    """As two machines would: each starts the command with its number."""
    port = str(free_port())
    nodes = [
        begin(
            "search",
            *arguments,
            "--num-nodes",
            2,
            environment={"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(node)},
        )
        for node in range(2)
    ]
    outcomes = [node.end() for node in nodes]
    assert [each.code for each in outcomes] == [0, 0], outcomes
    assert differences(tmp_path / "run", pair["search"]) == []


def test_machines_that_do_not_know_each_other(command: Command, arguments: list[str]) -> None:
    outcome = command("search", *arguments, "--num-nodes", 2)
    assert outcome.code == 2
    assert (
        "num_nodes: 2 machines need MASTER_ADDR and MASTER_PORT and NODE_RANK set on each, or torchrun" in outcome.err
    )
