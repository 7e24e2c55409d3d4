"""Pickles that hold data and nothing else.

Loading a pickle may call anything that can be imported. Here it may make numbers, texts, lists, dictionaries and the
arrays of numpy and scipy; whatever else a file names is refused before it is looked up.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from copyreg import _reconstructor  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from datanas.core.errors import DataError

_SCALAR = np.float64(0).__reduce__()[0]
_ARRAY = np.zeros(0).__reduce__()[0]

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("scipy.sparse.csr", "csr_matrix"): csr_matrix,
    ("scipy.sparse._csr", "csr_matrix"): csr_matrix,
    ("collections", "defaultdict"): defaultdict,
    ("copy_reg", "_reconstructor"): _reconstructor,
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in (("object", object), ("list", list), ("int", int), ("dict", dict))
    },
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no data")
        return _ALLOWED[module, name]


def read_plain(path: Path) -> Any:
    """What a pickle of plain data holds.

    Raises:
        DataError: the file cannot be read, is no pickle, or names anything but data.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not a pickle of plain data: {error}") from None
