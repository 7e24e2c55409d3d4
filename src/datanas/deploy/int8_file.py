"""A trained network of images as an ONNX file of 8-bit numbers, measured beside the one of 32 bits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datanas.core.atomic import write_atomic
from datanas.core.errors import ConfigError
from datanas.deploy.onnx_file import onnx_content, outputs, packages
from datanas.deploy.pictures import Inputs
from datanas.deploy.portable import TOGETHER, portable, require_free, require_same
from datanas.kernels.hardware import median_seconds

FEWEST = 32
"""Images by which ranges are found; with fewer they are those of a few images."""
_CALIBRATED = 256


@dataclass(frozen=True)
class Int8Export:
    """What an 8-bit file is like beside that of 32 bits.

    Attributes:
        agree: share of the images for which the largest output is the same one.
        images: by which that was found.
        bytes, float_bytes: sizes of the files.
        seconds, float_seconds: for one image, medians.
    """

    agree: float
    images: int
    bytes: int
    float_bytes: int
    seconds: float
    float_seconds: float

    def text(self) -> str:
        """For people."""
        return (
            f"8 bits: {self.agree:.1%} of {self.images} images get the same answer as from 32 bits; "
            f"{self.bytes / 1e3:,.0f} kB instead of {self.float_bytes / 1e3:,.0f}, "
            f"{1e3 * self.seconds:.2f} ms for one image instead of {1e3 * self.float_seconds:.2f}"
        )


def export_int8(path: str | Path, file: str | Path, images: Inputs) -> Int8Export:
    """Write the network of a run or of an export as an ONNX file whose weights and activations are 8-bit integers.

    Ranges of activations are those on the first 256 images; the others, or of 512 images or fewer all of them, say
    how many answers change. Weights have a scale for each output channel (onnxruntime's static quantisation, QDQ).

    Args:
        path: as for `datanas.load`.
        file: where to; it must not exist.
        images: such as the network will see, `FEWEST` at least, as for `predict`.

    Raises:
        ConfigError: packages are missing, the file exists, the network takes no images or tells no classes, or these
            are too few.
        CheckpointError: there is no trained network, or it cannot be recorded.
        StorageError: the file cannot be written.
    """
    file = Path(file)
    require_free(file)
    onnxruntime = packages()[1]
    source = portable(path, images, "ONNX files")
    if not source.has_classes:
        raise ConfigError(
            f"--int8: task {source.task} tells no likeliest class, by which 8 bits are judged; leave it out"
        )
    if len(source.images) < FEWEST:
        raise ConfigError(f"--check: {len(source.images)} images are too few for 8 bits; give {FEWEST} at least")
    content, error = onnx_content(source)
    require_same(path, error)
    small = _quantised(content, source.images[:_CALIBRATED])
    both = [onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (content, small)]
    judged = source.images[_CALIBRATED:] if len(source.images) > 2 * _CALIBRATED else source.images
    answers = [torch.cat([outputs(each, batch)[0] for batch in torch.split(judged, TOGETHER)]) for each in both]
    agree = float((answers[0].argmax(dim=1) == answers[1].argmax(dim=1)).float().mean())
    one, cpu = source.images[:1], torch.device("cpu")
    slow, fast = (median_seconds(lambda session=each: outputs(session, one), cpu) for each in both)  # type: ignore[misc]
    write_atomic(file, small)
    return Int8Export(agree, len(judged), len(small), len(content), fast, slow)


def _quantised(content: bytes, images: Tensor) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Tensor] = iter(torch.split(images, TOGETHER))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "small"))
        whole.write_bytes(content)
        with _without_warnings():
            quant_pre_process(whole, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                small,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        return small.read_bytes()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """onnxruntime warns of every weight that has no channels, by the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
