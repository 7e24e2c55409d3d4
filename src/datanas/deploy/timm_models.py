"""Networks of published and of found cells as models of timm: importing this module registers them.

    import datanas.deploy.timm_models
    model = timm.create_model("datanas_darts_v2", num_classes=10)

Their state dicts are those of `datanas.build_network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import PretrainedCfg, build_model_with_cfg, is_model, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.kernels.mixed import set_drop_path
from datanas.lookup import architecture as published
from datanas.lookup import architectures
from datanas.network import build_network
from datanas.spaces.base import StemShape
from datanas.tasks.stems import StemKind, stem_stride

CELL_MODEL = "datanas_cell"
"""The model of any cell, which is given as its `architecture`."""
CHANNELS, CELLS = 48, 14
STAGES = 3
_TIMM_FIELDS = frozenset(each.name for each in fields(PretrainedCfg))

default_cfgs: dict[str, dict[str, Any]] = {}
"""What timm knows of each model; it looks for it under this name."""


class CellModel(nn.Module):
    """A network of convolutional cells, with what timm expects of a classifier.

    Args:
        architecture: the cell, or its document.
        num_classes: outputs; 0 for the pooled features.
        in_chans: channels of the image.
        channels, cells, stem, pooling_norm, prune: as for `build_network`.
        drop_rate: dropout before the classifier.
        drop_path_rate: share of the operations that a training step leaves out, the same in all cells.
        global_pool: "avg", as the network was made.
    """

    def __init__(
        self,
        architecture: Architecture | Mapping[str, Any],
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        channels: int = CHANNELS,
        cells: int = CELLS,
        stem: str = "imagenet",
        pooling_norm: bool = False,
        prune: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        if not isinstance(architecture, Architecture):
            architecture = Architecture.from_json(architecture)
        _require_conv_cell(architecture)
        built = build_network(
            architecture,
            "classification",
            max(num_classes, 1),
            channels,
            cells,
            in_channels=in_chans,
            pooling_norm=pooling_norm,
            prune=prune,
            stem=stem,
        )
        self.stem, self.body, self.head = built.stem, built.body, built.head
        (width,) = cast(Any, built.body).out_channels
        self.num_features = self.head_hidden_size = width
        self.drop_rate = drop_rate
        self.feature_info = _feature_info(built.stem, stem_stride(cast(StemKind, stem)), cast(Any, built.body).stages)
        self.num_classes = num_classes
        self.reset_classifier(num_classes, global_pool)
        set_drop_path(self, drop_path_rate)

    def get_classifier(self) -> nn.Module:
        return cast(nn.Module, self.head.classifier)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network so many outputs, with fresh weights where that is another number than before."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"global_pool: these networks are pooled by 'avg', got {global_pool!r}")
        here = self.head.classifier
        if num_classes == 0:
            self.head.classifier = nn.Identity()
        elif not isinstance(here, nn.Linear) or here.out_features != num_classes:
            at = next(self.parameters())
            self.head.classifier = nn.Linear(self.num_features, num_classes, device=at.device, dtype=at.dtype)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise ConfigError("grad_checkpointing: networks of cells do not recompute their activations; leave it off")

    def forward_features(self, x: Tensor) -> Tensor:
        """(batch, num_features, height / reduction, width / reduction)."""
        return cast(Tensor, self.body(self.stem(x))[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(batch, num_classes) from the features; (batch, num_features) before the classifier."""
        x = F.dropout(x.mean(dim=(2, 3)), self.drop_rate, self.training)
        return x if pre_logits else cast(Tensor, self.get_classifier()(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The features that `feature_info` lists, at `indices`, alone or behind those of the last cell.

        Between the first and the last they have been through the ReLU that the cells behind them begin with.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt: these networks give 'NCHW', got {output_fmt!r}")
        wanted, last = feature_take_indices(len(self.feature_info), cast(Any, indices))
        places = [info["cell"] for info in self.feature_info]
        stem = self.stem(x)
        found: dict[int, Tensor] = {0: stem[0]}
        features = stem[0]
        for index, features in cast(Any, self.body).walk(stem):
            if index in places:
                found[places.index(index)] = features
            if stop_early and intermediates_only and last in found:
                break
        taken = [found[index] for index in wanted]
        return taken if intermediates_only else (features, taken)


def _feature_info(stem: nn.Module, stride: int, stages: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Width, reduction and module of the stem's first feature map and of the last one of each resolution."""
    shape = cast(StemShape, stem.shape)
    first = stride // 2 if shape.halved else stride
    found = [{"num_chs": shape.channels[0], "reduction": first, "module": "stem", "cell": -1}]
    for number, (place, width) in enumerate(stages):
        reduction = stride * 2**number
        found.append({"num_chs": width, "reduction": reduction, "module": f"body.cells.{place}", "cell": place})
    return found


def register(architecture: Architecture, name: str, **defaults: Any) -> None:
    """Register the networks of a cell as the model `name` of timm.

    Args:
        name: how `timm.create_model` finds it, such as "datanas_mine".
        defaults: what holds where `create_model` is told nothing else: arguments of `CellModel`, such as channels,
            and fields of timm's configuration, such as `input_size` and `mean`.

    Raises:
        ConfigError: the cell is not convolutional, or the name is none that timm takes or is taken already.
    """
    _require_conv_cell(architecture)
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


def _require_conv_cell(architecture: Architecture) -> None:
    if architecture.space != "conv_cell":
        raise ConfigError(f"architecture: timm's models are of convolutional cells, not of space {architecture.space}")


for _name in architectures():
    if (_cell := published(_name)).space == "conv_cell":
        _register(f"datanas_{_name}", {"architecture": _cell}, {})
_register(CELL_MODEL, {}, {})
