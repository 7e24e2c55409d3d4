"""CamVid as it is unpacked, and its pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.core.settings import validate
from datanas.data.sets.camvid import CamVid
from datanas.data.types.masks import VOID, SegmentationData


def load(root: Path, **settings: Any) -> SegmentationData:
    return CamVid(validate(CamVid.Config, {"root": root, **settings}, "data")).load()


def test_camvid_as_it_is_unpacked(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for name, pixels in {part: np.zeros((2, 2, 3)), f"{part}annot": np.array([[0, 10], [11, 3]])}.items():
            (tmp_path / "CamVid" / name).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "CamVid" / name / "a.png")
    data = load(tmp_path)
    assert len(data.classes) == 11
    assert data.test.masks[0].tolist() == [[0, 10], [VOID, 3]]
    assert data.validation is not None


def test_the_pack_of_camvid(shared: Callable[[str], Path]) -> None:
    data = load(shared("camvid.npz"))
    assert [len(part) for part in data.parts().values()] == [367, 101, 233]
    assert set(data.train.sizes) == {(180, 240)}
    counts = torch.stack([torch.bincount(mask.flatten(), minlength=256) for mask in data.train.masks]).sum(dim=0)
    assert (counts[:11] > 0).all()
    assert counts[VOID] > 0


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"camvid .*nowhere"):
        load(tmp_path / "nowhere")
