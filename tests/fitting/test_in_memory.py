"""Data in Python: whichever way they come, a fit reads the same, and ends with the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.fitting.test_estimator import config, plain_plan
from torch.utils.data import DataLoader, Dataset, IterableDataset

import datanas
from datanas import ImageClassifier
from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import merge
from datanas.data.sets.npz import Npz
from datanas.fitting import fit as fitting
from datanas.fitting.in_memory import write_in_memory


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "make_plan", plain_plan)
        yield


class Items(Dataset[Any]):
    """Images and labels, each through a function; like those of torchvision it may know the names of its classes."""

    def __init__(self, x: Any, y: Any, make: Callable[[Any], Any] = lambda image: image, **more: Any) -> None:
        self.x, self.y, self.make = x, y, make
        vars(self).update(more)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> Any:
        return self.make(self.x[place]), self.y[place]


class Stream(IterableDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class SizedStream(Stream):
    def __len__(self) -> int:
        return len(self.items)


class Pair(NamedTuple):
    """Images of three classes that differ in brightness, for training and testing, in the order of a folder."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]


@pytest.fixture(scope="module")
def pair() -> Pair:
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = np.arange(count) * 3 // count
        return (rng.integers(0, 60, (count, 8, 8, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8), labels

    return Pair(*part(48), *part(12))


def write_folder(pair: Pair, folder: Path) -> Path:
    for part, x, y in (("train", pair.x, pair.y), ("test", pair.test_x, pair.test_y)):
        for place, (image, label) in enumerate(zip(x, y, strict=True)):
            file = folder / part / str(label) / f"{place:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return folder


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def write_npz(pair: Pair, folder: Path) -> Path:
    np.savez(folder / "mine.npz", train_x=pair.x, train_y=pair.y, test_x=pair.test_x, test_y=pair.test_y)
    return folder / "mine.npz"


WAYS: dict[str, Callable[[Pair, Path], Any]] = {
    "a folder": lambda pair, folder: write_folder(pair, folder / "pictures"),
    "arrays": lambda pair, _: ((pair.x, pair.y), (pair.test_x, pair.test_y)),
    "channels first": lambda pair, _: (
        (pair.x.transpose(0, 3, 1, 2), pair.y.tolist()),
        (pair.test_x.transpose(0, 3, 1, 2), pair.test_y.tolist()),
    ),
    "tensors": lambda pair, _: (
        (to_tensor(pair.x[0])[None].new_tensor(pair.x.transpose(0, 3, 1, 2)), torch.from_numpy(pair.y)),
        ([*map(to_tensor, pair.test_x)], torch.from_numpy(pair.test_y)),
    ),
    "sets of PIL images": lambda pair, _: (
        Items(pair.x, pair.y, Image.fromarray),
        Items(pair.test_x, pair.test_y.tolist(), Image.fromarray),
    ),
    "sets of tensors": lambda pair, _: (
        Items(pair.x, torch.from_numpy(pair.y), to_tensor),
        Items(pair.test_x, pair.test_y, to_tensor, classes=["0", "1", "2"]),
    ),
    "labels reversed twice, and those of another byte order": lambda pair, _: (
        (pair.x, pair.y[::-1].copy()[::-1]),
        (pair.test_x, pair.test_y.astype(">i4")),
    ),
    "a stream that knows its length": lambda pair, _: (
        SizedStream([*zip(pair.x, pair.y, strict=True)]),
        (pair.test_x, [*torch.from_numpy(pair.test_y)]),
    ),
    "a stream and a set of dictionaries": lambda pair, _: (
        Stream([{"image": image, "label": int(label)} for image, label in zip(pair.x, pair.y, strict=True)]),
        Stream([*zip(pair.test_x, pair.test_y, strict=True)]),
    ),
}


@pytest.fixture(scope="module")
def expected(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The network of the .npz that somebody has written."""
    folder = tmp_path_factory.mktemp("expected")
    settings = merge(config(), {"run": {"root": str(folder / "runs")}})
    found = datanas.fit(write_npz(pair, folder), "30s", config=settings, quiet=True)
    return (found.export / "model.safetensors").read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_the_same_data_give_the_same_network_whichever_way_they_come(
    pair: Pair, expected: bytes, way: str, tmp_path: Path
) -> None:
    settings = merge(config(), {"run": {"root": str(tmp_path / "runs")}})
    found = datanas.fit(WAYS[way](pair, tmp_path), "30s", config=settings, quiet=True)
    assert (found.export / "model.safetensors").read_bytes() == expected
    assert datanas.load(found.path).output_names == ("0", "1", "2")


def test_a_classifier_takes_a_pair_and_measures_on_the_second(pair: Pair, expected: bytes) -> None:
    found = ImageClassifier(time="30s", config=config()).fit((Items(pair.x, pair.y), Items(pair.test_x, pair.test_y)))
    assert found.files_["model.safetensors"] == expected
    assert "on 12 test examples" in found.report_
    assert set(found.predict(pair.test_x)) <= {0, 1, 2}


def test_a_fit_in_memory_goes_on_under_its_name(pair: Pair, expected: bytes, tmp_path: Path) -> None:
    settings = merge(config(), {"run": {"root": str(tmp_path), "name": "mine"}})
    data = ((pair.x, pair.y), (pair.test_x, pair.test_y))
    for _ in range(2):
        found = datanas.fit(data, "30s", config=settings, quiet=True)
    assert (found.export / "model.safetensors").read_bytes() == expected
    assert len([*tmp_path.glob("data-*.npz")]) == 1
    with pytest.raises(ConfigError, match="is a fit of other data"):
        datanas.fit(((pair.x + 1, pair.y), (pair.test_x, pair.test_y)), "30s", config=settings, quiet=True)


@pytest.mark.parametrize("y", [np.eye(2)[[0, 1] * 24][::-1], np.eye(2, dtype=">i4")[[0, 1] * 24]])
def test_rows_of_labels_may_lie_in_any_way(pair: Pair, y: NDArray[Any], tmp_path: Path) -> None:
    file, _ = write_in_memory((pair.x, y), tmp_path)
    np.testing.assert_array_equal(np.load(file)["y"], y)


def test_a_fit_that_cannot_be_planned_leaves_no_data(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, own = (pair.x, pair.y), {"run": {"root": str(tmp_path / "runs")}}
    with pytest.raises(ConfigError, match="time"):
        datanas.fit(data, "a while", config=own, quiet=True)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match="chanels"):
        datanas.fit(data, "30s", config=merge(own, {"space": {"chanels": 3}}), quiet=True)
    assert not [*(tmp_path / "runs").iterdir()]
    kept, _ = write_in_memory(data, tmp_path / "runs")
    with pytest.raises(ConfigError, match="chanels"):
        datanas.fit(data, "30s", config=merge(own, {"space": {"chanels": 3}}), quiet=True)
    assert kept.exists()
    monkeypatch.setattr(np, "savez", None)  # what is there is not written again
    assert write_in_memory(data, tmp_path / "runs")[0] == kept


def test_settings_of_the_data_are_heard(pair: Pair, tmp_path: Path) -> None:
    own = {"data": {"test_share": 0.5}, "run": {"root": str(tmp_path)}}
    found = datanas.fit((pair.x, pair.y), "30s", config=merge(config(), own), quiet=True)
    assert found.outcome.examples == 24


def test_names_of_classes_and_labels_that_are_words_stay(pair: Pair, tmp_path: Path) -> None:
    named, values = write_in_memory(Items(pair.x, pair.y, classes=["ant", "bee", "cow"]), tmp_path)
    assert np.load(named)["classes"].tolist() == ["ant", "bee", "cow"]
    assert values.tolist() == [0, 1, 2]
    words, values = write_in_memory((pair.x, np.array(["cow", "ant", "bee"])[pair.y]), tmp_path)
    assert values.tolist() == np.load(words)["classes"].tolist() == ["ant", "bee", "cow"]
    assert np.load(words)["y"][0] == 2


def test_grey_images_among_colour_ones_become_colour(tmp_path: Path) -> None:
    images = [Image.new("L", (6, 5), 9), Image.new("RGBA", (6, 5)), Image.new("RGB", (6, 5)), Image.new("1", (6, 5))]
    file, _ = write_in_memory((images, [0, 0, 1, 1]), tmp_path)
    assert np.load(file)["x"].shape == (4, 5, 6, 3)
    grey, _ = write_in_memory((images[:1] * 4, [0, 0, 1, 1]), tmp_path)
    assert np.load(grey)["x"].shape == (4, 5, 6)


def test_16_bits_of_pillow_keep_their_digits(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((5, 6), value, np.uint16)) for value in (0, 300, 4000, 4095)]
    file, _ = write_in_memory((images, [0, 0, 1, 1]), tmp_path)
    assert np.load(file)["x"][:, 0, 0].tolist() == [0, 300, 4000, 4095]


def broken(pair: Pair) -> dict[str, tuple[Any, type[Exception], str]]:
    sizes = Items(pair.x, pair.y, lambda image: image[:5] if image[0, 0, 0] > 160 else image)
    return {
        "a loader": (DataLoader(Items(pair.x, pair.y)), ConfigError, r"give the data set itself, loader\.dataset"),
        "a number": (3, ConfigError, "int is nothing to fit; give a path"),
        "an array": (pair.x, ConfigError, "ndarray is nothing to fit"),
        "sizes": (sizes, DataError, r"differ in size, image 0 is \(8, 8, 3\) and image 32 is \(5, 8, 3\); resize"),
        "no items": (Items([], []), DataError, "the data set is empty"),
        "images alone": (
            Stream([*pair.x]),
            DataError,
            r"item 0 of the data set is ndarray; it must be \(image, label\)",
        ),
        "fewer labels": ((pair.x, pair.y[:7]), DataError, r"y: must have the shape \(48,\)"),
        "words for images": ((["a", "b"], [0, 1]), DataError, "X: must be images"),
        "ragged": ((pair.x, [[0], [0, 1]] * 24), DataError, "y: is no array of labels"),
        "rows of objects": ((pair.x, np.full((48, 2), None)), DataError, "y: rows of labels must be numbers, .*object"),
        "8 and 16 bits": (
            ([Image.new("L", (8, 8))] * 2 + [Image.new("I;16", (8, 8))] * 46, pair.y),
            DataError,
            "differ in depth, image 0 is of mode L and image 2 is of mode I;16; convert them",
        ),
        "whole and floating": (
            ([Image.new("F", (8, 8))] * 2 + [Image.new("I", (8, 8))] * 46, pair.y),
            DataError,
            "image 0 is of mode F and image 2 is of mode I;",
        ),
        "flat": ((pair.x.reshape(48, -1), pair.y), DataError, r"flat pixels want X\.reshape"),
    }


NOTHING = (np.zeros((48, 8, 8, 3), np.uint8), np.zeros(48, np.int64))


@pytest.mark.parametrize("name", broken(Pair(*NOTHING, *NOTHING)))
def test_what_is_no_data_is_refused_before_anything_is_written(pair: Pair, name: str, tmp_path: Path) -> None:
    data, error, message = broken(pair)[name]
    with pytest.raises(error, match=message):
        datanas.fit(data, "30s", config={"run": {"root": str(tmp_path / "runs")}}, quiet=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "groups", [[index // 3 for index in range(30)], np.array([f"p{index // 3}" for index in range(30)])]
)
def test_groups_are_written_with_the_images(tmp_path: Path, groups: Any) -> None:
    images, labels = np.zeros((30, 8, 8, 3), np.uint8), np.arange(30) % 3
    for data, name in (((images, labels), "groups"), (((images, labels), (images[:9], labels[:9])), "train_groups")):
        file, _ = write_in_memory(data, tmp_path, groups=groups)
        with np.load(file) as arrays:
            assert arrays[name].tolist() == list(groups)


@pytest.mark.parametrize("groups", [range(29), [[0]] * 30, [0.5] * 30])
def test_groups_must_be_one_an_image(tmp_path: Path, groups: Any) -> None:
    data = np.zeros((30, 8, 8, 3), np.uint8), np.arange(30) % 3
    with pytest.raises(DataError, match="groups: must be 30 whole numbers or words, one an image for training"):
        ImageClassifier(root=str(tmp_path)).fit(*data, groups=groups)
    assert not list(tmp_path.iterdir())


def test_a_fit_keeps_groups_with_its_data(tmp_path: Path) -> None:
    """The file that it goes on with has them, and its test images are of other groups."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    run = {"run": {"root": str(tmp_path), "name": "mine"}}
    datanas.fit((images, np.arange(60) % 3), "30s", config=merge(config(), run), groups=np.arange(60) // 6, quiet=True)
    (file,) = tmp_path.glob("*.npz")
    data = Npz(Npz.Config(root=file)).load()
    assert data.train_groups is not None
    assert torch.bincount(data.train_groups, minlength=10).unique().tolist() == [0, 6]
    assert len(data.test) == 12


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_an_image_without_a_group_is_refused(tmp_path: Path, missing: Any) -> None:
    groups = np.array(["a"] * 29 + [missing], dtype=object)
    with pytest.raises(DataError, match="groups: some are missing"):
        write_in_memory((np.zeros((30, 8, 8, 3), np.uint8), np.arange(30) % 3), tmp_path, groups=groups)


def test_a_path_with_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="groups: are of images in memory"):
        datanas.fit(tmp_path, "30s", groups=[0], quiet=True)
    with pytest.raises(ConfigError, match="groups: are of images in memory"):
        ImageClassifier().fit(tmp_path, groups=[0])
