"""Weights that a training starts from: stem and body of a network that was trained before, on whatever task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError
from datanas.core.paths import is_file, is_folder, shown
from datanas.engine.config import Config
from datanas.engine.evaluation import NETWORK_FILE
from datanas.references import references

TRANSFERRED = ("stem.", "body.")


def starting_weights(config: Config, architecture: Architecture) -> Callable[[nn.Module], None] | None:
    """What gives a network the weights that its training starts with; None where they are fresh.

    They are those that `train.start_from` names, else those that a reference brings (`Reference.initial_weights`).

    Raises:
        CheckpointError: as `load_weights`; as `start_from` when it is called.
    """
    if (source := config.train.start_from) is not None:
        return partial(start_from, weights=load_weights(source), source=f"train.start_from: {source}")
    if architecture.space not in references:
        return None
    find = references[architecture.space].initial_weights(architecture)
    if find is None:
        return None

    def fill(network: nn.Module) -> None:
        network.load_state_dict(dict(find(network)), strict=False)

    return fill


def load_weights(source: Path) -> dict[str, Tensor]:
    """Stem and body of a trained network.

    Args:
        source: the run folder of a training, or its `network.safetensors`.

    Raises:
        CheckpointError: no such file, or none of a network.
    """
    is_run = is_folder(source, CheckpointError)
    file = source / NETWORK_FILE if is_run else source
    if not is_file(file, CheckpointError):
        hint = f"; is the training in {shown(source)} finished?" if is_run else ""
        raise CheckpointError(f"train.start_from: no such file: {shown(file)}{hint}")
    try:
        weights = load_file(file)
    except Exception as error:  # what a damaged file raises is not limited to a few types
        raise CheckpointError(f"train.start_from: {file}: not a network: {str(error).splitlines()[0]}") from None
    transferred = {name: value for name, value in weights.items() if name.startswith(TRANSFERRED)}
    if not transferred:
        raise CheckpointError(f"train.start_from: {file}: holds no stem and body")
    return transferred


def start_from(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Give a network these weights of stem and body; its head stays as it is.

    Args:
        source: begins a message.

    Raises:
        CheckpointError: they are of another architecture, width or depth.
    """
    own = {name: value for name, value in network.state_dict().items() if name.startswith(TRANSFERRED)}
    for name in sorted(own.keys() ^ weights.keys()):
        holder = "the network" if name in own else "the file"
        raise CheckpointError(
            f"{source}: only {holder} has {name}; both must be of one architecture, stem and number of cells, and both "
            "pruned or not (--train.prune false, as earlier versions trained)"
        )
    for name, value in own.items():
        if value.shape != weights[name].shape:
            raise CheckpointError(
                f"{source}: {name} is {tuple(weights[name].shape)}, the network needs {tuple(value.shape)}; "
                "take the same train.channels and data of as many channels"
            )
    network.load_state_dict(dict(weights), strict=False)
