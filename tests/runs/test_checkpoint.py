from __future__ import annotations

import errno
import json
import math
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
from torch import nn

from datanas.core.errors import CheckpointError, StorageError
from datanas.runs import checkpoint as checkpoint_module
from datanas.runs.checkpoint import (
    decode_checkpoint,
    encode_checkpoint,
    latest_step,
    load_checkpoint,
    save_checkpoint,
)

FILES = ["manifest.json", "state.json", "state.safetensors"]
FORMAT_1 = Path(__file__).parent / "checkpoints" / "format-1"
"""A search's checkpoint of step 2, as the first format had it."""


def state_of(number: int) -> dict[str, Any]:
    return {"weight": torch.full((8,), float(number)), "step": number}


def save(folder: Path, *steps: int, keep: int = 2, best: int | None = None) -> None:
    for step in steps:
        save_checkpoint(folder, step, state_of(step), keep, best)


def holds(folder: Path, step: int) -> bool:
    found, state = load_checkpoint(folder, step)
    return found == step and state["step"] == step and torch.equal(state["weight"], state_of(step)["weight"])


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "checkpoints"))


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_and_names(tmp_path: Path) -> None:
    save(tmp_path, 123)
    assert names(tmp_path) == ["step-00000123"]
    assert sorted(os.listdir(tmp_path / "checkpoints" / "step-00000123")) == FILES
    assert holds(tmp_path, 123)


def test_the_manifest_names_format_step_and_the_sums_of_both_files(tmp_path: Path) -> None:
    save(tmp_path, 123)
    path = tmp_path / "checkpoints" / "step-00000123"
    sums = {name: sha256((path / name).read_bytes()).hexdigest() for name in ("state.safetensors", "state.json")}
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest == {"format": 2, "step": 123, "sha256": sums}


def test_without_checkpoints(tmp_path: Path) -> None:
    assert latest_step(tmp_path) is None
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]
    assert latest_step(tmp_path) == 4
    save(tmp_path, 5, keep=1)
    assert names(tmp_path) == ["step-00000005"]


def test_the_best_is_kept_whatever_its_age(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, 5, best=1)
    assert names(tmp_path) == ["step-00000001", "step-00000004", "step-00000005"]
    assert holds(tmp_path, 1)
    save(tmp_path, 6, keep=1, best=5)
    assert names(tmp_path) == ["step-00000005", "step-00000006"]
    assert latest_step(tmp_path) == 6


def test_nothing_old_is_removed_before_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, 2)
    remove = checkpoint_module._remove
    seen = []
    monkeypatch.setattr(checkpoint_module, "_remove", lambda path: (seen.append(holds(tmp_path, 3)), remove(path)))
    save(tmp_path, 3)
    assert seen
    assert all(seen)


def test_steps_of_more_than_eight_digits_are_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 99_999_999, 100_000_000)
    assert latest_step(tmp_path) == 100_000_000


def test_keep_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        save(tmp_path, 1, keep=0)


