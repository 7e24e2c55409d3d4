from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, tzinfo
from pathlib import Path
from typing import NoReturn

import pytest

from datanas.core import atomic
from datanas.core.errors import CheckpointError, ConfigError, RunInUseError, StorageError
from datanas.runs import RunFolder
from datanas.runs import folder as folder_module
from datanas.runs import lock as lock_module


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_named_run_is_made_with_its_root(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "deep" / "runs", "first", "search") as run:
        assert run.path == tmp_path / "deep" / "runs" / "first"
        assert run.path.is_dir()


def test_unnamed_runs_get_the_kind_the_time_and_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(2024, 3, 5, 14, 7, 9)

    monkeypatch.setattr(folder_module, "datetime", Clock)
    names = []
    for _ in range(3):
        with RunFolder.create(tmp_path, None, "search") as run:
            names.append(run.path.name)
    assert names == ["search-20240305-140709", "search-20240305-140709-2", "search-20240305-140709-3"]


def test_a_taken_name_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"--resume .*old, or choose another --run\.name"):
        RunFolder.create(tmp_path, "old", "search")
    assert os.listdir(tmp_path / "old") == ["thesis.txt"]


def test_a_name_taken_by_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(ConfigError, match=r"run\.name"):
        RunFolder.create(tmp_path, "old", "search")


LEFT = {
    "nothing": [],
    "the lock": ["lock"],
    "half of the first file": ["lock", ".env.json.7.tmp"],
    "all but the last file": ["lock", "env.json", "architecture.json"],
    "half of the last file": ["lock", "env.json", "architecture.json", ".config.yaml.7.tmp"],
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_what_a_killed_set_up_left_does_not_take_the_name(tmp_path: Path, left: list[str]) -> None:
    (tmp_path / "new").mkdir()
    for name in left:
        (tmp_path / "new" / name).write_text("{}")
    RunFolder.require_free(tmp_path, "new")
    with RunFolder.create(tmp_path, "new", "search") as run:
        run.settle({"config.yaml": "seed: 1\n"}, "search")
    assert (tmp_path / "new" / "config.yaml").read_text() == "seed: 1\n"
    env = json.loads((tmp_path / "new" / "env.json").read_text())
    assert env["kind"] == "search"
    assert "resumed" not in env


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "thesis.txt", ".hidden", "notes.tmp"])
def test_anything_else_takes_the_name(tmp_path: Path, name: str) -> None:
    """Negative control."""
    (tmp_path / "old").mkdir()
    for file in ("lock", "env.json", name):
        (tmp_path / "old" / file).write_text("mine")
    calls: list[Callable[[Path, str], object]] = [
        RunFolder.require_free,
        lambda root, name: RunFolder.create(root, name, "search"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"run\.name: .*old is there already; go on with --resume .*old, or "):
            call(tmp_path, "old")
    assert (tmp_path / "old" / name).read_text() == "mine"


def test_of_ten_that_make_the_same_run_one_does(tmp_path: Path) -> None:
    barrier = threading.Barrier(10)

    def make(number: int, name: str) -> RunFolder | RunInUseError:
        barrier.wait()
        try:
            run = RunFolder.create(tmp_path / "deep" / "runs", name, "search")
        except RunInUseError as error:
            return error
        run.settle({"config.yaml": f"seed: {number}\n"}, "search")
        return run

    with ThreadPoolExecutor(10) as pool:
        for name in ("one", "two", "three", "four", "five"):
            found = list(pool.map(make, range(10), [name] * 10))
            ((winner, run),) = [(n, made) for n, made in enumerate(found) if isinstance(made, RunFolder)]
            assert [type(other) for other in found].count(RunInUseError) == 9
            assert sorted(os.listdir(run.path)) == ["config.yaml", "env.json", "lock"]
            assert (run.path / "config.yaml").read_text() == f"seed: {winner}\n"
            run.close()


def test_a_run_that_appears_before_the_lock_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()

    class Late(lock_module.Lock):
        def __init__(self, path: Path) -> None:
            (path.parent / "config.yaml").touch()
            super().__init__(path)

    monkeypatch.setattr(folder_module, "Lock", Late)
    with pytest.raises(ConfigError, match="there already"):
        RunFolder.create(tmp_path, "new", "search")
    RunFolder.open(tmp_path / "new").close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a/"])
def test_a_name_must_be_one_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.name: must be the name of one folder"):
        RunFolder.create(tmp_path / "runs", name, "search")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("call", ["write", "open"])
def test_a_full_disk_leaves_nothing_of_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(StorageError, match="No space left"):
        RunFolder.create(tmp_path / "deep" / "runs", "new", "search")
    monkeypatch.undo()
    assert not (tmp_path / "deep").exists()


def test_a_root_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match="runs: cannot be written"):
        RunFolder.create(tmp_path / "runs", None, "search")


