"""Arrays in an .npz that is called by its content, so that the same arrays are the same file."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datanas.core.atomic import open_atomic

_CHUNK = 2**25  # bytes that are copied at a time


def write_arrays(arrays: Mapping[str, NDArray[Any]], folder: Path) -> Path:
    """Write arrays as FOLDER/data-<sum>.npz, where they are not there yet.

    Raises:
        StorageError: they cannot be written.
    """
    file = folder / f"data-{_sum_of(arrays)[:16]}.npz"
    if not file.exists():
        with open_atomic(file) as opened:
            np.savez(opened, allow_pickle=False, **arrays)
    return file


def _sum_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        rows = max(1, _CHUNK // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            digest.update(array[start : start + rows].tobytes())
    return digest.hexdigest()
