"""What a run was made on, as `data.json` in its folder tells people and a later evaluation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datanas.core.errors import DataError
from datanas.core.paths import json_object
from datanas.engine.config import Config
from datanas.tasks.base import Task

DATA_FILE = "data.json"
VOCABULARY_FILE = "vocabulary.txt"
"""The words that a network knows, one a line, in the order of their numbers: of a training on a text."""

_log = logging.getLogger(__name__)


def data_record(config: Config, task: Task[Any]) -> dict[str, Any]:
    """The names of data set and task, names and counts of the data, how an example becomes an input of a network, the
    figure that networks are compared by, and a sum of all examples; JSON types only.
    """
    return {
        "data": config.data.name,
        "task": config.task.name,
        **task.describe(),
        **use_record(task),
        "num_classes": task.num_classes,
        "metric": asdict(task.metric),
        "sum": task.sum_of_examples(),
    }


def use_record(task: Task[Any]) -> dict[str, Any]:
    """What somebody needs who uses a network without the data that it was trained on: its inputs and its outputs."""
    names = task.output_names
    return {
        "preprocessing": task.preprocessing(),
        "input": task.input_form(),
        "outputs": None if names is None else list(names),
    }


def vocabulary_text(task: Task[Any]) -> str | None:
    """The words that a task knows as the content of VOCABULARY_FILE; None of a task that is not of words."""
    return None if task.vocabulary is None else "".join(f"{word}\n" for word in task.vocabulary)


def data_line(config: Config, task: Task[Any]) -> str:
    """What a run is made on, for people: "classification on data folder: 4 classes, train 128, shape 3x32x32".

    Further lines say whether images are mirrored, where the task has a setting for that, and what else the task notes.
    """
    words = [text for name, value in task.describe().items() if (text := _words(name, value))]
    first = f"{config.task.name} on data {config.data.name}: {', '.join(words)}"
    return "\n".join([first, *_mirroring(task.mirrored_parts()), *task.notes()])


def _mirroring(parts: Mapping[str, bool]) -> Iterator[str]:
    """Whether images are mirrored at random, and which settings say otherwise."""
    said = [f"{'mirrored at random' if flips else 'not mirrored'} ({name}.flip)" for name, flips in parts.items()]
    if said:
        yield f"images are {', '.join(said)}"


def _words(name: str, value: object) -> str:
    if name == "shape" and isinstance(value, list):
        return f"{name} {'x'.join(map(str, value))}"
    if isinstance(value, list):
        return f"{len(value)} {name}"
    if isinstance(value, Mapping):
        inner = " ".join(f"{count:,} {what}" for what, count in value.items() if isinstance(count, int))
        return f"{name} {inner}" if inner else ""
    return f"{name} {value:,}" if isinstance(value, int) and not isinstance(value, bool) else ""


def require_known_data(run: Path, config: Config, task: Task[Any], *, named: bool) -> None:
    """Make sure that a network may be measured on these data.

    A split by chance is another one as soon as an image comes or goes, and then images that were trained on are among
    those to test on. A run that recorded nothing passes.

    Args:
        run: the folder of the training.
        named: whether the data were asked for, not taken from the run: then other examples only give a warning.

    Raises:
        DataError: other examples than those of the training, unasked; or other classes than the network tells apart.
    """
    before = read_data_record(run)
    names = None if task.output_names is None else list(task.output_names)
    if before.get("outputs") is not None and names is not None and before["outputs"] != names:
        old, new = (", ".join(map(str, listed[:8])) for listed in (before["outputs"], names))
        raise DataError(f"data {config.data.name} has the classes {new}; the network of {run} was trained for {old}")
    if "sum" not in before or before["sum"] == task.sum_of_examples():
        return
    if not named:
        raise DataError(
            f"the examples have changed since {run} was trained, so that some it has learned from may now be for "
            f"testing; bring the old data back, or name the data to measure on (--data.root {_root(config)})"
        )
    _log.warning(
        "these are not the examples that %s was made with; whether it has learned from some of them is not known%s",
        run,
        _otherwise_normalised(before.get("preprocessing"), task),
    )


def _otherwise_normalised(before: object, task: Task[Any]) -> str:
    if before is None or before == json.loads(json.dumps(task.preprocessing())):
        return ""
    return "; they are normalised by mean and deviation of their own training part, not of that which was learned from"


def recorded_sizes(run: Path) -> tuple[tuple[int, int, int] | None, int | None]:
    """The shape of an image that a run was made on, and the outputs of its network; None of what is not recorded.

    What an older version recorded says the latter by words, clusters or classes.
    """
    record = read_data_record(run)
    shape, classes = record.get("shape"), record.get("classes")
    known = [record.get(name) for name in ("num_classes", "words", "clusters")]
    known.append(len(classes) if isinstance(classes, list) else None)
    outputs = next((count for count in known if isinstance(count, int)), None)
    if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        return None, outputs
    return (shape[0], shape[1], shape[2]), outputs


def read_data_record(run: Path) -> dict[str, Any]:
    """What a run recorded; nothing for one of an older version."""
    return json_object(run / DATA_FILE)


def _root(config: Config) -> str:
    root = getattr(config.data, "root", None)
    return "PATH" if root is None else str(root)