def test_discard_removes_what_create_made(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "runs", "new", "search")
    run.write_json(run.genotype_path(1).relative_to(run.path), {})
    run.discard()
    assert os.listdir(tmp_path) == []


def test_discard_leaves_a_folder_that_was_there_empty(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    run = RunFolder.create(tmp_path, "new", "search")
    run.write_text("file", "text")
    run.discard()
    assert os.listdir(tmp_path / "new") == []


def test_discard_keeps_other_runs(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", "new", "search")
    RunFolder.create(tmp_path / "runs", "other", "search").close()
    run.discard()
    assert os.listdir(tmp_path / "runs") == ["other"]


def test_settling_makes_it_a_run(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "train") as run:
        with pytest.raises(CheckpointError, match="not a run folder"):
            RunFolder.open(run.path)
        run.settle({"architecture.json": "{}", "config.yaml": "seed: 1\n"}, "train")
    assert sorted(os.listdir(run.path)) == ["architecture.json", "config.yaml", "env.json", "lock"]
    assert (run.path / "config.yaml").read_text() == "seed: 1\n"
    assert json.loads((run.path / "env.json").read_text())["kind"] == "train"
    RunFolder.open(run.path).close()


@pytest.mark.parametrize("name", ["env.json", "architecture.json", "config.yaml"])
def test_a_full_disk_while_settling_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write = atomic.write_synced

    def fill(path: Path, data: bytes) -> None:
        if name in path.name:
            path.write_bytes(data[:3])
            no_space()
        write(path, data)

    run = RunFolder.create(tmp_path / "deep" / "runs", "new", "search")
    monkeypatch.setattr(atomic, "write_synced", fill)
    with pytest.raises(StorageError, match=f"new/{name}: cannot be written: No space left on device; free some"):
        run.settle({"architecture.json": "{}", "config.yaml": "seed: 1\n"}, "search")
    assert os.listdir(tmp_path) == []


def test_a_run_of_the_wanted_kind_is_let_pass(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.require_kind("train")
        run.settle({"config.yaml": ""}, "search")
        run.require_kind("search")
        assert run._lock.is_held


def test_a_run_of_another_kind_is_refused_and_let_go(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.settle({"config.yaml": ""}, "search")
    with RunFolder.open(run.path) as again:
        with pytest.raises(CheckpointError) as caught:
            again.require_kind("train")
        assert str(caught.value) == f"{run.path}: a train run is needed, this is a search run"
        assert caught.value.exit_code == 3
        RunFolder.open(run.path).close()


def test_discard_of_an_opened_run_keeps_it(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_text("config.yaml", "seed: 1\n")
    run = RunFolder.open(tmp_path / "run")
    run.discard()
    assert (tmp_path / "run" / "config.yaml").exists()
    RunFolder.open(tmp_path / "run").close()


def test_discard_after_close_keeps_the_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run", "search")
    run.write_text("config.yaml", "seed: 1\n")
    run.close()
    run.discard()
    assert (tmp_path / "run" / "config.yaml").exists()


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a run folder: no config\.yaml in ") as caught:
        RunFolder.open(tmp_path)
    assert caught.value.exit_code == 3
    assert os.listdir(tmp_path) == []


def test_paths(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        assert run.architecture_path == tmp_path / "run" / "architecture.json"
        assert run.genotype_path(7) == tmp_path / "run" / "genotypes" / "epoch-0007.json"


def test_json_is_strict(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_json("result.json", {"loss": float("nan"), "bounds": (float("-inf"), 1.5), "name": "é"})
    content = (tmp_path / "run" / "result.json").read_text()
    assert json.loads(content, parse_constant=pytest.fail) == {"loss": "nan", "bounds": ["-inf", 1.5], "name": "é"}


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_bytes("deep/network", b"\x00\xff\r\n")
        assert (run.path / "deep" / "network").read_bytes() == b"\x00\xff\r\n"
        assert os.listdir(run.path / "deep") == ["network"]


def test_a_full_disk_keeps_the_old_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_text("config.yaml", "seed: 1\n")
        monkeypatch.setattr(os, "replace", no_space)
        with pytest.raises(StorageError, match=r"config\.yaml") as caught:
            run.write_text("config.yaml", "seed: 2\n")
    assert caught.value.exit_code == 6
    assert sorted(os.listdir(run.path)) == ["config.yaml", "lock"]
    assert (run.path / "config.yaml").read_text() == "seed: 1\n"


def test_env_says_what_ran_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["datanas", "search", "--data.root", "my data"])
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_env("search")
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["kind"] == "search"
    assert env["command"] == "datanas search --data.root 'my data'"
    assert env["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert env["cpu"]["count"] == os.cpu_count()
    assert env["cpu"]["model"]
    assert set(env["versions"]) == {"datanas", "torch", "numpy"}
    assert env["versions"]["torch"]
    assert "T" in env["started"]
    assert isinstance(env["devices"], list)


def test_env_has_the_commit_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(repository)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(repository)
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_env("search")
    assert json.loads((tmp_path / "run" / "env.json").read_text())["git_commit"] == commit


def test_env_has_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_env("search")
    assert json.loads((tmp_path / "run" / "env.json").read_text())["git_commit"] is None


def test_env_of_a_resumed_run_keeps_the_first_and_notes_the_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {"first": None, "second": {"from_step": 3, "because": []}, "third": {"from_step": 5, "because": ["torch"]}}
    with RunFolder.create(tmp_path, "run", "search") as run:
        for command, note in notes.items():
            monkeypatch.setattr(sys, "argv", [command])
            run.write_env("search", note)
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["command"] == "first"
    assert "from_step" not in env
    assert [later["command"] for later in env["resumed"]] == ["second", "third"]
    assert [{name: later[name] for name in ("from_step", "because")} for later in env["resumed"]] == [
        notes["second"],
        notes["third"],
    ]
    assert all({"started", "versions", "kind"} <= later.keys() for later in env["resumed"])


def test_env_without_a_note_is_that_of_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        for command in ("first", "second"):
            monkeypatch.setattr(sys, "argv", [command])
            run.write_env("search")
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["command"] == "second"
    assert "resumed" not in env


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000, "3", '{"resumed": 3}', ""])
def test_a_damaged_env_is_written_anew(tmp_path: Path, content: str) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_text("env.json", content)
        run.require_kind("train")
        run.write_env("search", {"from_step": 3})
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["kind"] == "search"
    assert "resumed" not in env


def test_a_second_run_folder_object_is_refused(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "run", "search") as run:
        run.write_text("config.yaml", "")
        with pytest.raises(RunInUseError):
            RunFolder.open(run.path)
    RunFolder.open(run.path).close()


def test_importing_the_package_is_light() -> None:
    heavy = "{'torch', 'tensorboard', 'rich', 'numpy', 'safetensors'}"
    code = f"import sys, datanas.runs; print(sorted({heavy} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
