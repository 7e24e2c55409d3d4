"""A trained network of images as one file of torch.export, which runs without datanas, checked against the network."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

from datanas.core.atomic import write_atomic
from datanas.deploy.pictures import Inputs
from datanas.deploy.portable import TOGETHER, portable, relative_difference, require_free, require_same
from datanas.kernels.switch import plain_kernels

DETAILS = "datanas.json"
"""The file inside that says what outputs stand for: `{"classes": [...], "task": ...}`."""


def export_torch(path: str | Path, file: str | Path, check: Inputs | None = None) -> float:
    """Write the network of a run or of an export as a file that `torch.export.load(file).module()` makes a module of.

    The module takes images (n, c, h, w), floating in 0..1 (or the numbers themselves, where the training data were no
    pixels) and of the size that the network was trained on, for any n, and gives a list of outputs. What they stand for
    is in the file, too: `extra_files={"datanas.json": ""}`.

    Args:
        path: as for `datanas.load`.
        file: where to; it must not exist. Usually called NAME.pt2.
        check: images by which the file is checked, as for `predict`; None for some of noise.

    Returns:
        The largest difference of an output, as a share of the largest value.

    Raises:
        ConfigError: the file exists, or the network takes no images.
        CheckpointError: there is no trained network, or what was written computes something else.
        StorageError: the file cannot be written.
    """
    file = Path(file)
    require_free(file)
    source = portable(path, check, "files of torch.export")
    batch = torch.export.Dim("batch", min=1)
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), plain_kernels():
        warnings.simplefilter("ignore")
        program = torch.export.export(source.network, (source.noise,), dynamic_shapes=({0: batch},))
        details = json.dumps({"classes": source.classes, "task": source.task})
        torch.export.save(program, content, extra_files={DETAILS: details})
        content.seek(0)
        again = torch.export.load(content).module()

        def differs(images: Tensor) -> float:
            return relative_difference(again(images), source.network(images))

        error = max(differs(each) for each in (*torch.split(source.images, TOGETHER), source.images[:1]))
    require_same(path, error)
    write_atomic(file, content.getvalue())
    return error
