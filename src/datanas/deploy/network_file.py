"""A network in one file, .onnx or .pt2: what its use takes is in the file, so that it predicts as its run does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datanas.core.errors import CheckpointError, ConfigError, DatanasError
from datanas.core.paths import read_bytes, shown
from datanas.core.settings import ComponentConfig, Section, validate
from datanas.data.decode.image_form import ImageForm, as_given
from datanas.deploy.trained import Trained, Use
from datanas.tasks import tasks

ONNX, TORCH = ".onnx", ".pt2"
DETAILS = "datanas.json"
"""The file inside one of torch.export that says what outputs stand for, and what its use takes."""
USE = "datanas"
"""The name of the latter, there and in the metadata of an ONNX file."""
Run = Callable[[Tensor], list[Tensor]]


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
        run: takes what the file takes.
        value_range: of the numbers that it takes, where these are no pixels.
    """

    def __init__(self, run: Run, value_range: Sequence[Sequence[float]] | None) -> None:
        super().__init__()
        self._run, self._range = run, value_range

    def forward(self, images: Tensor) -> Any:
        outputs = self._run(images if self._range is None else as_given(images, *self._range))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def is_network_file(path: str | Path) -> bool:
    """Whether a path is called as such files are."""
    return Path(path).suffix.lower() in (ONNX, TORCH)


def find_in_file(path: str | Path, device: torch.device) -> Trained:
    """The network of a file of `datanas export`.

    Args:
        device: where a file of torch.export computes; an ONNX file computes on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged or of another program.
        ConfigError: onnxruntime is not installed.
    """
    path = Path(path)
    content = read_bytes(path, CheckpointError)
    try:
        run, details = _of_onnx(content) if path.suffix.lower() == ONNX else _of_torch(path, device)
    except DatanasError:
        raise
    except Exception as error:  # of a damaged file: not limited to a few types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{shown(path)}: cannot be read as a network: {reason}") from None
    if USE not in details:
        raise CheckpointError(
            f"{shown(path)}: does not say how its input is prepared; was it written by datanas export, of this version?"
        )
    try:
        found = validate(FileUse, details[USE], USE)
        task = tasks[found.task["name"]]
        settings = validate(task.Config, found.task, "task")
        form = validate(ImageForm, found.use.input, "input")
    except ConfigError as error:
        raise CheckpointError(f"{shown(path)}: {error}") from None
    if form.height is None:
        raise ConfigError(
            f"{shown(path)}: a file takes images of one size, and this network was trained for those of any: predict "
            "with its run, or with a folder of datanas export"
        )
    return Trained(path, FileNetwork(run, form.value_range), task, settings, found.use, found.num_classes)


def _of_onnx(content: bytes) -> tuple[Run, Mapping[str, Any]]:
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise ConfigError("an ONNX file needs onnxruntime: pip install 'datanas[export]'") from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map

    def run(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.cpu().numpy()})
        return [torch.from_numpy(each).to(images.device) for each in found]

    return run, {name: json.loads(metadata[name]) for name in (USE,) if name in metadata}


def _of_torch(path: Path, device: torch.device) -> tuple[Run, Mapping[str, Any]]:
    from torch.export import load
    from torch.export.passes import move_to_device_pass

    extra = {DETAILS: ""}
    program = load(path, extra_files=extra)
    module = (program if device.type == "cpu" else move_to_device_pass(program, device)).module()
    details = json.loads(extra[DETAILS] or "{}")
    return lambda images: list(module(images)), details if isinstance(details, dict) else {}