def test_a_step_can_be_asked_for(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    assert holds(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3; there are \[1, 2\]"):
        load_checkpoint(tmp_path, 3)


def test_a_state_that_cannot_be_stored_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {"a": object()})
    assert os.listdir(tmp_path) == []


def test_saving_an_earlier_step_drops_the_course_that_was_left(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, keep=3)
    save(tmp_path, 2, keep=3)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    save_checkpoint(tmp_path, 2, {"again": True})
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert load_checkpoint(tmp_path) == (2, {"again": True})


@pytest.mark.parametrize("optimizer_class", ["adam", "sgd"])
def test_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path, optimizer_class: str) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
        optimizer: torch.optim.Optimizer
        if optimizer_class == "adam":
            optimizer = torch.optim.Adam(model.parameters(), 0.1, betas=(0.5, 0.999), weight_decay=1e-3)
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
        return model, optimizer

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(2, 3, 6, 6)).square().sum().backward()
            optimizer.step()

    straight, optimizer = build()
    train(straight, optimizer, range(3))
    save_checkpoint(tmp_path, 3, {"model": straight.state_dict(), "optimizer": optimizer.state_dict()})
    _, state = load_checkpoint(tmp_path)
    assert set(state["optimizer"]["state"]) == set(range(4))
    train(straight, optimizer, range(3, 6))

    resumed, optimizer = build()
    resumed.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(resumed, optimizer, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def scramble(file: Path) -> None:
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = [truncate, scramble, flip, empty, remove, make_folder]


@pytest.mark.parametrize(
    ("name", "damage"),
    # What a flip does to a manifest has a test of its own.
    [(name, damage) for name in FILES for damage in DAMAGES if (name, damage) != ("manifest.json", flip)],
)
def test_damage_is_found_named_and_passed_over(tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    save(tmp_path, 1, 2)
    file = tmp_path / "checkpoints" / "step-00000002" / name
    damage(file)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, 2)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 3
    with pytest.warns(UserWarning, match=r"step-00000002.*going on from step 1"):
        step, state = load_checkpoint(tmp_path)
    assert (step, state["step"]) == (1, 1)


def test_the_newest_damage_is_reported_where_nothing_is_whole(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in (1, 2):
        truncate(tmp_path / "checkpoints" / f"step-0000000{step}" / "state.safetensors")
    with pytest.raises(CheckpointError, match="step-00000002"):
        load_checkpoint(tmp_path)


def test_a_number_changed_by_hand_is_found(tmp_path: Path) -> None:
    save(tmp_path, 7)
    file = tmp_path / "checkpoints" / "step-00000007" / "state.json"
    file.write_text(file.read_text().replace('["step", 7]', '["step", 8]'))
    with pytest.raises(CheckpointError, match=r"state\.json: damaged: it does not match its sum in manifest\.json"):
        load_checkpoint(tmp_path)


def test_a_renamed_checkpoint_is_found(tmp_path: Path) -> None:
    save(tmp_path, 7)
    os.rename(tmp_path / "checkpoints" / "step-00000007", tmp_path / "checkpoints" / "step-00000009")
    with pytest.raises(CheckpointError, match=r"manifest\.json: damaged: not what was written for step 9"):
        load_checkpoint(tmp_path)


def test_files_of_two_checkpoints_do_not_mix(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    root = tmp_path / "checkpoints"
    shutil.copy(root / "step-00000001" / "state.safetensors", root / "step-00000002" / "state.safetensors")
    with pytest.raises(CheckpointError, match=r"state\.safetensors: damaged"):
        load_checkpoint(tmp_path, 2)


def complaint(folder: Path) -> str | None:
    """The message with which loading fails; nothing where it does not."""
    try:
        load_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return ""


def test_a_manifest_of_which_any_bit_is_flipped_is_found(tmp_path: Path) -> None:
    save(tmp_path, 123)
    path = tmp_path / "checkpoints" / "step-00000123"
    whole = (path / "manifest.json").read_bytes()
    unseen = []
    for place in range(len(whole)):
        for bit in range(8):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            (path / "manifest.json").write_bytes(content)
            found = complaint(tmp_path)
            # A flip inside a sum shows where the file does not match it, and either may be the damaged one.
            ending = ": damaged: it does not match its sum in manifest.json"
            if not (found.startswith(f"{path / 'manifest.json'}: ") or found.endswith(ending)):
                unseen.append((bytes(content), found))
    assert unseen == []
    (path / "manifest.json").write_bytes(whole)
    assert holds(tmp_path, 123)


MANIFESTS = [
    b"{}",
    b"[]",
    b"3",
    b"[" * 100_000,
    b"\x80",
    b'{"format": 2, "datanas": "1", "step": 1, "sha256": []}',
    b'{"format": 2, "datanas": "1", "step": 1, "sha256": {"state.json": ""}}',
]


@pytest.mark.parametrize("content", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json: damaged: not the description of a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["sha256"].update({"../x": manifest["sha256"]["state.json"]}),
        lambda manifest: manifest.update(more=1),
        lambda manifest: manifest.update(step=2),
        lambda manifest: manifest.update(step=1.0),
        lambda manifest: manifest.update(datanas=[]),
    ],
    ids=["a file beside", "another key", "another step", "a step of another type", "a writer that is no text"],
)
def test_a_manifest_that_says_something_else_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "x").write_text("mine")
    file = tmp_path / "checkpoints" / "step-00000001" / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json: damaged: not what was written for step 1"):
        load_checkpoint(tmp_path)
    assert (tmp_path / "checkpoints" / "x").read_text() == "mine"


def forge(folder: Path, structure: bytes, tensor_file: bytes) -> None:
    """A checkpoint with right sums and wrong content."""
    path = folder / "checkpoints" / "step-00000001"
    path.mkdir(parents=True)
    files = {"state.safetensors": tensor_file, "state.json": structure}
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / "manifest.json").write_bytes(checkpoint_module._manifest(1, files))


