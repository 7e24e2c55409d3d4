"""A user's own arrays: `train_x`, `train_y`, `test_x`, `test_y`, or `x` and `y`, in one .npz file."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import require_file, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import UNLABELLED, Dataset, ImageData, ImageSet, ImageSets, check_images, check_set
from datanas.data.batches import stratified
from datanas.data.decode.arrays import Layout, ValueRange, Values, channels_first, to_pixels, values_of
from datanas.data.decode.memory import require_memory
from datanas.data.decode.open_image import PixelForm
from datanas.data.decode.parts import Part, part_of, words_of
from datanas.data.decode.suspect import examine_set, tell_suspects
from datanas.data.types.targets import (
    TARGETS,
    Kind,
    TargetData,
    TargetKind,
    is_one_hot,
    kind_of,
    parted,
    target_data,
    with_places,
)

_log = logging.getLogger(__name__)
_ROLES = {"x": "x", "image": "x", "images": "x", "y": "y", "label": "y", "labels": "y", "target": "y", "targets": "y"}
"""What an array holds, by a word of its name."""
_ENCODED = frozenset({"jpg", "jpeg", "png", "webp"})
_HELD: tuple[Part, ...] = ("test", "validation")
_NARROW = 1e-3
ImageSetsT = TypeVar("ImageSetsT", bound=ImageSets)
Place = Part | Literal["whole"]


class Archive:
    """The arrays of an .npz file, read one by one and never unpickled.

    Raises:
        DataError: there is no such file, or it is no .npz archive.
    """

    def __init__(self, path: Path, where: str) -> None:
        require_file(path, DataError, where)
        try:
            with zipfile.ZipFile(path) as archive:
                self._bytes = {
                    entry.filename.removesuffix(".npy"): entry.file_size
                    for entry in archive.infolist()
                    if entry.filename.endswith(".npy")
                }
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{where}: not an .npz archive ({error})") from None
        self._path, self._where = path, where

    def __contains__(self, key: str) -> bool:
        return key in self._bytes

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        return tuple(self._bytes)

    def __getitem__(self, key: str) -> NDArray[Any]:
        """One array.

        Raises:
            DataError: it is not there, is pickled, or cannot be read.
        """
        if key not in self:
            raise DataError(
                f"{self._where}: no array {key!r}; the file holds {', '.join(sorted(self._bytes)) or 'none'}"
            )
        require_memory(self._bytes[key], f"{self._where}: {key}", "store fewer or smaller images, or uint8")
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                array: NDArray[Any] = arrays[key]
        except Exception as error:  # a damaged archive can fail in any layer: zip, zlib, the header, the shape
            if "allow_pickle" in str(error):
                raise DataError(f"{self._where}: {key} holds pickled objects; store plain arrays") from None
            raise DataError(f"{self._where}: {key} cannot be read ({error})") from None
        return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes this machine's byte order alone


@register_dataset("npz")
class Npz(Dataset[ImageData | TargetData]):
    """Arrays `train_x`, `train_y`, `test_x`, `test_y`, or `x`, `y` to be split; `classes` may name the classes.

    They may be called otherwise (`find_arrays`). Images are (n, h, w), (n, h, w, c) or (n, c, h, w), of whole or
    floating numbers (`values_of`); labels are whole numbers from 0. Where both orders are possible, the last axis is
    taken for the channels unless `layout` says otherwise. Images without labels are unlabelled.
    """

    class Config(ComponentConfig):
        name: Literal["npz"] = "npz"
        root: Path = Field(description="the .npz file")
        layout: Layout = Field(default="auto", description="where the channels stand in images of four axes")
        white_level: float | None = Field(
            default=None,
            gt=0,
            description="the value that is white; null: 255 of uint8, 1 of floating numbers in 0..1, of other whole "
            "numbers the largest that as many bits hold as the largest value takes; where there is no white, as of "
            "numbers below 0 and of other than 1 or 3 channels, there is a value_range",
        )
        value_range: tuple[tuple[float, ...], tuple[float, ...]] | None = Field(
            default=None,
            description="the numbers of each channel that become 0, and those that become 1; null: the least and "
            "largest of the images for training, where there is no white",
        )
        test_share: float = Field(default=0.2, gt=0, lt=1, description="share of x, y that becomes the test set")
        split_seed: int = Field(default=0, description="seed of that choice")
        targets: TargetKind = Field(default="auto", description=TARGETS)

        @field_validator("value_range")
        @classmethod
        def ascending(cls, value: Any) -> Any:
            """Each channel begins below its end."""
            if value is not None and not all(low < high for low, high in zip(*value, strict=False)):
                raise ValueError(f"each number from must lie below the number to, got {value}")
            return value

    config: Config

    def target_kind(self) -> Kind | None:
        where = f"npz {shown(self.config.root)}"
        archive = Archive(self.config.root, where)
        names = [each.labels for each in find_arrays(archive.names, where).values() if each.labels is not None]
        return self._kind(archive[names[0]], f"{where}: {names[0]}") if names else None

    def _kind(self, labels: NDArray[Any], where: str) -> Kind | None:
        if self.config.targets != "auto":
            return None if self.config.targets == "classes" else self.config.targets
        if labels.dtype.kind not in "iufb" or labels.ndim not in (1, 2):
            return None
        rows = torch.from_numpy(labels)
        if is_one_hot(rows):
            _log.warning("%s: each row has a single 1 and is taken for a class; --data.targets labels if not", where)
        return kind_of(rows)

    def load(self) -> ImageData | TargetData:
        where = f"npz {shown(self.config.root)}"
        archive = Archive(self.config.root, where)
        arrays = find_arrays(archive.names, where)
        if (kind := self.target_kind()) is not None:
            return self._with_targets(archive, arrays, kind, where)
        if "whole" in arrays and "train" not in arrays:
            sets, values = self._sets(archive, {"whole": arrays["whole"]}, where)
            both = sets["whole"]
            classes = _classes(archive, both.labels, where, is_labelled=arrays["whole"].labels is not None)
            check_set(both, len(classes), f"{where}: {arrays['whole'].images}")
            train, test = self._split(both)
        else:
            chosen = _train_and_test(arrays, archive.names, where)
            sets, values = self._sets(archive, chosen, where)
            train, test = sets.values()
            is_labelled = any(each.labels is not None for each in chosen.values())
            classes = _classes(archive, torch.cat([train.labels, test.labels]), where, is_labelled=is_labelled)
        check_images(train, test, classes, where, fewest_classes=1 if classes == (UNLABELLED,) else 2)
        tell_suspects({"train": examine_set(train, classes), "test": examine_set(test, classes)}, where)
        return _told(ImageData(train, test, classes, pixels=self._form(values)), where)

    def _sets(
        self, archive: Archive, arrays: Mapping[Place, Arrays], where: str
    ) -> tuple[dict[Place, ImageSet], Values]:
        """The images and labels of parts, and how the numbers of all became their pixels."""
        raw = self._raw(archive, arrays, where)
        labels: dict[Place, Tensor] = {}
        for part, names in arrays.items():
            labels[part] = torch.zeros(len(raw[part]), dtype=torch.int64)
            if names.labels is not None:
                labels[part] = to_labels(archive[names.labels], f"{where}: {names.labels}")
                _require_as_many(raw[part], labels[part], names, where)
        values = self._values(raw, self._parted(labels["whole"])[0] if "whole" in labels else None, where)
        return {
            part: ImageSet(to_pixels(raw.pop(part), values, f"{where}: {names.images}"), labels[part])
            for part, names in arrays.items()
        }, values

    def _raw(self, archive: Archive, arrays: Mapping[Place, Arrays], where: str) -> dict[Place, NDArray[Any]]:
        """The images (n, c, h, w) of parts as they are stored."""
        return {
            part: channels_first(archive[names.images], self.config.layout, f"{where}: {names.images}")
            for part, names in arrays.items()
        }

    def _values(self, raw: Mapping[Place, NDArray[Any]], training: Tensor | None, where: str) -> Values:
        """How the numbers of all images become pixels; `training` are the places of those for it in the whole."""
        if self.config.value_range is not None:
            known = ValueRange(*self.config.value_range)
            channels = {array.shape[1] for array in raw.values()}
            if {len(known.low), len(known.high)} != channels:
                raise DataError(f"{where}: value_range must have {min(channels)} numbers from and to, one a channel")
            return Values(range=known)
        if self.config.white_level is not None:
            return Values(self.config.white_level)
        chosen = {part: np.full(len(array), part == "train") for part, array in raw.items()}
        if training is not None:
            chosen["whole"][training.numpy()] = True
        return values_of([*raw.values()], where, [*chosen.values()])

    def _with_targets(self, archive: Archive, arrays: Mapping[Place, Arrays], kind: Kind, where: str) -> TargetData:
        """Images with several labels, or with numbers, each."""
        is_whole = "whole" in arrays and "train" not in arrays
        chosen: dict[Place, Arrays] = {"whole": arrays["whole"]} if is_whole else {}
        chosen = chosen or _train_and_test(arrays, archive.names, where)
        raw = self._raw(archive, chosen, where)
        rows: dict[Place, Tensor] = {}
        for part, names in chosen.items():
            if names.labels is None:
                raise DataError(f"{where}: {names.images} is without targets; those of another part are {kind}")
            rows[part] = to_rows(archive[names.labels], kind, f"{where}: {names.labels}")
            _require_as_many(raw[part], rows[part], names, where)
        places = parted(rows["whole"], kind, self.config.test_share, self.config.split_seed) if is_whole else ()
        values = self._values(raw, places[0] if places else None, where)
        found = [
            (to_pixels(raw.pop(part), values, f"{where}: {names.images}"), rows[part]) for part, names in chosen.items()
        ]
        if places:
            ((x, y),) = found
            check_set(with_places(x), len(x), f"{where}: {arrays['whole'].images}")
            found = [(x[each], y[each]) for each in places]
        columns = found[0][1].shape[1]
        known = tuple(map(str, archive["classes"].tolist())) if "classes" in archive else ()
        if not known:
            known = ("y",) if columns == 1 else tuple(map(str, range(columns)))
        if len(known) != columns or len(set(known)) != columns:
            raise DataError(f"{where}: classes must be {columns} names, one a column of targets, got {len(known)}")
        train, test = found
        return _told(target_data(train, test, known, kind, where, pixels=self._form(values)), where)

    def _form(self, values: Values) -> PixelForm:
        return PixelForm(white=values.white, white_of_8_bits=self.config.white_level, value_range=values.range)

    def _split(self, both: ImageSet) -> tuple[ImageSet, ImageSet]:
        first, second = self._parted(both.labels)
        return both.select(first), both.select(second)

    def _parted(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        share = 1 - Fraction(str(self.config.test_share))
        return stratified(labels, share, self.config.split_seed, "test split")


def _told(data: ImageSetsT, where: str) -> ImageSetsT:
    """These data, after a warning where a few numbers lie so far out that little is left of the others."""
    if data.image_form.value_range is not None and (data.std < _NARROW).any():
        channel = int(data.std.argmin())
        _log.warning(
            "%s: channel %d deviates by %.1g of the way from its least to its largest number: a few lie far out, and "
            "float32 holds few digits of the others; limit them (--data.value_range), or take logarithms",
            *(where, channel, data.std[channel]),
        )
    return data


@dataclass(frozen=True)
class Arrays:
    """What the arrays of a part are called; no labels where there are none."""

    images: str
    labels: str | None


def find_arrays(names: Iterable[str], where: str) -> dict[Place, Arrays]:
    """The arrays of each part by their names, in any case: `train_x` and `train_y`, `X_train`, `test_images`, `x`, `y`.

    Args:
        where: the data set and its file, to begin a message with.

    Raises:
        DataError: two arrays for the same, or labels without images.
    """
    found: dict[tuple[Place, str], str] = {}
    for name in names:
        words = words_of(name)
        roles = {_ROLES[word] for word in words if word in _ROLES}
        rest = "_".join(word for word in words if word not in _ROLES)
        part = part_of(rest)
        if len(roles) != 1 or (rest and part is None):
            continue
        place: tuple[Place, str] = (part or "whole", roles.pop())
        if place in found:
            raise DataError(f"{where}: {found[place]} and {name} both look like the same; keep one of them")
        found[place] = name
    parts = dict.fromkeys(part for part, _ in found)
    if lone := [found[part, "y"] for part in parts if (part, "x") not in found]:
        if encoded := encoded_arrays(names):
            raise DataError(
                f"{where}: {encoded[0]} are encoded images, which only the data set reads that packs them so: say its "
                "name, as in datanas fit cifar10 --data.root FILE; otherwise store their pixels as plain arrays"
            )
        raise DataError(f"{where}: {lone[0]} are labels without images; the file holds {', '.join(sorted(names))}")
    return {part: Arrays(found[part, "x"], found.get((part, "y"))) for part in parts}


def encoded_arrays(names: Iterable[str]) -> list[str]:
    """The arrays that by their names hold encoded images, such as `train_jpg`."""
    return [name for name in names if not _ENCODED.isdisjoint(words_of(name))]


def _train_and_test(arrays: Mapping[Place, Arrays], names: Iterable[str], where: str) -> dict[Place, Arrays]:
    """What is trained and what is tested on; the rest is told."""
    tested = next((part for part in _HELD if part in arrays), None)
    chosen = {"train": arrays.get("train"), "test": None if tested is None else arrays[tested]}
    is_labelled = any(each is not None and each.labels is not None for each in chosen.values())
    for part, each in chosen.items():
        missing = f"{part}_x" if each is None else f"{part}_y" if is_labelled and each.labels is None else None
        if missing is not None:
            known = ", ".join(sorted(names)) or "none"
            raise DataError(f"{where}: no array {missing!r}; the file holds {known}")
    assert tested is not None
    for place, unused in arrays.items():
        if place not in ("train", tested):
            _log.warning("%s: %s is not used: %s is tested on", where, unused.images, arrays[tested].images)
    return {"train": arrays["train"], tested: arrays[tested]}


def to_rows(array: NDArray[Any], kind: Kind, where: str) -> Tensor:
    """Bring targets into the form (n, k), float32.

    Raises:
        DataError: no numbers, or not one or two axes.
    """
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where} must be numbers, got {array.dtype}")
    if array.ndim == 1 and kind == "numbers":
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{where} must have the shape (n, k), a column a target, got {array.shape}")
    return torch.from_numpy(array.astype(np.float32))


def _require_as_many(images: NDArray[Any], labels: Tensor, names: Arrays, where: str) -> None:
    if len(images) != len(labels):
        raise DataError(f"{where}: {names.images} holds {len(images)} images but {names.labels} {len(labels)} labels")


def to_labels(array: NDArray[Any], where: str) -> Tensor:
    """Bring an array of labels into the form (n,), int64.

    Raises:
        DataError: not whole numbers, or not one axis.
    """
    if array.dtype.kind in "iufb" and is_one_hot(torch.from_numpy(array)):
        array = array.argmax(axis=1)
    if array.dtype.kind not in "iu":
        raise DataError(f"{where} must be whole numbers, got {array.dtype}")
    if array.ndim != 1:
        raise DataError(f"{where} must have the shape (n,), got {array.shape}")
    return torch.from_numpy(array.astype(np.int64))


def _classes(archive: Archive, labels: Tensor, where: str, *, is_labelled: bool) -> tuple[str, ...]:
    if not is_labelled:
        return (UNLABELLED,)
    if "classes" in archive:
        listed = archive["classes"]
        if listed.ndim != 1:
            raise DataError(f"{where}: classes must have the shape (c,), got {listed.shape}")
        names = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in listed.tolist()]
        names = [name.removeprefix("\ufeff").strip() for name in names]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{where}: classes names {repeated[0]!r} twice")
        return tuple(names)
    largest = int(labels.max()) if len(labels) else 0
    if largest >= len(labels) > 0:
        raise DataError(f"{where}: a label is {largest} but there are only {len(labels)} images; count classes from 0")
    return tuple(map(str, range(largest + 1)))
