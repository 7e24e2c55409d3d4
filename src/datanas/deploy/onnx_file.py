"""A trained network of images as one ONNX file that takes images in 0..1, checked against the network."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from datanas.core.atomic import write_atomic
from datanas.core.errors import CheckpointError, ConfigError, StorageError
from datanas.core.paths import path_errors, shown
from datanas.data.augment import to_unit
from datanas.deploy.pictures import Inputs
from datanas.deploy.predict import load
from datanas.deploy.predictor import ImagePredictor

TOLERANCE = 1e-4
"""By how much an output may differ, of its largest value."""
MADE_UP = 3
"""Images of noise by which a file is checked where none are given."""


_TOGETHER = 64  # images that are checked in one pass


class _Whole(nn.Module):
    """A network behind the normalisation of its images, which are brought between the limits first where there are."""

    mean: Tensor
    std: Tensor
    low: Tensor | None
    high: Tensor | None

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, limits: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        low, high = (None, None) if limits is None else (each[:, None, None] for each in limits)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.network = network
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.low is not None and self.high is not None:
            images = images.maximum(self.low).minimum(self.high)
        return tree_leaves(self.network((images - self.mean) / self.std))


def export_onnx(path: str | Path, file: str | Path, check: Inputs | None = None) -> float:
    """Write the network of a run or of an export as an ONNX file.

    Its input `images` is (n, c, h, w), floating in 0..1 (or the numbers themselves, where the training data were no
    pixels) and of the size that the network was trained on, for any n; its outputs are those of the network, `output_0`
    first. What the outputs stand for is in its metadata, `classes`.

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
    with path_errors(file, StorageError):
        if file.exists():
            raise ConfigError(f"{shown(file)}: exists; choose another file")
    onnx, onnxruntime = _packages()
    predictor = load(path)
    if not isinstance(predictor, ImagePredictor):
        raise ConfigError(f"task {predictor.task}: only networks of images become ONNX files here")
    form = predictor.form
    mean, std = predictor.moments
    limits = None
    if form.value_range is not None:  # the file takes the numbers as they are
        low, high = map(torch.tensor, form.value_range)
        limits = low, high
        mean, std = low + mean * (high - low), std * (high - low)
    network = _Whole(predictor.network, mean, std, limits).eval()
    side = getattr(predictor.settings, "crop", 64)
    shape = (form.channels, form.height or side, form.width or side)
    noise = torch.rand(MADE_UP, *shape, generator=torch.Generator().manual_seed(0))
    if check is not None and form.height is None:
        raise ConfigError("--check: a network of images of any size is checked by noise; leave it out")
    images = noise if check is None else to_unit(predictor.read(check))
    if form.value_range is not None:
        noise, images = (_as_given(each, *form.value_range) for each in (noise, images))
    model = _recorded(network, noise)
    for name, value in {"classes": predictor.output_names, "task": predictor.task}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    error = max(_difference(session, network, each) for each in (*torch.split(images, _TOGETHER), images[:1]))
    if not error <= TOLERANCE:
        raise CheckpointError(f"{path}: the ONNX network computes something else, by {error:.1e} of the largest output")
    write_atomic(file, content)
    return error


def _as_given(images: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Numbers of a data set, from the pixels in 0..1 that became of them."""
    least, largest = (torch.tensor(each)[:, None, None] for each in (low, high))
    return least + images * (largest - least)


def _packages() -> tuple[Any, Any]:
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
    for place, output in enumerate(program.model.graph.outputs):
        output.name = f"output_{place}"
    return program.model_proto


@torch.no_grad()
def _difference(session: Any, network: nn.Module, images: Tensor) -> float:
    """The largest difference of an output, as a share of the largest value."""
    found = session.run(None, {"images": images.numpy()})
    pairs = zip(found, network(images), strict=True)
    return max(float((torch.from_numpy(each) - right).abs().max() / right.abs().max()) for each, right in pairs)