NOTHING = safetensors.torch.save({})
PARTS = {
    "another tensor": (b'{"dict": [["a", {"tensor": "a"}]]}', safetensors.torch.save({"b": torch.zeros(1)})),
    "no tensor file": (b'{"dict": []}', b"no safetensors"),
    "an unknown node": (b'{"what": []}', NOTHING),
    "an empty node": (b"{}", NOTHING),
    "a key that cannot be one": (b'{"dict": [[[], 1]]}', NOTHING),
    "a pair of one": (b'{"dict": [["a"]]}', NOTHING),
    "no JSON": (b"{", NOTHING),
    "no text": (b"\xff", NOTHING),
    "too deep": (b"[" * 100_000, NOTHING),
    "a list": (b"[1, 2]", NOTHING),
    "a number": (b"3", NOTHING),
}


@pytest.mark.parametrize("parts", PARTS)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, parts: str) -> None:
    forge(tmp_path, *PARTS[parts])
    with pytest.raises(CheckpointError, match=r"step-00000001(: its files do not fit|/state\.json: damaged: holds a )"):
        load_checkpoint(tmp_path)


def test_a_forgery_that_fits_is_read(tmp_path: Path) -> None:
    """Negative control."""
    forge(tmp_path, b'{"dict": [["a", {"tensor": "a"}]]}', safetensors.torch.save({"a": torch.ones(2)}))
    assert torch.equal(load_checkpoint(tmp_path)[1]["a"], torch.ones(2))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def plain_pickle(trap: Trap) -> bytes:
    return pickle.dumps(trap)


def torch_pickle(trap: Trap) -> bytes:
    file = BytesIO()
    torch.save({"a": trap}, file)
    return file.getvalue()


@pytest.mark.parametrize("encode", [plain_pickle, torch_pickle])
def test_a_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path, encode: Callable[[Any], bytes]) -> None:
    content = encode(Trap(str(tmp_path / "sprung")))
    forge(tmp_path, b'{"dict": [["a", {"tensor": "a"}]]}', content)
    with pytest.raises(CheckpointError, match="step-00000001: its files do not fit together"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "sprung").exists()
    # Negative control: the trap works.
    if encode is plain_pickle:
        pickle.loads(content)
    else:
        torch.load(BytesIO(content), weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    forge(tmp_path, b'{"dict": []}', (2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="step-00000001: its files do not fit together"):
        load_checkpoint(tmp_path)


def test_tensors_that_claim_more_than_there_is_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}}).encode()
    forge(tmp_path, b'{"dict": [["a", {"tensor": "a"}]]}', len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="step-00000001: its files do not fit together"):
        load_checkpoint(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    file = tmp_path / "checkpoints" / "step-00000001" / "manifest.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(CheckpointError, match=r"manifest\.json: has format 3; this version reads 2"):
        load_checkpoint(tmp_path)


def test_the_first_format_is_refused_by_its_name(tmp_path: Path) -> None:
    shutil.copytree(FORMAT_1, tmp_path / "checkpoints" / "step-00000002")
    assert latest_step(tmp_path) == 2
    with pytest.raises(CheckpointError, match=r"step-00000002: has format 1, .*; this version reads 2\. .*start it"):
        load_checkpoint(tmp_path)
    assert sorted(os.listdir(tmp_path / "checkpoints" / "step-00000002")) == ["state.json", "state.safetensors"]


STATES = [
    {},
    {"step": 7, "best": None, "name": "é", "pair": (1, [2.5, True])},
    {"limits": [math.inf, -math.inf]},
    {3: {"weight": torch.arange(6).reshape(2, 3)}, "3": torch.tensor(1.5, dtype=torch.bfloat16)},
]


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
def test_a_state_comes_back_from_one_block_as_from_its_files(tmp_path: Path, state: dict[Any, Any]) -> None:
    save_checkpoint(tmp_path, 1, state)
    _, expected = load_checkpoint(tmp_path)
    for found in (decode_checkpoint(encode_checkpoint(state)), expected):
        assert alike(found, state)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("call", ["rename", "fsync", "mkdir"])
@pytest.mark.parametrize("step", [2, 3], ids=["again", "new"])
def test_a_full_disk_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, step: int) -> None:
    save(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, no_space)
        with pytest.raises(StorageError, match=f"step-0000000{step}: cannot be written: No space left") as caught:
            save(tmp_path, step)
    assert caught.value.exit_code == 6
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert holds(tmp_path, 1)
    assert holds(tmp_path, 2)


