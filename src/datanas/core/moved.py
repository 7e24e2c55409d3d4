"""Older names of modules: they still lead where they led, and say once where that is now."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_MOVED = {
    "core": "errors registry seeding torch_draws console atomic paths durations checks",
    "codes": "cell genotype document liveness architecture",
    "kernels": "hardware ops.bare ops.depthwise ops.fx_leaf ops.gates ops.hidden_states ops.layout "
    "ops.linear_cross_entropy ops.mixed ops.node_norm ops.node_sum ops.norm ops.partial ops.products ops.program "
    "ops.recurrence ops.shifts",
    "references": "spaces.conv4 spaces.lstm spaces.resnet18",
    "data.sets": "data.camvid data.cifar10 data.class_folders data.folder data.image_files data.manual "
    "data.mask_folder data.miniimagenet data.npz data.omniglot data.photo_scenes data.photos data.ptb data.text "
    "data.tinyimagenet data.voc2012 data.wikitext2",
    "data.types": "data.class_splits data.corpus data.file_set data.masks data.source",
    "data.decode": "data.crops data.depth data.encoded data.image_list data.image_sides data.memory data.open_image "
    "data.parts data.suspect",
    "deploy": "timm_models engine.card engine.export",
    "engine": "proxies",
}
_RENAMED = {
    "config": "core.settings",
    "distributed": "core.joining",
    "cellstring": "codes.benchmark_text",
    "published": "lookup",
    "tables": "codes.accuracy_table",
    "ops.kernels": "kernels.switch",
    "spaces.reference": "references.base",
    "supernet": "network",
    "data.decode_masks": "data.decode.masks",
    "exported": "deploy.load",
    "engine.cells": "engine.random_cells",
    "engine.search_job": "engine.search",
    "engine.train_job": "engine.train",
    "engine.cell_warnings": "engine.collapse",
}


def newer_names() -> dict[str, str]:
    """The full names of modules by those that they had before."""
    moved = {old: f"{home}.{old.rpartition('.')[2]}" for home, names in _MOVED.items() for old in names.split()}
    return {f"datanas.{old}": f"datanas.{new}" for old, new in {**moved, **_RENAMED}.items()}


def find_moved(name: str) -> ModuleSpec | None:
    """How to load a module by its older name; None where there is none of that name."""
    new = newer_names().get(name)
    return None if new is None else ModuleSpec(name, _AliasLoader(new))


class _Alias(ModuleType):
    """A module under its older name: its contents are those of the newer one."""

    def __init__(self, name: str, newer: ModuleType) -> None:
        super().__init__(name, newer.__doc__)
        self.__dict__["_newer"] = newer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_newer"], name)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_newer"])


class _CallableAlias(_Alias):
    """`datanas.architecture` was a module and is a function; whoever imports it as the one still has the other."""

    def __call__(self, name: str) -> Any:
        function: Callable[[str], Any] = import_module("datanas.lookup").architecture
        return function(name)


class _AliasLoader(Loader):
    def __init__(self, newer: str) -> None:
        self._newer = newer

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is {self._newer} now; the older name goes with 0.3", DeprecationWarning, 2)
        kind = _CallableAlias if spec.name == "datanas.architecture" else _Alias
        return kind(spec.name, import_module(self._newer))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run."""
