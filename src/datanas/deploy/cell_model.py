"""A network of convolutional cells with what timm expects of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.kernels.mixed import set_drop_path
from datanas.kernels.shifts import interleaved
from datanas.network import builder_of, network_config, rebuild_network, task_settings
from datanas.spaces.base import StemShape
from datanas.spaces.conv_space import ConvSpace
from datanas.tasks.classifier_head import ClassifierHead
from datanas.tasks.mask_task import output_strides
from datanas.tasks.stems import StemKind, image_stem, stem_stride

CHANNELS, CELLS = 48, 14


class CellModel(nn.Module):
    """A network of convolutional cells, with what timm expects of a classifier.

    Args:
        architecture: the cell, or its document.
        num_classes: outputs; 0 for the pooled features.
        in_chans: channels of the image.
        channels, cells, stem, pooling_norm, prune: as for `build_network`.
        drop_rate: dropout before the classifier.
        drop_path_rate: share of the operations that a training step leaves out, the same in all cells.
        global_pool: "avg", as the network was made; "" for maps that are not pooled, which takes `num_classes` 0.
        output_stride: by how much the last features are smaller than the image: as the stem and two reduction cells
            divide it (32 behind the stem "imagenet"), or a half or a quarter of that, for which the last reduction
            cells run at every shift of their inputs, with the same weights. What the stem divides by stays.
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
        output_stride: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(architecture, Architecture):
            architecture = Architecture.from_json(architecture)
        require_conv_cell(architecture)
        builder = builder_of(architecture)
        task_settings(builder, "classification", {"stem": stem})  # refuses a stem that there is not
        dense = _dense(cast(StemKind, stem), output_stride)
        size = {"channels": channels, "cells": cells, "pooling_norm": pooling_norm, "prune": prune, "auxiliary": False}
        built = rebuild_network(
            architecture,
            image_stem(cast(StemKind, stem), in_chans, channels, dense),
            lambda widths: ClassifierHead(widths, max(num_classes, 1)),
            network_config(builder, size),
        )
        self.stem, self.body, self.head = built.stem, built.body, built.head
        (width,) = cast(Any, built.body).out_channels
        self.num_features = self.head_hidden_size = width
        self.drop_rate = drop_rate
        stages = cast(Any, built.body).stages
        self.feature_info = _feature_info(built.stem, stem_stride(cast(StemKind, stem)), stages, dense)
        self.num_classes, self.global_pool = num_classes, "avg"
        self._end: int | None = None  # the last stage, where later ones have been left out
        self.reset_classifier(num_classes, global_pool)
        set_drop_path(self, drop_path_rate)

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        return "head.classifier" if name_only else cast(nn.Module, self.head.classifier)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network so many outputs, with fresh weights where that is another number than before.

        Args:
            global_pool: "avg", "" for none, or None for what it is.

        Raises:
            ConfigError: another pooling; or outputs of maps that are not pooled.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("avg", ""):
            raise ConfigError(f"global_pool: these networks are pooled by 'avg', or by '' not at all, got {pool!r}")
        if pool == "" and num_classes > 0:
            raise ConfigError(
                f"global_pool: '' leaves nothing that a classifier of {num_classes} classes could read; take it with "
                "num_classes=0"
            )
        here = self.head.classifier
        if num_classes == 0:
            self.head.classifier = nn.Identity()
        elif not isinstance(here, nn.Linear) or (here.out_features, here.in_features) != (
            num_classes,
            self.num_features,
        ):
            at = next(self.parameters())
            self.head.classifier = nn.Linear(self.num_features, num_classes, device=at.device, dtype=at.dtype)
        self.num_classes, self.global_pool = num_classes, pool

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that tell by a parameter's name to which group it belongs, from the image on; the head is the last.

        Args:
            coarse: a group for each resolution in place of one for each cell.
        """
        cells: Any = r"^body\.cells\.(\d+)"
        if coarse:
            ends = [info["cell"] for info in self.feature_info]
            stages = [range(start + 1, end + 1) for start, end in pairwise(ends)]
            cells = [
                (rf"^body\.cells\.(?:{'|'.join(map(str, stage))})\.", (number,)) for number, stage in enumerate(stages)
            ]
        return {"stem": r"^stem", "blocks": cells}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise ConfigError("grad_checkpointing: networks of cells do not recompute their activations; leave it off")

    def forward_features(self, x: Tensor) -> Tensor:
        """(batch, num_features, height / reduction, width / reduction)."""
        stem = self.stem(x)
        if self._end is None:
            return cast(Tensor, self.body(stem)[-1])
        *_, (_, last) = self._features(stem)
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(batch, num_classes) from the features; (batch, num_features) before the classifier; maps without pooling."""
        if self.global_pool:
            x = x.mean(dim=(2, 3))
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else cast(Tensor, cast(nn.Module, self.get_classifier())(x))

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
        """The features that `feature_info` lists, at `indices`, alone or behind those of the last cell that ran.

        Between the first and the last they have been through the ReLU that the cells behind them begin with.

        Args:
            indices: places in `feature_info`, the last so many of them, or None for all.
            norm: there is no norm behind the last cell, so it changes nothing.
            stop_early: run no cell behind the last of the features that are asked for.
            intermediates_only: without the features of the last cell.

        Raises:
            ConfigError: an order of axes other than "NCHW".
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt: these networks give 'NCHW', got {output_fmt!r}")
        wanted, last = feature_take_indices(len(self.feature_info), cast(Any, indices))
        cells = [info["cell"] for info in self.feature_info]
        by_index: dict[int, Tensor] = {}
        features = x
        for cell, features in self._features(self.stem(x)):
            if cell in cells:
                by_index[cells.index(cell)] = features
            if stop_early and last in by_index:
                break
        taken = [by_index[index] for index in wanted]
        return taken if intermediates_only else (features, taken)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Leave out the cells behind the last of some features, and the head, which stands behind the last cell.

        Args:
            indices: as for `forward_intermediates`, the last one by default.
            prune_norm: there is no norm behind the last cell, so it changes nothing.
            prune_head: also where no cell is left out.

        Returns:
            The places of the features that are kept, counted from the first.
        """
        wanted, last = feature_take_indices(len(self.feature_info), cast(Any, indices))
        is_cut = last < len(self.feature_info) - 1
        if is_cut:
            self._end, self.num_features = last, self.feature_info[last]["num_chs"]
            self.head_hidden_size = self.num_features
            cells = cast(Any, self.body).cells
            for index in range(self.feature_info[last]["cell"] + 1, len(cells)):
                cells.add_module(str(index), None)
            if last == 0 and hasattr(self.stem, "leave_out_unread"):
                cast(Any, self.stem).leave_out_unread((True, False))
        if prune_head or is_cut:
            self.reset_classifier(0, "")
        return cast(list[int], wanted)

    def _features(self, stem: tuple[Tensor, Tensor]) -> Iterator[tuple[int, Tensor]]:
        """The stem's first map (-1), then the place of each cell and what it gives, at all shifts as one map."""
        yield -1, stem[0]
        body = cast(Any, self.body)
        sizes = body._sizes(stem)
        for index, features in body.walk(stem):
            for dense in reversed([at for at in body._dense if at <= index]):
                features = interleaved(features, sizes[dense])
            yield index, features


