"""miniImageNet (Vinyals et al., NeurIPS 2016) in the split of Ravi and Larochelle (ICLR 2017), as one .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageSet
from datanas.data.decode.archive import Archive, to_labels
from datanas.data.decode.encoded import decode_encoded, encoded_images
from datanas.data.types.class_splits import ClassSet, ClassSplitData, check_class_splits

FILES = ("miniimagenet.npz", "miniimagenet100.npz")
SHAPE = (3, 84, 84)
CLASSES = {"train": 64, "val": 16, "test": 20}


@register_dataset("miniimagenet")
class MiniImageNet(Dataset[ClassSplitData]):
    """Colour photographs of 84x84 pixels: 64 classes for training, 16 to follow it by, 20 for testing."""

    class Config(ComponentConfig):
        name: Literal["miniimagenet"] = "miniimagenet"
        root: Path = Field(description=f"the folder of {' or '.join(FILES)}, or an .npz file")
        images_per_class: int | None = Field(default=None, ge=1, description="only the first so many of each class")

    packed_arrays = frozenset({"train_jpg", "train_off", "train_y", "train_classes", "val_classes", "test_classes"})
    config: Config

    def load(self) -> ClassSplitData:
        path = self._find()
        where = f"miniimagenet {path}"
        archive = Archive(path, where)
        parts = {split: self._part(archive, split, where) for split in CLASSES}
        data = ClassSplitData(parts["train"], parts["val"], parts["test"], bears_mirroring=True)
        check_class_splits(data, where)
        return data

    def _find(self) -> Path:
        root = self.config.root
        if root.suffix == ".npz":
            return root
        require_folder(root, DataError, f"miniimagenet {shown(root)}")
        for name in FILES:
            if (root / name).is_file():
                return root / name
        raise DataError(
            f"miniimagenet: nothing found; looked for {', '.join(str(root / name) for name in FILES)}; "
            "set --data.root, or read class folders with --data.name class_folders"
        )

    def _part(self, archive: Archive, split: str, where: str) -> ClassSet:
        names = tuple(str(name) for name in archive[f"{split}_classes"].tolist())
        if len(names) != CLASSES[split]:
            raise DataError(f"{where}: {split} has {len(names)} classes, that of the published split {CLASSES[split]}")
        labels = to_labels(archive[f"{split}_y"], f"{where}: {split}_y")
        files = encoded_images(archive, f"{split}_jpg", f"{split}_off", where)
        if len(files) != len(labels):
            raise DataError(f"{where}: {split}_jpg holds {len(files)} images but {split}_y {len(labels)} labels")
        indices, wanted = torch.arange(len(labels)), self.config.images_per_class
        if wanted is not None:
            indices = torch.cat([(labels == label).nonzero().flatten()[:wanted] for label in range(len(names))])
        images = decode_encoded(
            [files[index] for index in indices.tolist()], SHAPE, f"{where}: {split}", "set --data.images_per_class N"
        )
        return ClassSet(ImageSet(images, labels[indices]), names)
