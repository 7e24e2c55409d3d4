"""The state of a run at a step: checkpoints/step-*/ with state.safetensors and state.json. No pickle.

state.json holds the format, the step, the nesting (datanas.runs.state) and digests of that and of the tensor file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from datanas.errors import CheckpointError
from datanas.runs.atomic import storage_errors, sync_folder, write_synced
from datanas.runs.state import decode_state, encode_state

FORMAT = 1
_TENSORS = "state.safetensors"
_STRUCTURE = "state.json"
_FOLDER = re.compile(r"step-(\d{8,})(\.replaced)?")


def save_checkpoint(folder: Path, step: int, state: Mapping[str, object], keep: int = 2) -> None:
    """Write folder/checkpoints/step-*/; once it is complete, remove all later steps and all but the last `keep`.

    Later steps are those of a course that the run has left by going on from an earlier step.

    Args:
        folder: the run folder.
        step: how many steps the state has behind it.
        state: mappings (keys str or int), lists and tuples of tensors, numbers, strings, booleans and None.
        keep: how many checkpoints stay, at least 1.

    Raises:
        StorageError: it cannot be written; the earlier checkpoints stand.
        TypeError: `state` holds something else; the message says where.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    structure, tensors = encode_state(state)
    tensor_file = safetensors.torch.save(tensors)
    document = {
        "format": FORMAT,
        "step": step,
        "blake2b": {_TENSORS: _digest(tensor_file), "structure": _structure_digest(step, structure)},
        "structure": structure,
    }
    root = folder / "checkpoints"
    final = root / f"step-{step:08d}"
    temporary = _hidden(final)
    with storage_errors(final):
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            temporary.mkdir()
            write_synced(temporary / _TENSORS, tensor_file)
            write_synced(temporary / _STRUCTURE, json.dumps(document, allow_nan=False).encode())
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
    later = [path for found, path in others if found > step]
    earlier = [path for found, path in others if found < step]
    for path in later + earlier[keep - 1 :]:
        _remove(path)


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
    candidates = [(found, path) for found, path in _checkpoints(folder) if step is None or found == step]
    if not candidates:
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        steps = sorted({found for found, _ in _checkpoints(folder)})
        raise CheckpointError(f"{folder / 'checkpoints'}: {wanted}" + (f"; there are {steps}" if steps else ""))
    errors: list[CheckpointError] = []
    for found, path in candidates:
        try:
            state = _read(path, found)
        except CheckpointError as error:
            errors.append(error)
            continue
        for damage in errors:
            warnings.warn(f"{damage}; going on from step {found}", stacklevel=2)
        return found, state
    raise errors[0]


def latest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, unread; None where there is none."""
    checkpoints = _checkpoints(folder)
    return checkpoints[0][0] if checkpoints else None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Newest first; of one step the current before the one that it replaces."""
    root = folder / "checkpoints"
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    found = [(int(match[1]), match[2] is None, name) for name in names if (match := _FOLDER.fullmatch(name))]
    return [(step, root / name) for step, _, name in sorted(found, reverse=True)]


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


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


def _structure_digest(step: int, structure: object) -> str:
    return _digest(json.dumps([step, structure]).encode())


def _read(path: Path, step: int) -> dict[str, Any]:
    structure_file, tensor_file = path / _STRUCTURE, path / _TENSORS
    try:
        document = json.loads(_bytes(structure_file))
        if document["format"] != FORMAT:
            raise CheckpointError(f"{structure_file}: has format {document['format']!r}; this version reads {FORMAT}")
        structure, digests = document["structure"], document["blake2b"]
        is_intact = document["step"] == step and digests["structure"] == _structure_digest(step, structure)
        tensor_digest = digests[_TENSORS]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{structure_file}: damaged: not the description of a checkpoint") from None
    if not is_intact:
        raise CheckpointError(f"{structure_file}: damaged: it does not match its digest")
    data = _bytes(tensor_file)
    if _digest(data) != tensor_digest:
        raise CheckpointError(f"{tensor_file}: damaged: it does not match the digest in {_STRUCTURE}")
    try:
        state = decode_state(structure, safetensors.torch.load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its two files do not fit together: {error}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{structure_file}: damaged: holds a {type(state).__name__} instead of a state")
    return state


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}") from None
