"""A trained network of images as one ONNX file that takes images in 0..1, checked against the network."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datanas.core.atomic import write_atomic
from datanas.core.errors import ConfigError
from datanas.deploy.network_file import USE
from datanas.deploy.pictures import Inputs
from datanas.deploy.portable import TOGETHER, Portable, portable, relative_difference, require_free, require_same


def export_onnx(path: str | Path, file: str | Path, check: Inputs | None = None) -> float:
    """Write the network of a run or of an export as an ONNX file.

    Its input `images` is (n, c, h, w), floating in 0..1 (or the numbers themselves, where the training data were no
    pixels) and of the size that the network was trained on, for any n; its outputs are those of the network, `output_0`
    first. What the outputs stand for is in its metadata, `classes`, and what `datanas.load` takes besides.

    Args:
        path: as for `datanas.load`.
        file: where to; it must not exist.
        check: images by which the file is checked, as for `predict`; None for some of noise.

    Returns:
        The largest difference of an output, as a share of the largest value.

    Raises:
        ConfigError: the packages that this needs are missing, the file exists, or the network takes no images.
        CheckpointError: there is no trained network, or what was written computes something else.
        StorageError: the file cannot be written.
    """
    file = Path(file)
    require_free(file)
    packages()
    content, error = onnx_content(portable(path, check, "ONNX files"))
    require_same(path, error)
    write_atomic(file, content)
    return error


def onnx_content(source: Portable) -> tuple[bytes, float]:
    """The bytes of the file, and by how much its outputs differ from the network's, of the largest value."""
    onnx, onnxruntime = packages()
    model = _recorded(source.network, source.noise)
    for name, value in {"classes": source.classes, "task": source.task, USE: source.use}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batches = (*torch.split(source.images, TOGETHER), source.images[:1])
    with torch.no_grad():
        error = max(relative_difference(outputs(session, each), source.network(each)) for each in batches)
    return content, error


def outputs(session: Any, images: Tensor) -> list[Tensor]:
    """What a session of onnxruntime says of images (n, c, h, w)."""
    return [torch.from_numpy(each) for each in session.run(None, {"images": images.numpy()})]


def packages() -> tuple[Any, Any]:
    """onnx and onnxruntime.

    Raises:
        ConfigError: one is not installed.
    """
    try:
        import_module("onnxscript")
        return import_module("onnx"), import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(f"--to onnx: {error.name} is not installed; pip install 'datanas[export]'") from None


def _recorded(network: nn.Module, images: Tensor) -> Any:
    batch = torch.export.Dim("batch", min=2)
    quiet = contextlib.redirect_stdout(io.StringIO())  # of what torch prints on its way
    with warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (images,), dynamo=True, dynamic_shapes=({0: batch},), input_names=["images"], verbose=False
        )
    assert program is not None
    for index, output in enumerate(program.model.graph.outputs):
        output.name = f"output_{index}"
    return program.model_proto