def _dense(stem: StemKind, output_stride: int | None) -> int:
    """How many reduction cells keep the resolution.

    Raises:
        ConfigError: the stem divides by more, or stem and cells together by less.
    """
    known = output_strides(stem)
    if output_stride is None:
        return 0
    if output_stride not in known:
        raise ConfigError(
            f"output_stride: behind the stem {stem} it can be {', '.join(map(str, known))}, got {output_stride}: the "
            "two reduction cells can keep the resolution, what the stem divides by stays"
        )
    return known[output_stride]


def _feature_info(stem: nn.Module, stride: int, stages: Sequence[tuple[int, int]], dense: int) -> list[dict[str, Any]]:
    """Width, reduction and module of the stem's first feature map and of the last one of each resolution."""
    shape = cast(StemShape, stem.shape)
    first = stride // 2 if shape.halved else stride
    info = [{"num_chs": shape.channels[0], "reduction": first, "module": "stem", "cell": -1}]
    for number, (cell, width) in enumerate(stages):
        reduction = stride * 2 ** min(number, len(stages) - 1 - dense)
        info.append({"num_chs": width, "reduction": reduction, "module": f"body.cells.{cell}", "cell": cell})
    return info


def has_conv_cells(architecture: Architecture) -> bool:
    """Whether its networks are stacks of convolutional cells.

    Raises:
        ArchitectureError: its space is not known here.
    """
    return issubclass(builder_of(architecture), ConvSpace)


def require_conv_cell(architecture: Architecture) -> None:
    """Refuse what is no convolutional cell.

    Raises:
        ConfigError: it is none.
    """
    if not has_conv_cells(architecture):
        raise ConfigError(f"architecture: timm's models are of convolutional cells, not of space {architecture.space}")
