"""The model card of an exported network: what it is, what it was trained on, what it reaches, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datanas.codes.architecture import Architecture
from datanas.core.text_table import markdown_table
from datanas.engine.config import Config
from datanas.tasks.base import Task


def model_card(
    config: Config, architecture: Architecture, task: Task[Any], figures: Mapping[str, Any], name: str
) -> str:
    """Markdown with the header that model hubs read. The licence is left for whoever publishes the network.

    Args:
        figures: the run's evaluation.
        name: of the folder.
    """
    source = architecture.source or {}
    cell = source.get("name", "a cell that was searched by datanas")
    settings = config.train
    lines = [
        "---",
        "license:  # for you to choose; heed that of the data",
        "library_name: datanas",
        f"tags: [datanas, neural-architecture-search, {config.task.name}]",
        "---",
        f"# {name}",
        "",
        f"A network for {config.task.name} made of {cell}, with {settings.network_config.text()}.",
        *([f"\nThe cell is from {source['paper']}."] if "paper" in source else []),
        "",
        "## Data",
        f"`{config.data.name}`: {_summary(task.describe())}.",
        *([f"Stem and body began with the weights of `{settings.start_from}`."] if settings.start_from else []),
        "",
        "## Figures",
        f"Measured once, at the end of {_epochs(settings.passes.total)} of training with seed {config.seed}.",
        "",
        markdown_table([("figure", "value"), *_rows(task, figures)]),
        "## Loading",
        "```python",
        "import datanas",
        "",
        f'datanas.load("{name}").{task.example_call}',
        "```",
        "",
        "Inputs are prepared as `config.json` says. The network alone, for inputs that are prepared so:",
        "",
        "```python",
        f'network = datanas.load_network("{name}")',
        "```",
        *_with_timm(config, architecture, name),
    ]
    return "\n".join(lines) + "\n"


def _with_timm(config: Config, architecture: Architecture, name: str) -> list[str]:
    if architecture.space != "conv_cell" or config.task.name != "classification":
        return []
    return [
        "",
        "or, as a model of timm:",
        "```python",
        "import timm",
        "import datanas.deploy.timm_models",
        "",
        f'network = timm.create_model("local-dir:{name}", pretrained=True)',
        "```",
    ]


def _rows(task: Task[Any], figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    part = figures.get("part", "test")
    others = figures.get("figures") or {}
    return [
        (f"{figures['score_name']} ({part})", task.metric.show(figures["score"], 2)),
        *((f"{label} ({part})", task.figure(label).show(value)) for label, value in others.items()),
        ("parameters", f"{figures['parameters']:,}"),
        ("multiply-adds", f"{figures['macs'] / 1e6:,.1f} M {task.one()}"),
    ]


def _epochs(count: int) -> str:
    return "one epoch" if count == 1 else f"{count} epochs"


def _summary(description: Mapping[str, Any]) -> str:
    """Counts as they are; of long lists how many entries they have."""
    parts = []
    for label, value in description.items():
        is_long = isinstance(value, list) and len(value) > 3
        parts.append(f"{len(value)} {label}" if is_long else f"{label} {value}")
    return ", ".join(parts)
