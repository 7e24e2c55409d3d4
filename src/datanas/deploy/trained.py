"""A trained network with all that its use takes, wherever it lies: in the run of a training or in an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError, DataError
from datanas.core.paths import is_file, read_text, require_folder, shown
from datanas.core.settings import ComponentConfig, Section, validate
from datanas.deploy.load import CONFIG_FILE, Description, read_export, rebuild, weights_without_auxiliary
from datanas.engine.config import Config
from datanas.engine.data_record import DATA_FILE, VOCABULARY_FILE, read_data_record, use_record
from datanas.engine.earlier_run import load_run_config
from datanas.engine.evaluation import restore, trained_weights
from datanas.kernels.hardware import move_to
from datanas.tasks import tasks
from datanas.tasks.base import Task

EXPORT_FOLDER = "export"
"""Where the run of a fit keeps its network."""


class Use(Section):
    """What a network takes and gives, as `use_record` wrote it.

    Attributes:
        preprocessing: `Task.preprocessing`.
        input: `Task.input_form`.
        outputs: what each output stands for.
        vocabulary: the words that it knows, where it is one of words.
    """

    preprocessing: dict[str, Any]
    input: dict[str, Any]
    outputs: tuple[str, ...] | None = None
    vocabulary: tuple[str, ...] | None = Field(None, repr=False)


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode.

    Attributes:
        path: where it was found.
        network: that was rebuilt, or what a file computes (`datanas.deploy.network_file`).
        task, settings: that it was trained for.
        num_classes: its outputs.
    """

    path: Path
    network: nn.Module
    task: type[Task[Any]]
    settings: ComponentConfig
    use: Use
    num_classes: int


def find_trained(path: str | Path, device: torch.device) -> Trained:
    """The trained network of a run folder or of an exported folder; of a run that holds an export it is that.

    Raises:
        CheckpointError: there is none, or it cannot be used without data that are not there.
    """
    path = Path(path)
    require_folder(path, CheckpointError)
    for folder in (path, path / EXPORT_FOLDER):
        if is_file(folder / CONFIG_FILE, CheckpointError):
            trained = _of_export(folder)
            break
    else:
        if not is_file(path / "config.yaml", CheckpointError):
            raise CheckpointError(
                f"{shown(path)}: neither the run folder of a training nor a folder of datanas export: it holds no "
                f"config.yaml and no {CONFIG_FILE}"
            )
        trained = _of_run(path)
    move_to(trained.network, device)
    return trained


def describe_network(architecture: Architecture, config: Config, num_classes: int, in_channels: int) -> Description:
    """What rebuilds the network that a training has made."""
    return Description(
        architecture=json.loads(architecture.to_json()),
        task=config.task.model_dump(mode="json"),
        num_classes=num_classes,
        in_channels=in_channels,
        network=config.train.network_config.untowered().model_dump(mode="json"),
    )


def channels_of(task: type[Task[Any]], num_classes: int, shape: Any) -> int:
    """Channels (or words) of the input of a network, from the shape of an example."""
    return task.inputs(num_classes) if task.default_size is None else int(shape[0])


def _of_export(folder: Path) -> Trained:
    raw, description, network = read_export(folder)
    if "name" not in description.task:
        raise CheckpointError(f"{folder / CONFIG_FILE}: datanas.task says no name; was it written by datanas export?")
    task = tasks[description.task["name"]]
    settings = validate(task.Config, description.task, "task")
    raw = raw if "input" in raw else {**raw, **_as_timm_says(raw)}
    use = _use(raw, folder, is_of_words=task.default_size is None)
    if use is None:
        raise CheckpointError(
            f"{shown(folder)}: was exported by an earlier version, which did not write how an input is prepared; "
            "export its run again: datanas export RUN FOLDER"
        )
    return Trained(folder, network, task, settings, use, description.num_classes)


def _as_timm_says(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What exports of earlier versions say by timm's names."""
    settings = raw.get("pretrained_cfg")
    if not isinstance(settings, dict) or not {"input_size", "crop_pct", "mean", "std"} <= settings.keys():
        return {}
    channels, height, width = settings["input_size"]
    share = settings["crop_pct"]
    return {
        "preprocessing": {"mean": settings["mean"], "std": settings["std"], "crop_pct": share},
        "input": {"channels": channels, "height": height, "width": width, "centre_share": share},
        "outputs": raw.get("label_names"),
    }


def _of_run(path: Path) -> Trained:
    weights, _ = trained_weights(path, None)
    config = load_run_config(path, learns=False)
    task = tasks[config.task.name]
    record = read_data_record(path)
    use = _use(record, path, is_of_words=task.default_size is None)
    if use is None or not isinstance(record.get("num_classes"), int):
        use, num_classes, in_channels = _from_data(path)
    else:
        num_classes = record["num_classes"]
        in_channels = channels_of(task, num_classes, record.get("shape"))
    description = describe_network(Architecture.load(path / "architecture.json"), config, num_classes, in_channels)
    try:
        network = rebuild(description, weights_without_auxiliary(weights))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit the run's architecture: {str(error).splitlines()[0]}") from None
    return Trained(path, network, task, config.task, use, num_classes)


def _use(raw: Mapping[str, Any], folder: Path, *, is_of_words: bool) -> Use | None:
    """What is recorded of a network's use; None where an earlier version did not."""
    names = ("preprocessing", "input", "outputs")
    file = folder / VOCABULARY_FILE
    if "input" not in raw or "preprocessing" not in raw or (is_of_words and not is_file(file, CheckpointError)):
        return None
    words = tuple(read_text(file, CheckpointError).split("\n")[:-1]) if is_of_words else None
    try:
        return validate(Use, {**{name: raw[name] for name in names if name in raw}, "vocabulary": words})
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def _from_data(path: Path) -> tuple[Use, int, int]:
    """The same from the data of a run of an earlier version, with its outputs and the channels of its input."""
    try:
        _, task, _ = restore(path)
    except DataError as error:
        raise CheckpointError(
            f"{path}: was trained by an earlier version, whose {DATA_FILE} does not say how an input is prepared, and "
            f"its data cannot be asked ({error}); bring them back, or export it with datanas export {path} FOLDER "
            "--data.root PATH"
        ) from None
    use = validate(Use, {**use_record(task), "vocabulary": task.vocabulary})
    return use, task.num_classes, channels_of(type(task), task.num_classes, task.example_shape)
