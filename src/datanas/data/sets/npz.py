"""A user's own arrays: `train_x`, `train_y`, `test_x`, `test_y`, or `x` and `y`, in one .npz file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import UNLABELLED, Dataset, ImageData, ImageSet, ImageSets, check_images, check_set
from datanas.data.decode.archive import Archive, Arrays, PartOrWhole, find_arrays, group_names, to_labels, to_rows
from datanas.data.decode.arrays import Layout, ValueRange, Values, channels_first, to_pixels, values_of
from datanas.data.decode.open_image import PixelForm
from datanas.data.decode.parts import Part
from datanas.data.decode.suspect import examine_set, tell_suspects
from datanas.data.groups import USE_GROUPS, numbered, tell_shared_groups
from datanas.data.types.targets import (
    TARGETS,
    Kind,
    TargetData,
    TargetKind,
    is_one_hot,
    kind_of,
    parted,
    target_data,
    with_indices,
)

_log = logging.getLogger(__name__)
_HELD: tuple[Part, ...] = ("test", "validation")
_NARROW = 1e-3
ImageSetsT = TypeVar("ImageSetsT", bound=ImageSets)


@register_dataset("npz")
class Npz(Dataset[ImageData | TargetData]):
    """Arrays `train_x`, `train_y`, `test_x`, `test_y`, or `x`, `y` to be split; `classes` may name the classes.

    They may be called otherwise (`find_arrays`). Images are (n, h, w), (n, h, w, c) or (n, c, h, w), of whole or
    floating numbers (`values_of`); labels are whole numbers from 0. Where both orders are possible, the last axis is
    taken for the channels unless `layout` says otherwise. Images without labels are unlabelled. Images of one group
    (`groups`, or `train_groups`: numbers or names) are on one side of every split.
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
        use_groups: bool = Field(default=True, description=USE_GROUPS)

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
        is_whole = "whole" in arrays and "train" not in arrays
        chosen: dict[PartOrWhole, Arrays] = {"whole": arrays["whole"]} if is_whole else {}
        chosen = chosen or _train_and_test(arrays, archive.names, where)
        stored = {each.labels: archive[each.labels] for each in chosen.values() if each.labels is not None}
        kind = next((self._kind(array, f"{where}: {name}") for name, array in stored.items()), None)
        raw = {
            part: channels_first(archive[names.images], self.config.layout, f"{where}: {names.images}")
            for part, names in chosen.items()
        }
        labels = {part: _labels(stored, names, len(raw[part]), kind, where) for part, names in chosen.items()}
        learned: PartOrWhole = "whole" if is_whole else "train"
        called = {
            part: group_names(archive[names.groups], len(raw[part]), f"{where}: {names.groups}")
            for part, names in chosen.items()
            if names.groups is not None and self.config.use_groups
        }
        groups = numbered(called[learned]) if learned in called else None
        if len(called) > 1:
            one, other = called.values()
            tell_shared_groups(one, other, where)
        share, seed = self.config.test_share, self.config.split_seed
        split = parted(labels["whole"], kind, share, seed, groups) if is_whole else None
        values = self._values(raw, None if split is None else split[0], where)
        parts = [
            (to_pixels(raw.pop(part), values, f"{where}: {names.images}"), labels[part])
            for part, names in chosen.items()
        ]
        if kind is None:
            classes = _classes(archive, torch.cat([*labels.values()]), where, is_labelled=bool(stored))
        else:
            classes = _columns(archive, parts[0][1].shape[1], where)
        if split is not None:
            ((x, y),) = parts
            both = ImageSet(x, y) if kind is None else with_indices(x)
            check_set(both, len(classes) if kind is None else len(x), f"{where}: {arrays['whole'].images}")
            parts = [(x[each], y[each]) for each in split]
            groups = None if groups is None else groups[split[0]]
        form = PixelForm(white=values.white, white_of_8_bits=self.config.white_level, value_range=values.range)
        if kind is not None:
            more = {"pixels": form, "train_groups": groups}
            return _told(target_data(parts[0], parts[1], classes, kind, where, **more), where)
        train, test = (ImageSet(*each) for each in parts)
        check_images(train, test, classes, where, fewest_classes=1 if classes == (UNLABELLED,) else 2)
        tell_suspects({"train": examine_set(train, classes), "test": examine_set(test, classes)}, where)
        return _told(ImageData(train, test, classes, pixels=form, train_groups=groups), where)

    def _values(self, raw: Mapping[PartOrWhole, NDArray[Any]], training: Tensor | None, where: str) -> Values:
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


def _train_and_test(
    arrays: Mapping[PartOrWhole, Arrays], names: Iterable[str], where: str
) -> dict[PartOrWhole, Arrays]:
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
    for other_part, unused in arrays.items():
        if other_part not in ("train", tested):
            _log.warning("%s: %s is not used: %s is tested on", where, unused.images, arrays[tested].images)
    return {"train": arrays["train"], tested: arrays[tested]}


def _labels(stored: Mapping[str, NDArray[Any]], names: Arrays, images: int, kind: Kind | None, where: str) -> Tensor:
    """The labels or targets of a part; class 0 for all of a part that has none."""
    if names.labels is None:
        if kind is not None:
            raise DataError(f"{where}: {names.images} is without targets; those of another part are {kind}")
        return torch.zeros(images, dtype=torch.int64)
    array, name = stored[names.labels], f"{where}: {names.labels}"
    labels = to_labels(array, name) if kind is None else to_rows(array, kind, name)
    if images != len(labels):
        raise DataError(f"{where}: {names.images} holds {images} images but {names.labels} {len(labels)} labels")
    return labels


def _columns(archive: Archive, count: int, where: str) -> tuple[str, ...]:
    """What each column of targets is called."""
    known = tuple(map(str, archive["classes"].tolist())) if "classes" in archive else ()
    if not known:
        known = ("y",) if count == 1 else tuple(map(str, range(count)))
    if len(known) != count or len(set(known)) != count:
        raise DataError(f"{where}: classes must be {count} names, one a column of targets, got {len(known)}")
    return known


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
