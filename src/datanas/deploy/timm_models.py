"""Networks of published and of found cells as models of timm: importing this module registers them.

    import datanas.deploy.timm_models
    model = timm.create_model("datanas_darts_v2", num_classes=10)

Their state dicts are those of `datanas.build_network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import PretrainedCfg, build_model_with_cfg, is_model, register_model
from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.deploy.cell_model import CellModel, require_conv_cell
from datanas.lookup import architecture as published
from datanas.lookup import architectures

CELL_MODEL = "datanas_cell"
"""The model of any cell, which is given as its `architecture`."""
STAGES = 3
_TIMM_FIELDS = frozenset(each.name for each in fields(PretrainedCfg))

default_cfgs: dict[str, dict[str, Any]] = {}
"""What timm knows of each model; it looks for it under this name."""


def register(architecture: Architecture, name: str, **defaults: Any) -> None:
    """Register the networks of a cell as the model `name` of timm.

    Args:
        name: how `timm.create_model` finds it, such as "datanas_mine".
        defaults: what holds where `create_model` is told nothing else: arguments of `CellModel`, such as channels,
            and fields of timm's configuration, such as `input_size` and `mean`.

    Raises:
        ConfigError: the cell is not convolutional, or the name is none that timm takes or is taken already.
    """
    require_conv_cell(architecture)
    if not name.isidentifier():
        raise ConfigError(f"name: must be made of letters, digits and underscores, got {name!r}")
    if is_model(name):
        raise ConfigError(f"name: timm has a model {name!r} already; take another")
    _register(name, {"architecture": architecture}, defaults)


def _register(name: str, cell: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    ours = {key: value for key, value in defaults.items() if key not in _TIMM_FIELDS}
    theirs = {key: value for key, value in defaults.items() if key in _TIMM_FIELDS}
    default_cfgs[name] = timm_config(ours.get("stem", "imagenet"), **theirs)

    def create(pretrained: bool = False, **settings: Any) -> nn.Module:
        given = {**cell, **ours, **settings}
        if pretrained:  # exports say whether they were pruned; those of earlier versions were not, and do not say it
            given.setdefault("prune", False)
        if given.get("architecture") is None:
            raise ConfigError(
                f"architecture: {name} is the model of any cell and must be given one, such as "
                f"timm.create_model({name!r}, architecture=datanas.Architecture.load('architecture.json'))"
            )
        features = {"out_indices": tuple(range(1 + STAGES)), "feature_cls": "getter"}
        return cast(nn.Module, build_model_with_cfg(CellModel, name, pretrained, feature_cfg=features, **given))

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"The model {name}; arguments as for `CellModel`."
    register_model(create)


def timm_config(stem: str, **settings: Any) -> dict[str, Any]:
    """timm's configuration of a model behind this stem: ImageNet at 224 pixels where nothing else is said."""
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.first.0" if stem == "imagenet" else "stem.conv",
        "classifier": "head.classifier",
        **settings,
    }


for _name in architectures():
    if (_cell := published(_name)).space == "conv_cell":
        _register(f"datanas_{_name}", {"architecture": _cell}, {})
_register(CELL_MODEL, {}, {})
