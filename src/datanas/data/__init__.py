"""Data sets by name, and how their images are split, ordered and augmented. A new data set is one new file here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.data.base import Dataset

datasets: Registry[type[Dataset[Any]]] = Registry("data set", "datanas.data.sets")
register_dataset = datasets.register