def test_a_write_that_the_system_cuts_short_keeps_what_there_is(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            save_checkpoint(tmp_path, 2, {"weight": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    assert holds(tmp_path, 1)


CRASH = """
import os, signal, sys
from pathlib import Path
import torch
from datanas.runs import checkpoint

def crash_at(wanted):
    # Dies in the middle of the wanted file, or just before the wanted call: SIGKILL, so nothing cleans up.
    seen = []
    def reach(event):
        seen.append(event)
        if seen.count(event) == wanted[1] and event == wanted[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    write, rename, rmtree = checkpoint.write_synced, os.rename, checkpoint.shutil.rmtree
    def write_synced(path, data):
        path.write_bytes(data[: len(data) // 2])
        reach(path.name)
        write(path, data)
    checkpoint.write_synced = write_synced
    os.rename = lambda *paths: (reach("rename"), rename(*paths))
    checkpoint.shutil.rmtree = lambda *args, **kwargs: (reach("rmtree"), rmtree(*args, **kwargs))

folder, step, name, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
for number, point in enumerate(zip(sys.argv[3::2], map(int, sys.argv[4::2]))):
    child = os.fork()
    if child == 0:
        crash_at(point)
        checkpoint.save_checkpoint(folder / str(number), step, {"weight": torch.full((8,), 7.0), "step": 7})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def crash(folder: Path, step: int, points: list[tuple[str, int]]) -> None:
    """Kill a save of `step` at each point, in a folder of its own that holds steps 1 and 2."""
    for number in range(len(points)):
        save(folder / str(number), 1, 2)
    arguments = [str(part) for point in points for part in point]
    answer = subprocess.run(
        [sys.executable, "-c", CRASH, str(folder), str(step), *arguments], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["-9"] * len(points), answer.stderr


def test_a_process_killed_while_it_saves_leaves_the_old_checkpoints(tmp_path: Path) -> None:
    points = [("state.safetensors", 1), ("state.json", 1), ("manifest.json", 1), ("rename", 1)]
    crash(tmp_path, 3, points)
    for number in range(len(points)):
        folder = tmp_path / str(number)
        assert load_checkpoint(folder)[0] == 2
        assert holds(folder, 1)
        assert holds(folder, 2)
        save(folder, 3)
        assert names(folder) == ["step-00000002", "step-00000003"]


def test_a_process_killed_while_it_removes_old_ones_leaves_the_new(tmp_path: Path) -> None:
    crash(tmp_path, 3, [("rename", 3), ("rmtree", 1)])
    for number in range(2):
        step, state = load_checkpoint(tmp_path / str(number))
        assert (step, state["step"]) == (3, 7)
        save(tmp_path / str(number), 4)
        assert names(tmp_path / str(number)) == ["step-00000003", "step-00000004"]


def test_a_process_killed_while_it_replaces_a_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    points = [("manifest.json", 1), ("rename", 2), ("rename", 3), ("rename", 4), ("rmtree", 1)]
    crash(tmp_path, 2, points)
    found = []
    for number in range(len(points)):
        step, state = load_checkpoint(tmp_path / str(number))
        assert step == 2
        found.append(state["step"])
        save(tmp_path / str(number), 2)
        assert names(tmp_path / str(number)) == ["step-00000001", "step-00000002"]
    assert found == [2, 2, 2, 7, 7]


def test_a_checkpoint_is_on_the_device_before_it_has_its_name_and_its_name_before_an_older_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, keep=1)
    done = []
    for module, name in (
        (checkpoint_module, "write_synced"),
        (checkpoint_module, "sync_folder"),
        (os, "rename"),
    ):
        original = getattr(module, name)

        def noted(path: Path, *more: Any, original: Callable[..., None] = original, name: str = name) -> None:
            original(path, *more)
            done.append((name, path.name))

        monkeypatch.setattr(module, name, noted)
    save(tmp_path, 2, keep=1)
    half = ".step-00000002.tmp"
    assert done == [
        ("write_synced", "state.safetensors"),
        ("write_synced", "state.json"),
        ("write_synced", "manifest.json"),
        ("sync_folder", half),
        ("rename", half),
        ("sync_folder", "checkpoints"),
        ("rename", "step-00000001"),
    ]
