"""Nested state as plain JSON data and named tensors, and back.

{"tensor": name} stands for a tensor, {"dict": [[key, value], ...]} for a mapping (so that keys stay ints),
{"tuple": [...]} for a tuple and {"float": "nan"} for a float that JSON does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch


def encode_state(state: Mapping[str, object]) -> tuple[object, dict[str, torch.Tensor]]:
    """Split a state into JSON data and its tensors, named by their paths.

    The tensors are contiguous on the CPU and share no memory with each other, as safetensors demands.

    Raises:
        TypeError: it holds a key or a value that cannot be stored; the message says where.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = _encode(state, (), tensors)
    return structure, _separate(tensors)


def decode_state(structure: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What `encode_state` was given.

    Raises:
        ValueError, KeyError, TypeError: `structure` is not its work, or does not fit `tensors`.
    """
    if isinstance(structure, list):
        return [decode_state(inner, tensors) for inner in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {key: decode_state(inner, tensors) for key, inner in content}
        case "tuple":
            return tuple(decode_state(inner, tensors) for inner in content)
        case "float":
            return float(content)
    raise ValueError(f"unknown node {kind!r}")


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    separate: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in storages:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        separate[name] = plain
    return separate


def _encode(value: object, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(float(value))}
        case torch.Tensor():
            if value.dtype == torch.complex128 or value.layout != torch.strided:
                raise TypeError(f"state at {'/'.join(path)}: safetensors has no {value.dtype} in {value.layout}")
            name = "/".join(path)
            while name in tensors or name == "__metadata__":
                name += "'"
            tensors[name] = value
            return {"tensor": name}
        case list():
            return [_encode(inner, (*path, str(index)), tensors) for index, inner in enumerate(value)]
        case tuple():
            return {"tuple": [_encode(inner, (*path, str(index)), tensors) for index, inner in enumerate(value)]}
        case Mapping():
            for key in value:
                if type(key) not in (int, str):
                    raise TypeError(f"state at {'/'.join(path) or 'top'}: the key {key!r} is neither str nor int")
            return {"dict": [[key, _encode(inner, (*path, str(key)), tensors)] for key, inner in value.items()]}
    raise TypeError(f"state at {'/'.join(path)}: cannot store a {type(value).__name__}")
