"""A network in one ONNX file: what its use takes is in its metadata, so that it predicts as its run does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datanas.core.errors import CheckpointError, ConfigError, DatanasError
from datanas.core.paths import is_folder, read_bytes, shown
from datanas.core.settings import ComponentConfig, Section, validate
from datanas.data.decode.image_form import ImageForm, as_given
from datanas.deploy.trained import Trained, Use
from datanas.tasks import tasks

ONNX, TORCH = ".onnx", ".pt2"
USE = "datanas"
"""Where the metadata of a file say what its use takes."""
Compute = Callable[[Tensor], list[Tensor]]


class FileUse(Section):
    """What the use of a network in a file takes.

    Attributes:
        task: its settings, with its name.
        num_classes: its outputs.
        use: how images become inputs, before they are normalised, and what the outputs stand for.
    """

    task: dict[str, Any]
    num_classes: int
    use: Use

    @classmethod
    def of(cls, settings: ComponentConfig, num_classes: int, use: Use) -> FileUse:
        """Of a network of images that is to become a file, which normalises them itself."""
        channels = int(use.input["channels"])
        inside = {"mean": [0.0] * channels, "std": [1.0] * channels}
        plain = use.model_copy(update={"preprocessing": {**use.preprocessing, **inside}})
        return cls(task=settings.model_dump(mode="json"), num_classes=num_classes, use=plain)


class FileNetwork(nn.Module):
    """What a file computes: of images in 0..1 its outputs, a tuple where there are several.

    Args:
        compute: takes what the file takes.
        value_range: of the numbers that it takes, where these are no pixels.
    """

    def __init__(self, compute: Compute, value_range: Sequence[Sequence[float]] | None) -> None:
        super().__init__()
        self._compute, self._range = compute, value_range

    def forward(self, images: Tensor) -> Any:
        outputs = self._compute(images if self._range is None else as_given(images, *self._range))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def is_network_file(path: str | Path) -> bool:
    """Whether a path is that of a file, and no folder, that is called as `datanas export` calls them."""
    return Path(path).suffix.lower() in (ONNX, TORCH) and not is_folder(Path(path), CheckpointError)


def find_in_file(path: str | Path) -> Trained:
    """The network of an ONNX file of `datanas export`; it computes on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged or of another program.
        ConfigError: onnxruntime is not installed, the file is one of torch.export, or its network was trained for
            images of any size.
    """
    path = Path(path)
    if path.suffix.lower() == TORCH:
        raise ConfigError(
            f"{shown(path)}: a file of torch.export is read by torch alone, since reading it can run what it holds; "
            "predict with an .onnx file, a folder of datanas export, or the run"
        )
    content = read_bytes(path, CheckpointError)
    try:
        compute, text = _of_onnx(content)
        details = None if text is None else json.loads(text)
    except DatanasError:
        raise
    except Exception as error:  # of a damaged file: not limited to a few types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{shown(path)}: cannot be read as a network: {reason}") from None
    if details is None:
        raise CheckpointError(
            f"{shown(path)}: does not say how its input is prepared; was it written by datanas export, of this version?"
        )
    try:
        found = validate(FileUse, details, USE)
        task = tasks[str(found.task.get("name"))]
        settings = validate(task.Config, found.task, "task")
        form = validate(ImageForm, found.use.input, "input")
    except ConfigError as error:
        raise CheckpointError(f"{shown(path)}: {error}") from None
    if form.height is None:
        raise ConfigError(
            f"{shown(path)}: a file takes images of one size, and this network was trained for those of any: predict "
            "with its run, or with a folder of datanas export"
        )
    return Trained(path, FileNetwork(compute, form.value_range), task, settings, found.use, found.num_classes)


def _of_onnx(content: bytes) -> tuple[Compute, str | None]:
    """What a file computes, and what it says of its use."""
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise ConfigError("an ONNX file needs onnxruntime: pip install 'datanas[export]'") from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    use: str | None = session.get_modelmeta().custom_metadata_map.get(USE)

    def compute(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.cpu().numpy()})
        return [torch.from_numpy(each).to(images.device) for each in found]

    return compute, use
