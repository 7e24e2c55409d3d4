"""Runs that are stopped, from outside or by a fault, and how they go on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datanas import Architecture
from datanas.engine.train import TrainJob
from datanas.runs import RunFolder, read_metrics
from datanas.runs.signals import StoppedAtOnce

STOPPING = '''
"""EGS that sends its own process a signal while it draws for the fifth of six steps, once."""

import os
from pathlib import Path
from typing import Literal

from datanas.samplers import register_sampler
from datanas.samplers.egs import EGS

flag = Path(__file__).with_name("signal")


@register_sampler("stopping_egs")
class Stopping(EGS):
    class Config(EGS.Config):
        name: Literal["stopping_egs"] = "stopping_egs"

    def draw(self, progress, generator, **options):
        if progress > 0.6 and flag.exists():
            number = int(flag.read_text())
            flag.unlink()
            os.kill(os.getpid(), number)
        return super().draw(progress, generator, **options)
'''


def heed_signals() -> None:
    """A shell's background job, and all that it starts, would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def stop(tmp_path: Path, settings: list[str], runs: Path) -> Iterator[Callable[[int], tuple[int, str, Path]]]:
    """Start the tiny search as a process and stop it in its second epoch; gives exit code, stderr and run folder."""
    plugin = tmp_path / "stopping.py"
    plugin.write_text(STOPPING)

    def run(signum: int) -> tuple[int, str, Path]:
        (tmp_path / "signal").write_text(str(int(signum)))
        more = ["--plugin", str(plugin), "--sampler.name", "stopping_egs", "--sampler.prior.children", "2"]
        command = [sys.executable, "-m", "datanas", "search", *settings, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=heed_signals)
        return done.returncode, done.stderr, runs / "run"

    yield run
    from datanas.samplers import samplers

    samplers._entries.pop("stopping_egs", None)


def assert_same_search(run: Path, other: Path) -> None:
    assert Architecture.load(run / "architecture.json") == Architecture.load(other / "architecture.json")
    first, second = (
        [{name: value for name, value in line.items() if name != "time"} for line in read_metrics(path)]
        for path in (run, other)
    )
    assert first == second
    for path in (run / "checkpoints").iterdir():
        same = other / "checkpoints" / path.name / "state.safetensors"
        if same.exists():
            assert (path / "state.safetensors").read_bytes() == same.read_bytes()
    assert (run / "checkpoints" / "step-00000006").is_dir()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_the_run_goes_on(
    signum: int, code: int, stop: Callable[..., Any], chain: Any, cli: Callable[..., Any]
) -> None:
    returned, err, run = stop(signum)
    assert returned == code, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        f"error: interrupted at step 5/6; the state is saved, go on with: datanas search --resume {run}"
    )
    assert (run / "checkpoints" / "step-00000005").is_dir()
    assert not (run / "architecture.json").exists()
    assert cli("search", "--resume", run, "--quiet").code == 0
    assert_same_search(run, chain.search)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    stop: Callable[..., Any], chain: Any, cli: Callable[..., Any]
) -> None:
    returned, err, run = stop(signal.SIGKILL)
    assert returned == -signal.SIGKILL, err
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]
    assert cli("search", "--resume", run, "--quiet").code == 0
    assert_same_search(run, chain.search)


@pytest.fixture
def begun(chain: Any, tmp_path: Path) -> Path:
    """The chain's search as it was after its first epoch."""
    run = Path(shutil.copytree(chain.search, tmp_path / "begun"))
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    for name in ("architecture.json", "cells.svg", "cells.png"):
        (run / name).unlink()
    return run


def test_a_run_without_a_checkpoint_starts_anew(begun: Path, chain: Any, cli: Callable[..., Any]) -> None:
    shutil.rmtree(begun / "checkpoints")
    assert cli("search", "--resume", begun, "--quiet").code == 0
    assert_same_search(begun, chain.search)


def test_resuming_is_noted_in_the_environment(begun: Path, cli: Callable[..., Any]) -> None:
    assert cli("search", "--resume", begun, "--quiet").code == 0
    assert '"resumed"' in (begun / "env.json").read_text()


