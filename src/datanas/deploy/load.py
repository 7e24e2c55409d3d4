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
from pydantic import model_validator
from safetensors.torch import load_file
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.settings import Section, validate
from datanas.kernels.hardware import move_to
from datanas.network import Network, builder_of, network_config, network_for_task

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
AUXILIARY = "head.auxiliary."
"""How the weights of an auxiliary tower are called, which only training uses."""


class Description(Section):
    """What rebuilds a network.

    Attributes:
        architecture: its document.
        task: the settings of the task whose stem and head it has, with the task's name.
        num_classes, in_channels: outputs of the head, and channels (or words) of the input.
        network: its settings, as the `Network` of its space has them.
    """

    architecture: dict[str, Any]
    task: dict[str, Any]
    num_classes: int
    in_channels: int
    network: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _older_form(cls, raw: Any) -> Any:
        """In version 0.1 what is in `network` stood beside it, and what said nothing of it was not pruned."""
        if not isinstance(raw, Mapping) or "network" in raw:
            return raw
        older = {name: raw[name] for name in ("channels", "cells", "pooling_norm", "prune") if name in raw}
        rest = {name: value for name, value in raw.items() if name not in older}
        return {**rest, "network": {"auxiliary": False, "prune": False, **older}} if older else rest


def rebuild(description: Description, weights: Mapping[str, Tensor]) -> Network:
    """The network of a description, in evaluation mode.

    Args:
        weights: all of its state.

    Raises:
        ArchitectureError, ConfigError: the description is of something that is not known here.
        RuntimeError: the weights are not those of such a network.
    """
    options = dict(description.task)
    architecture = Architecture.from_json(description.architecture)
    settings = network_config(builder_of(architecture), description.network)
    task, outputs, inputs = options.pop("name", None), description.num_classes, description.in_channels
    network = network_for_task(architecture, settings, task, outputs, inputs, options)
    network.load_state_dict(weights)
    return network.eval()


def weights_without_auxiliary(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state as networks without an auxiliary tower have it."""
    return {name: value for name, value in weights.items() if not name.startswith(AUXILIARY)}


def load_network(folder: str | Path, device: torch.device | str = "cpu") -> Network:
    """The network that `datanas export` has written into a folder, in evaluation mode.

    Inputs are prepared as the folder's `config.json` says: images are scaled to 0..1, then by `mean` and `std`;
    `datanas.load` does that.

    Raises:
        CheckpointError: the folder holds no exported network, or one that cannot be rebuilt.
    """
    return move_to(read_export(folder)[2], torch.device(device))


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
