"""CamVid (Brostow, Fauqueur and Cipolla 2009), as SegNet's tutorial unpacks it or packed as one .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode.archive import Archive
from datanas.data.decode.encoded import encoded_images
from datanas.data.decode.masks import Pair, decode_pairs
from datanas.data.sets.mask_folder import match_pairs
from datanas.data.types.masks import SegmentationData, SegmentationSet, check_masks

CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
_UNLABELLED = 11


@register_dataset("camvid")
class CamVid(Dataset[SegmentationData]):
    """Views from a car: 367 images for training, 101 for validation, 233 for testing; unlabelled pixels are void."""

    class Config(ComponentConfig):
        name: Literal["camvid"] = "camvid"
        root: Path = Field(description="the folder of camvid.npz, or of train, trainannot, val, ...; or an .npz file")
        longest: int | None = Field(default=None, ge=1, description="reduce images to this length of the longer side")

    packed_arrays = frozenset({"train_jpg", "train_off", "train_mask", "train_id"})
    config: Config

    def load(self) -> SegmentationData:
        root = self.config.root
        where = f"camvid {shown(root)}"
        if root.suffix != ".npz":
            require_folder(root, DataError, where)
        if root.suffix == ".npz" or (root / "camvid.npz").is_file():
            archive = Archive(root if root.suffix == ".npz" else root / "camvid.npz", where)
            parts = {part: _packed_pairs(archive, part, where) for part in ("train", "val", "test")}
        else:
            folder = next((folder for folder in (root, root / "CamVid") if (folder / "trainannot").is_dir()), None)
            if folder is None:
                raise DataError(f"{where}: holds neither camvid.npz nor the folders train and trainannot")
            parts = {
                part: match_pairs(folder / part, folder / f"{part}annot", where) for part in ("train", "val", "test")
            }
        data = SegmentationData(
            self._decode(parts["train"], f"{where}: train"),
            self._decode(parts["test"], f"{where}: test"),
            CLASSES,
            validation=self._decode(parts["val"], f"{where}: val"),
            bears_mirroring=True,
        )
        check_masks(data, where)
        return data

    def _decode(self, pairs: list[Pair], where: str) -> SegmentationSet:
        return decode_pairs(pairs, where, void=(_UNLABELLED,), longest=self.config.longest)


def _packed_pairs(archive: Archive, part: str, where: str) -> list[Pair]:
    """JPEG images `*_jpg`, and open masks `*_mask`."""
    images = encoded_images(archive, f"{part}_jpg", f"{part}_off", where)
    masks, names = archive[f"{part}_mask"], archive[f"{part}_id"]
    if masks.ndim != 3 or masks.dtype.kind not in "iu" or not len(images) == len(masks) == len(names):
        raise DataError(
            f"{where}: {part}_mask must be whole numbers ({len(images)}, h, w) and {part}_id as many names, got "
            f"{masks.dtype} {masks.shape} and {len(names)}"
        )
    return [Pair(str(name), image, mask) for name, image, mask in zip(names, images, masks, strict=True)]
