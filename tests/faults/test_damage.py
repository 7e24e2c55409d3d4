"""Checkpoints that are damaged, forged or of another version."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from tests.faults.trial import Outcome, Tally, differences

from datanas import Architecture

Command = Callable[..., Outcome]
FILES = ("state.safetensors", "state.json", "manifest.json")
RUNS = Path(__file__).parent / "runs"


@pytest.fixture
def run(reference: Mapping[str, Path], tmp_path: Path) -> Path:
    """A finished search, to be damaged."""
    return Path(shutil.copytree(reference["search"], tmp_path / "run"))


def newest(run: Path, place: int = -1) -> Path:
    return sorted((run / "checkpoints").iterdir())[place]


def survives(command: Command, run: Path, name: str, reference: Mapping[str, Path]) -> tuple[bool, object]:
    """Whether the run goes on from the checkpoint before, with a warning that names the file."""
    again = command("search", "--quiet", "--resume", run)
    found = differences(run, reference["search"])
    is_named = "checkpoints/step-00000012" in again.err and name in again.err and "going on from step 9" in again.err
    return again.code == 0 and is_named and not found, (again.err, found)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "place", [pytest.param(each / 16, marks=[] if each == 7 else pytest.mark.complete) for each in range(16)]
)
def test_a_flipped_byte(
    name: str, place: float, command: Command, run: Path, reference: Mapping[str, Path], tally: Tally
) -> None:
    file = newest(run) / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x01
    file.write_bytes(content)
    tally("6. a flipped byte in a checkpoint", *survives(command, run, name, reference))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.5, *(pytest.param(share, marks=pytest.mark.complete) for share in (0.0, 0.999))])
def test_a_truncated_file(
    name: str, share: float, command: Command, run: Path, reference: Mapping[str, Path], tally: Tally
) -> None:
    file = newest(run) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    tally("6. a truncated file in a checkpoint", *survives(command, run, name, reference))


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file(name: str, command: Command, run: Path, reference: Mapping[str, Path], tally: Tally) -> None:
    (newest(run) / name).unlink()
    tally("6. a lost file in a checkpoint", *survives(command, run, name, reference))


@pytest.mark.parametrize("name", FILES)
def test_no_valid_checkpoint(name: str, command: Command, run: Path, tally: Tally) -> None:
    files = [path / name for path in sorted((run / "checkpoints").iterdir(), reverse=True)]
    for file in files:
        file.write_bytes(b"")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    outcome = command("search", "--quiet", "--resume", run)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    tally(
        "6. no valid checkpoint: exit 3, nothing changed",
        outcome.code == 3 and f"{files[0]}" in outcome.err and before == after,
        outcome.err,
    )


class Marks:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def forge(checkpoint: Path, name: str, content: bytes) -> None:
    """Put a file into a checkpoint and its sum into the manifest, as somebody could who means harm."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"][name] = sha256(content).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", FILES[:2])
def test_a_pickle(
    name: str, command: Command, run: Path, reference: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    mark = tmp_path / "executed"
    forge(newest(run), name, pickle.dumps({"weights": Marks(mark)}))
    survived, why = survives(command, run, "", reference)
    tally("7. a pickle: refused, not executed", survived and not mark.exists(), why)


@pytest.mark.parametrize(
    "length", [2**63, *(pytest.param(n, marks=pytest.mark.complete) for n in (2**40, 200_000_000))]
)
def test_a_huge_header(length: int, command: Command, run: Path, reference: Mapping[str, Path], tally: Tally) -> None:
    content = (newest(run) / FILES[0]).read_bytes()
    forge(newest(run), FILES[0], length.to_bytes(8, "little") + content[8:])
    tally("7. a huge safetensors header", *survives(command, run, "", reference))


def test_a_way_out_in_the_manifest(
    command: Command, run: Path, reference: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    outside = run / "checkpoints" / "outside"
    outside.write_bytes(b"outside")
    forge(newest(run), "../outside", b"outside")
    tally("7. '..' where a name is expected", *survives(command, run, "manifest.json", reference))


@pytest.mark.parametrize("name", ["..", "../run", "a/../../b", "/tmp/run", "."])
def test_a_way_out_in_the_run_s_name(name: str, command: Command, tmp_path: Path, tally: Tally) -> None:
    before = sorted(tmp_path.rglob("*"))
    outcome = command("search", "--run.root", tmp_path / "runs", "--run.name", name)
    is_clean = [path for path in sorted(tmp_path.rglob("*")) if not path.name.startswith("process-")] == before
    tally("7. '..' where a name is expected", outcome.code == 2 and "run.name" in outcome.err and is_clean, outcome.err)


def test_a_checkpoint_of_this_format_from_another_day(command: Command, tmp_path: Path, tally: Tally) -> None:
    run = Path(shutil.copytree(RUNS / "format-2", tmp_path / "old"))
    kept = (run / "architecture.json").read_text()
    outcome = command("derive", run)
    derived = Architecture.load(run / "architecture.json")
    tally("15. an older checkpoint", outcome.code == 0 and derived == Architecture.from_json(kept), outcome.err)


def test_a_checkpoint_of_an_older_format(command: Command, tmp_path: Path, tally: Tally) -> None:
    run = Path(shutil.copytree(RUNS / "format-2", tmp_path / "old"))
    shutil.rmtree(run / "checkpoints")
    older = Path(__file__).parents[1] / "runs" / "checkpoints" / "format-1"
    shutil.copytree(older, run / "checkpoints" / "step-00000002")
    outcome = command("derive", run)
    tally("15. an older checkpoint", outcome.code == 3 and "has format 1" in outcome.err, outcome.err)


def test_a_checkpoint_of_a_later_format(command: Command, tmp_path: Path, tally: Tally) -> None:
    run = Path(shutil.copytree(RUNS / "format-2", tmp_path / "new"))
    manifest = newest(run) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 3'))
    outcome = command("derive", run)
    tally("15. an older checkpoint", outcome.code == 3 and "has format 3" in outcome.err, outcome.err)
