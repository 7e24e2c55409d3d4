"""Any network of timm's (Wightman, 2019), from scratch or from weights at hand, to compare with what is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from datanas.codes.architecture import Architecture, Cell
from datanas.core.errors import CheckpointError, ConfigError, nearest
from datanas.core.paths import is_file, shown
from datanas.references import register_reference
from datanas.references.base import Reference
from datanas.spaces.base import Body, StemShape
from datanas.spaces.network_config import NetworkConfig

_RATE = 0.02  # of weights that know something already: a fifth of what new ones take
_INNER = "body.model."


class TimmConfig(NetworkConfig):
    """A network that is as large as timm builds it."""

    has_width: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """1: of the image itself, which it reads; it has no width that could be chosen."""
        return 1

    def at_width(self, width: int) -> Self:
        return self

    def text(self) -> str:
        return "its own size"


class TimmBody(Body):
    """A timm model without its classifier, with its own pooling: one vector an image, as a map of one pixel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        widths: Any = model  # some have a hidden layer behind their pooling
        self.out_channels = (int(getattr(widths, "head_hidden_size", widths.num_features)),)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Any] | None = None) -> tuple[Tensor, ...]:
        """One feature map, (batch, features, 1, 1)."""
        try:
            features = cast(Tensor, self.model(stem[1]))
        except AssertionError as error:  # of models for images of one size
            raise ConfigError(f"timm: {error}; take that size (--data.resize), or another model") from None
        return (features[:, :, None, None],)


@register_reference("timm")
class Timm(Reference):
    """One of timm's networks; timm's ResNet-18, where no name is given."""

    Network = TimmConfig
    name: ClassVar[str] = "timm"
    paper: ClassVar[str] = "R. Wightman: PyTorch Image Models. github.com/huggingface/pytorch-image-models, 2019"
    note: ClassVar[str] = "timm:MODEL, or timm:MODEL@FILE with weights that its training starts from"
    is_compared: ClassVar[bool] = False
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1, "channels": 1}
    defaults: ClassVar[Mapping[str, Any]] = {"task": {"name": "classification", "stem": "none"}}
    settings: ClassVar[Mapping[str, Any]] = defaults

    @classmethod
    def settings_for(cls, architecture: Architecture, task: str) -> Mapping[str, Any]:
        train: dict[str, Any] = {"max_macs": None}
        if _weights_of(architecture) is not None:
            train["weights"] = {"lr": _RATE}
        return {"task": {"name": task, "stem": "none"}, "train": train}

    @classmethod
    def initial_weights(cls, architecture: Architecture) -> Callable[[nn.Module], Mapping[str, Tensor]] | None:
        file = _weights_of(architecture)
        return None if file is None else partial(load_timm_weights, file)

    @classmethod
    def architecture(cls, model: str = "resnet18", weights: str | None = None) -> Architecture:
        """What stands for one of its models.

        Args:
            model: timm's name of it, such as `efficientnet_b0`.
            weights: a file that its training starts from.
        """
        cell = Cell((model,), ((0, 1),), (1,), np.ones((1, 1), np.uint8), 1)
        source = {"name": f"timm:{model}", "paper": cls.paper, "note": cls.note}
        if weights is not None:
            source["weights"] = weights
        return Architecture({cls.name: cell}, space=cls.name, source=source)

    @classmethod
    def named(cls, variant: str) -> Architecture:
        """The model that "MODEL" names, or "MODEL@FILE" with weights that its training starts from.

        Raises:
            ConfigError: timm has no such model, or there is no such file.
        """
        from timm import is_model, list_models

        model, at, file = variant.partition("@")
        if not is_model(model):
            raise ConfigError(f"timm: no model {shown(model)!r} is known; {nearest(model, list_models())}")
        if at and not is_file(Path(file), ConfigError):
            raise ConfigError(f"timm:{model}: no such file of weights: {shown(file)}")
        return cls.architecture(model, str(Path(file).absolute()) if at else None)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: TimmConfig) -> TimmBody:
        """As in `NetworkBuilder`. It reads the image itself, so it follows no stem."""
        shape = getattr(stem, "shape", None)
        if not isinstance(shape, StemShape) or any(True for _ in stem.parameters()):
            raise ConfigError("task.stem: a timm model reads the image itself; take --task.stem none")
        from timm import create_model

        (model,) = architecture.cells[cls.name].primitives
        try:
            return TimmBody(create_model(model, num_classes=0, in_chans=shape.channels[1]))
        except Exception as error:  # what timm raises is not limited to a few types
            raise ConfigError(f"timm: {model} cannot be built: {str(error).splitlines()[0]}") from None


def _weights_of(architecture: Architecture) -> Path | None:
    """The file that its training starts from."""
    source = architecture.source or {}
    return Path(source["weights"]) if "weights" in source else None


def load_timm_weights(file: Path, network: nn.Module) -> dict[str, Tensor]:
    """The weights of the body in a file of timm's or torch's; those of a classifier are left out.

    The first convolution of a model for images of three channels is summed over these where the images have one, as
    timm does it.

    Args:
        file: `model.safetensors` as timm's hub has it, or what `torch.save(model.state_dict())` wrote.
        network: whose body they are for.

    Raises:
        CheckpointError: it cannot be read, or holds another model.
    """
    try:
        read: dict[str, Any] = load_file(file) if file.suffix == ".safetensors" else _read(file)
        state: dict[str, Tensor] = read.get("state_dict", read)
    except Exception as error:  # what a damaged file raises is not limited to a few types
        raise CheckpointError(f"{shown(file)}: not a file of weights: {str(error).splitlines()[0]}") from None
    own = {name: value for name, value in network.state_dict().items() if name.startswith(_INNER)}
    weights: dict[str, Tensor] = {}
    for name, value in own.items():
        inner = name.removeprefix(_INNER)
        if inner not in state and inner.endswith("num_batches_tracked"):
            continue
        if inner not in state:
            raise CheckpointError(f"{shown(file)}: holds no {inner}, so it is of another model")
        given = state[inner]
        if given.ndim == 4 and given.shape[1] == 3 and value.shape[1] == 1:
            given = given.sum(1, keepdim=True)
        if given.shape != value.shape:
            raise CheckpointError(
                f"{shown(file)}: {inner} is {tuple(given.shape)}, the model needs {tuple(value.shape)}"
            )
        weights[name] = given
    return weights


def _read(file: Path) -> dict[str, Any]:
    return cast(dict[str, Any], torch.load(file, "cpu", weights_only=True))
