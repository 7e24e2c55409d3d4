"""The model card of an exported network: what it is, what it was trained on, what it reaches, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datanas.codes.architecture import Architecture
from datanas.core.text_table import markdown_table
from datanas.engine.config import Config
from datanas.tasks.base import Task

_PIPELINES = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "segmentation": "image-segmentation",
    "language": "text-generation",
    "fewshot": "image-feature-extraction",
}
"""What model hubs call the tasks that they know."""


def model_card(
    config: Config,
    architecture: Architecture,
    task: Task[Any],
    figures: Mapping[str, Any],
    name: str,
    *,
    licence: str | None = None,
    in_timm: bool = False,
    on_hub: bool = False,
) -> str:
    """Markdown with the header that model hubs read.

    Args:
        figures: the run's evaluation.
        name: of the folder.
        licence: as hubs abbreviate it, such as "apache-2.0"; None leaves it to whoever publishes the network.
        in_timm: whether timm can hold the network.
        on_hub: say how it is loaded from a hub, not from a folder.
    """
    source = architecture.source or {}
    cell = source.get("name", "a cell that was searched by datanas")
    settings, argument = config.train, "folder" if on_hub else f'"{name}"'
    lines = [
        "---",
        yaml.safe_dump(_header(config, task, figures, name, licence, in_timm=in_timm), sort_keys=False).rstrip(),
        "---",
        f"# {name}",
        "",
        f"A network for {config.task.name} made of {cell}, with {settings.network_config.text()}.",
        *([f"\nThe cell is from {source['paper']}."] if "paper" in source else []),
        "",
        "## Data",
        f"`{config.data.name}`: {_summary(task.describe())}.",
        *(
            [f"Its training began with the weights of `{Path(source['weights']).name}`; heed their licence."]
            if "weights" in source and not settings.start_from
            else []
        ),
        *([f"Stem and body began with the weights of `{settings.start_from}`."] if settings.start_from else []),
        "",
        "## Figures",
        f"Measured once, at the end of {_epochs(settings.passes.total)} of training with seed {config.seed}.",
        "",
        markdown_table([("figure", "value"), *_rows(task, figures)]),
        "## Licence",
        licence or "Not chosen yet: it is for whoever publishes this network to choose, and to heed that of the data.",
        "",
        "## Loading",
        "```python",
        "import datanas",
        *(["from huggingface_hub import snapshot_download"] if on_hub else []),
        "",
        *([f'folder = snapshot_download("USER/{name}")'] if on_hub else []),
        f"datanas.load({argument}).{task.example_call}",
        "```",
        "",
        "Inputs are prepared as `config.json` says. The network alone, for inputs that are prepared so:",
        "",
        "```python",
        f"network = datanas.load_network({argument})",
        "```",
        *(_with_timm(f"hf-hub:USER/{name}" if on_hub else f"local-dir:{name}") if in_timm else []),
    ]
    return "\n".join(lines) + "\n"


def _header(
    config: Config,
    task: Task[Any],
    figures: Mapping[str, Any],
    name: str,
    licence: str | None,
    *,
    in_timm: bool,
) -> dict[str, Any]:
    """What a hub sorts and finds the network by."""
    pipeline = _PIPELINES.get(config.task.name)
    result = {
        "task": {"type": pipeline or config.task.name},
        "dataset": {"name": config.data.name, "type": config.data.name, "split": figures.get("part", "test")},
        "metrics": [{"type": figures["score_name"], "value": float(figures["score"])}],
    }
    tags = ["datanas", "neural-architecture-search", config.task.name]
    return {
        **({"license": licence} if licence is not None else {}),
        "library_name": "datanas",
        **({"pipeline_tag": pipeline} if pipeline is not None else {}),
        "tags": [*tags, "timm"] if in_timm else tags,
        "model-index": [{"name": name, "results": [result]}],
    }


def _with_timm(source: str) -> list[str]:
    return [
        "",
        "or, as a model of timm:",
        "```python",
        "import timm",
        "import datanas.deploy.timm_models",
        "",
        f'network = timm.create_model("{source}", pretrained=True)',
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
