"""Which parts of layers go with the channels that one of them gives to another."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from datanas.blocks.block import Memo
from datanas.core.errors import ConfigError
from datanas.kernels.bare import has_no_hooks
from datanas.kernels.norm import BatchNorm2d

_BY_CHANNEL = ("activation", "dropout", "pooling", "linear")
"""Modules of torch that treat every channel alike and alone; of `linear` only the identity."""
_NOT_ALONE = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.MultiheadAttention, nn.GLU, nn.PReLU)

_STATE = ("training", "eps", "momentum", "track_running_stats", "processes")
"""What is set on a layer after it is made, and counts when it is called."""


@dataclass(frozen=True)
class Slices:
    """The layers that a width concerns.

    Attributes:
        first: the place of the layer that gives the channels.
        last: of the one that reads them.
        full: how many there are.
    """

    first: int
    last: int
    full: int

    @classmethod
    def of(cls, layers: nn.Sequential) -> Slices:
        """Find them.

        Raises:
            ConfigError: there are no two convolutions or linear layers, or between them stands what does not treat
                every channel alone; or what would be cut is more than one of torch's own layers.
        """
        if not isinstance(layers, nn.Sequential) or type(layers).forward is not nn.Sequential.forward:
            raise ConfigError(f"layers must be nn.Sequential, got {type(layers).__name__}")
        dense = [index for index, layer in enumerate(layers) if _is_dense(layer)]
        if len(dense) < 2:
            raise ConfigError(
                "layers: a width needs two convolutions or linear layers, one to give it and one to read it"
            )
        first, last = dense[:2]
        for index in range(first + 1, last):
            if not _is_by_channel(layers[index]):
                raise ConfigError(
                    f"layers[{index}]: {type(layers[index]).__name__} does not treat every channel alone; between the "
                    "layer that gives the channels and the one that reads them may stand batch norm, activations, "
                    "dropout, pooling and depthwise convolutions"
                )
        for index in range(first, last + 1):
            _require_plain(index, layers[index])
        for index in (first, last):
            if isinstance(layer := layers[index], _ConvNd) and (layer.groups != 1 or layer.transposed):
                raise ConfigError(f"layers[{index}]: a convolution in groups or a transposed one cannot be narrowed")
        return cls(first, last, _outputs(layers[first]))

    def narrow(self, layers: nn.Sequential, width: int) -> dict[int, nn.Module]:
        """By place, the layers that are narrower, with weights that are yet to be set."""
        narrowed = {
            self.first: _made_like(layers[self.first], outputs=width),
            self.last: _made_like(layers[self.last], inputs=width),
        }
        for index in range(self.first + 1, self.last):
            if isinstance(layers[index], _BatchNorm | _ConvNd):
                narrowed[index] = _made_like(layers[index], inputs=width, outputs=width)
        return narrowed

    def follow(self, layers: nn.Sequential, narrow: nn.Sequential) -> None:
        """Put the narrow layers into the state in which the real ones are, such as evaluation mode."""
        for index in range(self.first, self.last + 1):
            real, own = layers[index], narrow[index]
            if real is not own:
                own.__dict__.update({name: real.__dict__[name] for name in _STATE if name in real.__dict__})

    def tensors(self, layers: nn.Sequential, width: int) -> dict[str, Tensor]:
        """Their weights and statistics, by their names in a sequence: views of those at full width."""
        tensors: dict[str, Tensor] = {}
        for index in range(self.first, self.last + 1):
            layer = layers[index]
            for name, tensor in (*layer._parameters.items(), *layer._buffers.items()):
                if tensor is None:
                    continue
                if index == self.last:
                    tensor = tensor[:, :width] if name == "weight" else tensor
                elif tensor.ndim > 0:
                    tensor = tensor[:width]
                tensors[f"{index}.{name}"] = tensor
        return tensors

    def cut(self, layers: nn.Sequential, width: int, memo: Memo) -> nn.Sequential:
        """A copy with narrower layers."""
        narrow, tensors = self.narrow(layers, width), self.tensors(layers, width)
        parts: list[nn.Module] = []
        for index, layer in enumerate(layers):
            if index not in narrow:
                parts.append(copy.deepcopy(layer, memo))
                continue
            part = narrow[index].train(layer.training)
            own = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{index}.")}
            example = next(iter(own.values()), cast(Tensor, layers[self.first].weight))
            part.to(device=example.device, dtype=example.dtype)
            with torch.no_grad():
                for name, tensor in (*part._parameters.items(), *part._buffers.items()):
                    if tensor is not None:
                        tensor.copy_(own[name])
            for name, parameter in part.named_parameters():
                parameter.requires_grad_(own[name].requires_grad)
            parts.append(part)
        return nn.Sequential(*parts).train(layers.training)


def _require_plain(index: int, layer: nn.Module) -> None:
    """Refuse a layer that is to be cut and of which its class, hooks or parametrisations make something of its own."""
    if not isinstance(layer, nn.Linear | _ConvNd | _BatchNorm):
        return
    is_known = type(layer).__module__.startswith("torch.nn.modules.") or type(layer) is BatchNorm2d
    if not is_known or not has_no_hooks(layer):
        raise ConfigError(
            f"layers[{index}]: {type(layer).__name__} cannot be narrowed; a width takes torch's own convolutions, "
            "linear layers and batch norm, without hooks or parametrisations"
        )


def _is_dense(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and not _is_depthwise(layer))


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvNd) and 1 < layer.groups == layer.in_channels == layer.out_channels


def _is_by_channel(layer: nn.Module) -> bool:
    home = type(layer).__module__.removeprefix("torch.nn.modules.")
    if isinstance(layer, nn.Identity | _BatchNorm) or _is_depthwise(layer):
        return True
    return home in _BY_CHANNEL and not isinstance(layer, _NOT_ALONE) and not list(layer.parameters())


def _outputs(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else cast(_ConvNd, layer).out_channels


def _made_like(layer: nn.Module, *, inputs: int | None = None, outputs: int | None = None) -> nn.Module:
    """A layer of other width."""
    if isinstance(layer, _BatchNorm):
        norm: type[Any] = type(layer)
        return cast(nn.Module, norm(inputs, layer.eps, layer.momentum, layer.affine, layer.track_running_stats))
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs or layer.in_features, outputs or layer.out_features, bias=layer.bias is not None)
    assert isinstance(layer, _ConvNd)
    conv: type[Any] = type(layer)
    made: nn.Module = conv(
        inputs or layer.in_channels,
        outputs or layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        (inputs or 1) if _is_depthwise(layer) else 1,
        layer.bias is not None,
        layer.padding_mode,
    )
    return made
