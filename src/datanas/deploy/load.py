"""Trained networks as a folder of their own: weights, and what rebuilds the network around them. No run is needed.

`config.json` is that of a model of timm where timm can hold the network (`datanas.deploy.timm_models`); the section
`datanas` in it is enough for any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.settings import Section, validate
from datanas.kernels.hardware import place
from datanas.network import Network, build_network

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
AUXILIARY = "head.auxiliary."
"""How the weights of an auxiliary tower are called, which only training uses."""


class Description(Section):
    """What rebuilds a network.

    Attributes:
        architecture: its document.
        task: the settings of the task whose stem and head it has, with the task's name.
        num_classes, in_channels: outputs of the head, and channels (or words) of the input.
        channels, cells, pooling_norm, prune: as for `build_network`; what earlier versions wrote was not pruned.
    """

    architecture: dict[str, Any]
    task: dict[str, Any]
    num_classes: int
    in_channels: int
    channels: int
    cells: int
    pooling_norm: bool
    prune: bool = False


def rebuild(description: Description, weights: Mapping[str, Tensor]) -> Network:
    """The network of a description, in evaluation mode.

    Args:
        weights: all of its state.

    Raises:
        ArchitectureError, ConfigError: the description is of something that is not known here.
        RuntimeError: the weights are not those of such a network.
    """
    options = dict(description.task)
    network = build_network(
        Architecture.from_json(description.architecture),
        options.pop("name", None),
        description.num_classes,
        description.channels,
        description.cells,
        in_channels=description.in_channels,
        pooling_norm=description.pooling_norm,
        prune=description.prune,
        **options,
    )
    network.load_state_dict(weights)
    return network.eval()


def without_auxiliary(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state as networks without an auxiliary tower have it."""
    return {name: value for name, value in weights.items() if not name.startswith(AUXILIARY)}


def load_network(folder: str | Path, device: torch.device | str = "cpu") -> Network:
    """The network that `datanas export` has written into a folder, in evaluation mode.

    Inputs are prepared as the folder's `config.json` says: images are scaled to 0..1, then by `mean` and `std`;
    `datanas.load` does that.

    Raises:
        CheckpointError: the folder holds no exported network, or one that cannot be rebuilt.
    """
    return place(read_export(folder)[2], torch.device(device))


def read_export(folder: str | Path) -> tuple[dict[str, Any], Description, Network]:
    """What `config.json` says, the description in it, and the network.

    Raises:
        CheckpointError: as `load_network`.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"no exported network in {folder}: {CONFIG_FILE}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("datanas"), dict):
        raise CheckpointError(f"{path}: has no section datanas; was it written by datanas export?")
    try:
        description = validate(Description, raw["datanas"], "datanas")
        network = rebuild(description, load_file(Path(folder) / WEIGHTS_FILE))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except CheckpointError:
        raise
    except Exception as error:  # of a damaged or foreign file of weights: not limited to a few types
        raise CheckpointError(
            f"{Path(folder) / WEIGHTS_FILE}: not this network: {str(error).splitlines()[0]}"
        ) from None
    return raw, description, network