def test_a_finished_search_has_nothing_left_to_do(chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = Path(shutil.copytree(chain.search, tmp_path / "run"))
    assert cli("search", "--resume", run, "--quiet").code == 0
    for name in ("architecture.json", "metrics.jsonl"):
        assert (run / name).read_bytes() == (chain.search / name).read_bytes()


def test_an_interrupted_training_goes_on(
    chain: Any, settings: list[str], runs: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_step = TrainJob.step

    def step(job: TrainJob, number: int) -> dict[str, float]:
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return make_step(job, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainJob, "step", step)
        outcome = cli("train", chain.search, *settings, "--quiet")
    run = runs / "run"
    assert outcome.code == 143
    assert f"interrupted at step 5/6; the state is saved, go on with: datanas train --resume {run}" in outcome.err
    assert cli("evaluate", run).code == 3
    assert cli("train", "--resume", run, "--quiet").code == 0
    for name in ("evaluation.json", "network.safetensors"):
        assert (run / name).read_bytes() == (chain.train / name).read_bytes()


@pytest.mark.parametrize(
    ("interruption", "code"),
    [(KeyboardInterrupt(), 130), (StoppedAtOnce(signal.SIGINT), 130), (StoppedAtOnce(signal.SIGTERM), 143)],
)
def test_an_interruption_while_setting_up_leaves_nothing(
    interruption: BaseException,
    code: int,
    settings: list[str],
    runs: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("datanas.engine.search.load_task", interrupt)
    assert cli("search", *settings) == (code, "", "error: interrupted\n")
    assert not runs.exists()


class TestFolder:
    def test_a_name_that_is_taken(self, settings: list[str], runs: Path, cli: Callable[..., Any]) -> None:
        (runs / "run").mkdir(parents=True)
        (runs / "run" / "notes.txt").write_text("mine")
        code, out, err = cli("search", *settings)
        assert (code, out) == (2, "")
        assert err == (
            f"error: run.name: {runs / 'run'} is there already; go on with --resume {runs / 'run'}, "
            "or choose another --run.name\n"
        )
        assert [path.name for path in (runs / "run").iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("command", ["search", "train"])
    def test_in_use_by_another_process(self, command: str, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        run = Path(shutil.copytree(getattr(chain, command), tmp_path / "run"))
        with RunFolder.open(run):
            code, out, err = cli(command, "--resume", run)
        assert (code, out) == (7, "")
        assert err.startswith(f"error: {run} is in use by process {os.getpid()} on ")
        assert cli(command, "--resume", run, "--quiet").code == 0

    @pytest.mark.parametrize("command", ["search", "train"])
    def test_that_is_no_run(self, command: str, tmp_path: Path, cli: Callable[..., Any]) -> None:
        for given in (tmp_path, tmp_path / "gone"):
            code, out, err = cli(command, "--resume", given)
            assert (code, out) == (3, "")
            assert err == f"error: not a run folder: no config.yaml in {given}\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("command", ["derive", "evaluate"])
    def test_without_a_run_nothing_is_derived_or_evaluated(self, command: str, tmp_path: Path, cli: Any) -> None:
        assert cli(command, tmp_path).code == 3

    def test_of_the_other_kind(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        search, train = (Path(shutil.copytree(path, tmp_path / path.name)) for path in (chain.search, chain.train))
        for arguments in (["search", "--resume", train], ["train", "--resume", search], ["derive", train]):
            code, out, err = cli(*arguments)
            assert (code, out) == (3, ""), err
            assert str(arguments[-1]) in err
        assert cli("evaluate", search).code == 3


class TestCheckpoint:
    def damage(self, run: Path, step: int) -> Path:
        file = run / "checkpoints" / f"step-{step:08d}" / "state.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        return file

    def test_damaged(self, begun: Path, cli: Callable[..., Any]) -> None:
        file = self.damage(begun, 3)
        for arguments in (["search", "--resume", begun], ["derive", begun]):
            code, out, err = cli(*arguments)
            assert (code, out) == (3, "")
            assert f"error: {file}: damaged: it does not match its sum in manifest.json\n" in err
        assert not (begun / "architecture.json").exists()

    @pytest.mark.filterwarnings("default")
    def test_the_one_before_stands_in_for_a_damaged_one(
        self, chain: Any, tmp_path: Path, cli: Callable[..., Any]
    ) -> None:
        run = Path(shutil.copytree(chain.search, tmp_path / "run"))
        file = self.damage(run, 6)
        code, _, err = cli("search", "--resume", run, "--quiet")
        assert code == 0
        assert err.startswith(f"warning: {file}: damaged: ")
        assert err.endswith("going on from step 3\n")
        assert_same_search(run, chain.search)

    def test_of_another_configuration(self, begun: Path, cli: Callable[..., Any]) -> None:
        config = begun / "config.yaml"
        config.write_text(config.read_text().replace("  channels: 2\n", "  channels: 3\n", 1))
        code, out, err = cli("search", "--resume", begun)
        assert (code, out) == (3, "")
        assert str(begun) in err

    def test_a_damaged_configuration(self, begun: Path, cli: Callable[..., Any]) -> None:
        (begun / "config.yaml").write_text("seed: [")
        code, out, err = cli("search", "--resume", begun)
        assert (code, out) == (2, "")
        assert f"{begun / 'config.yaml'}: not YAML" in err


@pytest.mark.parametrize("command", [["search"], ["train", "darts_v2"]])
def test_a_loss_that_is_not_finite(
    command: list[str], settings: list[str], runs: Path, cli: Callable[..., Any]
) -> None:
    code, out, err = cli(*command, *settings, f"--{command[0]}.weights.lr", "1e30", "--quiet")
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    batch = {
        "search": r"(alpha|weight) step 2, batch 2 of pass 1 through '\1s?'",
        "train": "step 2, batch 2 of epoch 1",
    }[command[0]]
    assert re.fullmatch(rf"error: {batch}: the (loss|gradient) is (nan|inf); try a smaller .*", line)
    assert not (runs / "run" / "network.safetensors").exists()


class TestDisk:
    def test_full_from_the_start_leaves_no_run(
        self, settings: list[str], runs: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("datanas.core.atomic.write_synced", full)
        code, out, err = cli("search", *settings)
        assert (code, out) == (6, "")
        assert err == (
            f"error: {runs / 'run' / 'env.json'}: cannot be written: No space left on device; free some space there\n"
        )
        assert not runs.exists()

    def test_full_in_between_keeps_the_checkpoint_before(
        self, settings: list[str], runs: Path, chain: Any, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from datanas.core import atomic
        from datanas.runs import checkpoint

        write = atomic.write_synced

        def full(path: Path, data: bytes) -> None:
            if "step-00000006" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, data)

        run = runs / "run"
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_synced", full)
            code, _, err = cli("search", *settings, "--quiet")
        assert code == 6
        assert "step-00000006: cannot be written: No space left on device; free some space there" in err
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]
        assert cli("search", "--resume", run, "--quiet").code == 0
        assert_same_search(run, chain.search)

    def test_full_at_the_end_of_a_training(
        self, settings: list[str], runs: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        measured = vars(TrainJob)["evaluated"].fget

        def limited(job: TrainJob) -> Any:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
            return measured(job)

        monkeypatch.setattr(TrainJob, "evaluated", property(limited))
        try:
            code, out, err = cli("train", "darts_v2", *settings, "--quiet")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (code, out) == (6, "")
        assert f"{runs / 'run' / 'network.safetensors'}: cannot be written" in err
        assert not (runs / "run" / "network.safetensors").exists()

    @pytest.mark.parametrize("command", [["search"], ["train", "darts_v2"]])
    def test_where_the_root_cannot_be_a_folder(
        self, command: list[str], settings: list[str], runs: Path, cli: Callable[..., Any]
    ) -> None:
        runs.write_text("a file")
        code, out, err = cli(*command, *settings)
        assert (code, out) == (6, "")
        assert err.startswith(f"error: {runs}: cannot be written: ")
        assert runs.read_text() == "a file"

    def test_full_for_the_pictures(
        self, chain: Any, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from datanas.core import atomic

        write = atomic.write_synced

        def full(path: Path, data: bytes) -> None:
            if ".svg" in path.name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, data)

        monkeypatch.setattr(atomic, "write_synced", full)
        code, out, err = cli("derive", chain.search, "-o", tmp_path / "a.json")
        assert (code, out) == (6, "")
        assert err == (
            f"error: {tmp_path / 'a.svg'}: cannot be written: No space left on device; free some space there\n"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
