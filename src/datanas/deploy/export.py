"""From the run folder of a training to a folder that holds the network alone, for datanas and for timm to load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from datanas import __version__
from datanas.codes.architecture import Architecture
from datanas.core.atomic import write_atomic
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import is_file, is_folder, require_unused
from datanas.deploy.card import model_card
from datanas.deploy.load import CONFIG_FILE, WEIGHTS_FILE, Description, rebuild, weights_without_auxiliary
from datanas.deploy.trained import channels_of, describe_network
from datanas.engine.data_record import VOCABULARY_FILE, read_data_record, use_record, vocabulary_text
from datanas.engine.earlier_run import to_finish, trained_run
from datanas.engine.evaluation import NETWORK_FILE, restore
from datanas.engine.process import process_kept
from datanas.tasks.base import Task

CARD_FILE = "README.md"
_OF_TIMM = ("channels", "cells", "pooling_norm", "prune")


@process_kept()
def export(
    run: str | Path,
    folder: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    *,
    to: Literal["folder", "timm", "hub"] = "folder",
    licence: str | None = None,
) -> Path:
    """Write the trained network of a run, what rebuilds it and a model card; an auxiliary tower is left out.

    Args:
        run: the run folder of a finished training.
        folder: where to; it must not exist, or be empty.
        overrides: settings that differ here, such as ("data.root", path).
        to: what the folder is for: "timm" refuses what timm cannot hold, and the card of "hub" says how the network is
            loaded from there.
        licence: for the card, as hubs abbreviate it, such as "apache-2.0".

    Raises:
        ConfigError: the folder is in use, or timm has no place for such a network.
        CheckpointError: no finished training there, or a network that cannot be rebuilt without its run.
        StorageError: the folder cannot be written.
    """
    run, folder = trained_run(run), Path(folder)
    require_unused(folder)
    figures = _figures(run)
    network, task, config = restore(run, overrides)
    architecture = Architecture.load(run / "architecture.json")
    in_channels = channels_of(type(task), task.num_classes, task.example_shape)
    description = describe_network(architecture, config, task.num_classes, in_channels)
    for_timm = _fits_timm(architecture, description)
    if to == "timm" and not for_timm:
        raise ConfigError(
            f"{run}: timm holds classifiers made of convolutional cells, and this is a network for "
            f"{config.task.name} of {architecture.space}; leave --to timm out"
        )
    weights = _weights(network)
    try:
        rebuild(description, weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{run}: its network cannot be rebuilt without its run: {reason}") from None
    # What was recorded holds for the network, whatever data it is exported beside.
    known = read_data_record(run)
    use = {name: known.get(name, value) for name, value in use_record(task).items()}
    document = {
        **(_for_timm(task, description, use["preprocessing"]) if for_timm else {}),
        **use,
        "datanas": description.model_dump(mode="json"),
        "datanas_version": __version__,
    }
    # The configuration last: without it the folder is no exported network.
    write_atomic(folder / WEIGHTS_FILE, save(weights, {"format": "pt"}))
    if (words := vocabulary_text(task)) is not None:
        write_atomic(folder / VOCABULARY_FILE, words.encode())
    card = model_card(
        config,
        architecture,
        task,
        figures,
        folder.resolve().name,
        licence=licence,
        in_timm=for_timm,
        on_hub=to == "hub",
    )
    write_atomic(folder / CARD_FILE, card.encode())
    write_atomic(folder / CONFIG_FILE, (json.dumps(document, indent=2) + "\n").encode())
    return folder


def _figures(run: Path) -> Mapping[str, Any]:
    """What the training measured at its end."""
    if not is_file(run / NETWORK_FILE, CheckpointError) and is_folder(run / "genotypes", CheckpointError):
        raise CheckpointError(f"{run}: a search has no network to export; train its cell: datanas train {run}")
    file = run / "evaluation.json"
    try:
        figures = json.loads(file.read_bytes())
    except (OSError, ValueError):
        raise CheckpointError(
            f"no finished training in {run}: {file.name} is missing or damaged; {to_finish(run)}"
        ) from None
    if not isinstance(figures, dict) or not {"score", "score_name", "parameters", "macs"} <= figures.keys():
        raise CheckpointError(f"{file}: holds no evaluation of a training")
    return figures


def _weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """The state without an auxiliary tower, which only training uses, in plain layout."""
    return {
        name: value.cpu().clone(memory_format=torch.contiguous_format)
        for name, value in weights_without_auxiliary(network.state_dict()).items()
    }


def _fits_timm(architecture: Architecture, description: Description) -> bool:
    """Whether timm has a place for such a network."""
    from datanas.deploy.cell_model import has_conv_cells

    return has_conv_cells(architecture) and description.task["name"] == "classification"


def _for_timm(task: Task[Any], description: Description, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration by which timm rebuilds the network."""
    from datanas.deploy.timm_models import CELL_MODEL, timm_config

    stem = description.task["stem"]
    settings = {**preprocessing, "num_classes": description.num_classes, "input_size": list(task.example_shape)}
    return {
        "architecture": CELL_MODEL,
        "num_classes": description.num_classes,
        "label_names": task.describe()["classes"],
        "model_args": {
            "architecture": description.architecture,
            "in_chans": description.in_channels,
            "stem": stem,
            **{name: value for name, value in description.network.items() if name in _OF_TIMM},
        },
        "pretrained_cfg": timm_config(stem, **{"pool_size": None, **settings}),
    }
