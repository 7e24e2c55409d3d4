"""The state of a run at a step: a folder checkpoints/step-*/ of three files, and no pickle.

state.safetensors holds the tensors, state.json the rest (datanas.runs.state), and manifest.json the format, the step
and the SHA-256 sum of both.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from datanas.core.atomic import storage_errors, sync_folder, write_synced
from datanas.core.errors import CheckpointError
from datanas.runs.state import decode_state, encode_state

FORMAT = 2
_TENSORS, _STRUCTURE, _MANIFEST = "state.safetensors", "state.json", "manifest.json"
_FOLDER = re.compile(r"step-(\d{8,})(\.replaced)?")


def save_checkpoint(
    folder: Path, step: int, state: Mapping[str, object], keep: int = 2, best: int | None = None
) -> None:
    """Write folder/checkpoints/step-*/; once it is complete, remove what is no longer to be kept.

    That is all but the last `keep` and the best, and all later steps: those of a course that the run has left by going
    on from an earlier step.

    Args:
        folder: the run folder.
        step: how many steps the state has behind it.
        state: mappings (keys str or int), lists and tuples of tensors, numbers, strings, booleans and None.
        keep: how many of the last checkpoints stay, at least 1.
        best: the step of one that stays whatever its age.

    Raises:
        StorageError: it cannot be written; the earlier checkpoints stand.
        TypeError: `state` holds something else; the message says where.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    files = _files(state)
    root = folder / "checkpoints"
    final = root / f"step-{step:08d}"
    temporary = _hidden(final)
    with storage_errors(final):
        root.mkdir(parents=True, exist_ok=True)
        remove_half_checkpoints(folder)
        try:
            temporary.mkdir()
            for name, content in files.items():
                write_synced(temporary / name, content)
            write_synced(temporary / _MANIFEST, _manifest(step, files))
            sync_folder(temporary)
            if final.exists():
                # No call replaces a full folder, so the old one steps aside to a name that loading knows too.
                _remove(_replaced(final))
                os.rename(final, _replaced(final))
            os.rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(root)
    _remove(_replaced(final))
    others = _checkpoints(folder)
    later = [path for saved_step, path in others if saved_step > step]
    earlier = [path for saved_step, path in others if saved_step < step]
    for path in later + earlier[keep - 1 :]:
        if best is None or path.name != f"step-{best:08d}":
            _remove(path)


def encode_checkpoint(state: Mapping[str, object]) -> bytes:
    """A state as one block of bytes, for another process; `decode_checkpoint` reads it."""
    structure, tensors = encode_state(state)
    return safetensors.torch.save(tensors, {"structure": json.dumps(structure, allow_nan=False)})


def decode_checkpoint(data: bytes) -> Any:
    """What `encode_checkpoint` was given."""
    length = int.from_bytes(data[:8], "little")
    structure = json.loads(data[8 : 8 + length])["__metadata__"]["structure"]
    return decode_state(json.loads(structure), safetensors.torch.load(data))


def load_checkpoint(folder: Path, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """The step and state of the newest checkpoint that is whole, with a warning for each damaged one passed over.

    Args:
        folder: the run folder.
        step: the step that is wanted; None for the newest. No other stands in for it.

    Returns:
        The step, and the state with its tensors contiguous on the CPU.

    Raises:
        CheckpointError: there is none, or what there is is damaged; the message names the file.
    """
    candidates = [(saved_step, path) for saved_step, path in _checkpoints(folder) if step is None or saved_step == step]
    if not candidates:
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        steps = sorted({saved_step for saved_step, _ in _checkpoints(folder)})
        raise CheckpointError(f"{folder / 'checkpoints'}: {wanted}" + (f"; there are {steps}" if steps else ""))
    errors: list[CheckpointError] = []
    for saved_step, path in candidates:
        try:
            state = _read(path, saved_step)
        except CheckpointError as error:
            errors.append(error)
            continue
        for damage in errors:
            warnings.warn(f"{damage}; going on from step {saved_step}", stacklevel=2)
        return saved_step, state
    raise errors[0]


def remove_half_checkpoints(folder: Path) -> None:
    """Remove what a process that was killed while it wrote or removed a checkpoint has left."""
    for leftover in (folder / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def latest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, unread; None where there is none."""
    checkpoints = _checkpoints(folder)
    return checkpoints[0][0] if checkpoints else None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Newest first; of one step the current before the one that it replaces."""
    root = folder / "checkpoints"
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    parsed = [(int(match[1]), match[2] is None, name) for name in names if (match := _FOLDER.fullmatch(name))]
    return [(step, root / name) for step, _, name in sorted(parsed, reverse=True)]


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _replaced(path: Path) -> Path:
    return path.with_name(f"{path.name}.replaced")


def _remove(path: Path) -> None:
    """Remove a checkpoint, hidden first, so that a crash leaves no half of one under its name."""
    try:
        os.rename(path, _hidden(path))
    except OSError:
        return
    shutil.rmtree(_hidden(path), ignore_errors=True)


def _files(state: Mapping[str, object]) -> dict[str, bytes]:
    structure, tensors = encode_state(state)
    return {_TENSORS: safetensors.torch.save(tensors), _STRUCTURE: json.dumps(structure, allow_nan=False).encode()}


def _manifest(step: int, files: Mapping[str, bytes]) -> bytes:
    sums = {name: sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps({"format": FORMAT, "step": step, "sha256": sums}).encode()


def _read(path: Path, step: int) -> dict[str, Any]:
    manifest_file = path / _MANIFEST
    files = {name: _bytes(path / name) for name in (_TENSORS, _STRUCTURE)}
    if not manifest_file.exists() and b'"blake2b"' in files[_STRUCTURE]:
        raise CheckpointError(
            f"{path}: has format 1, which datanas wrote before it had manifests; this version reads {FORMAT}. "
            "Finish the run with the version that began it, or start it again"
        )
    manifest_bytes = _bytes(manifest_file)
    try:
        manifest = json.loads(manifest_bytes)
        is_readable = manifest["format"] == FORMAT
        sums = {name: manifest["sha256"][name] for name in files}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{manifest_file}: damaged: not the description of a checkpoint") from None
    if not is_readable:
        raise CheckpointError(f"{manifest_file}: has format {manifest['format']!r}; this version reads {FORMAT}")
    for name, content in files.items():
        if sha256(content).hexdigest() != sums[name]:
            raise CheckpointError(f"{path / name}: damaged: it does not match its sum in {_MANIFEST}")
    if manifest_bytes != _manifest(step, files):
        raise CheckpointError(f"{manifest_file}: damaged: not what was written for step {step}")
    try:
        state = decode_state(json.loads(files[_STRUCTURE]), safetensors.torch.load(files[_TENSORS]))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its files do not fit together: {error}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / _STRUCTURE}: damaged: holds a {type(state).__name__} instead of a state")
    return state


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}") from None
