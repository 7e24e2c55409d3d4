"""Encoded images that lie end to end in an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datanas.core.errors import DataError
from datanas.data.decode.archive import Archive
from datanas.data.decode.encoded import encoded_images

CONTENT = np.arange(9, dtype=np.uint8)


def read(tmp_path: Path, content: Any, offsets: Any) -> list[bytes]:
    np.savez(tmp_path / "pack.npz", content=content, offsets=offsets)
    return encoded_images(Archive(tmp_path / "pack.npz", "pack"), "content", "offsets", "pack")


def test_each_image_is_what_lies_between_two_places(tmp_path: Path) -> None:
    assert read(tmp_path, CONTENT, np.array([0, 2, 2, 9])) == [b"\0\1", b"", bytes(range(2, 9))]


@pytest.mark.parametrize(
    ("content", "offsets", "message"),
    [
        (CONTENT.astype(np.int64), [0, 9], "content must be bytes"),
        (CONTENT.reshape(3, 3), [0, 9], "content must be bytes"),
        (CONTENT, [0.0, 9.0], "offsets must be whole numbers"),
        (CONTENT, [0], "offsets must be whole numbers"),
        (CONTENT, [0, 5, 3], "offsets must ascend from 0 to at most 9"),
        (CONTENT, [0, 10], "offsets must ascend"),
        (CONTENT, [-1, 5], "offsets must ascend"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, content: Any, offsets: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"pack: {message}"):
        read(tmp_path, content, offsets)
