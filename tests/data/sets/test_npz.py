from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from datanas.core.errors import DataError, OutOfMemoryError
from datanas.data.base import ImageData
from datanas.data.decode import arrays
from datanas.data.decode.arrays import to_pixels, values_of
from datanas.data.sets.npz import Npz

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (6, 8, 7, 3), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])
SOUND = {"train_x": X, "train_y": Y, "test_x": X[:3], "test_y": Y[:3]}
Save = Callable[..., Path]


def load(root: Path, **settings: Any) -> ImageData:
    found = Npz(Npz.Config(root=root, **settings)).load()
    assert isinstance(found, ImageData)
    return found


def test_four_arrays_are_read_as_they_are(save_npz: Save) -> None:
    data = load(save_npz(**SOUND))
    assert torch.equal(data.train.images, torch.from_numpy(X).permute(0, 3, 1, 2))
    assert torch.equal(data.test.labels, torch.tensor([0, 1, 2]))
    assert data.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (X, 3),
        (X.transpose(0, 3, 1, 2), 3),
        (X[..., 0], 1),
        (X[..., :1], 1),
        (X[:, None, :, :, 0], 1),
    ],
)
def test_every_order_of_axes_gives_the_same_pixels(save_npz: Save, array: np.ndarray, channels: int) -> None:
    data = load(save_npz(**SOUND | {"train_x": array, "test_x": array[:3]}))
    assert torch.equal(data.train.images, torch.from_numpy(X).permute(0, 3, 1, 2)[:, :channels])


def test_numbers_of_another_byte_order_are_read(save_npz: Save) -> None:
    x = (X / 255).astype(">f4")
    rows = np.array([[1, 1], [0, 1], [1, 0], [1, 1], [0, 1], [1, 0]])
    data = load(save_npz(train_x=x, train_y=Y.astype(">i4"), test_x=x[:3], test_y=Y[:3].astype(">i8")))
    assert torch.equal(data.train.images, torch.from_numpy((X / 255).astype(np.float32)).permute(0, 3, 1, 2))
    root = save_npz(x=x, y=rows.astype(">i4"))
    assert Npz(Npz.Config(root=root)).target_kind() == "labels"


def test_where_both_orders_are_possible_the_last_axis_or_layout_decides(save_npz: Save) -> None:
    both = RANDOM.integers(0, 256, (6, 3, 8, 3), dtype=np.uint8)
    root = save_npz(**SOUND | {"train_x": both, "test_x": both})
    with pytest.raises(DataError, match="test_x holds 6 images but test_y 3 labels"):
        load(root)
    root = save_npz(train_x=both, train_y=Y, test_x=both, test_y=Y)
    assert torch.equal(load(root).train.images, torch.from_numpy(both).permute(0, 3, 1, 2))
    assert torch.equal(load(root, layout="channels_first").train.images, torch.from_numpy(both))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_images_become_float32(save_npz: Save, dtype: type[np.floating[Any]]) -> None:
    x = (X / 255).astype(dtype)
    data = load(save_npz(**SOUND | {"train_x": x, "test_x": x[:3]}))
    assert data.train.images.dtype == torch.float32
    np.testing.assert_array_equal(data.train.images.numpy(), x.transpose(0, 3, 1, 2).astype(np.float32))


def test_classes_are_named_by_the_file(save_npz: Save) -> None:
    assert load(save_npz(**SOUND, classes=np.array(["a", "b", "c"]))).classes == ("a", "b", "c")
    assert load(save_npz(**SOUND, classes=np.array([b"a", b"b", b"c"]))).classes == ("a", "b", "c")


def test_x_and_y_are_split_by_class_and_seed(save_npz: Save) -> None:
    x, y = np.arange(200, dtype=np.uint8).reshape(200, 1, 1), np.arange(200) % 4
    root = save_npz(x=x, y=y)
    data = load(root, test_share=0.1)
    assert torch.bincount(data.test.labels).tolist() == [5, 5, 5, 5]
    pixels = torch.cat([data.train.images, data.test.images]).flatten()
    assert pixels.sort().values.tolist() == list(range(200))
    assert torch.equal(data.test.images, load(root, test_share=0.1).test.images)
    assert not torch.equal(data.test.images, load(root, test_share=0.1, split_seed=1).test.images)


NAN = np.full((6, 8, 7), 0.5, np.float32)
NAN[4, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": None}, r"no array 'train_y'; the file holds test_x, test_y, train_x$"),
        ({"train_x": X.astype(np.int64)}, r"train_x must be uint8 in 0\.\.255 or floating in 0\.\.1, got int64"),
        ({"train_x": X[0]}, r"train_x holds 8 images but train_y 6 labels"),
        ({"train_x": X[0, 0]}, r"train_x has the shape \(7, 3\): tables of numbers are not searched"),
        ({"train_x": np.zeros((6, 8, 8, 8), np.uint8)}, r"the shape \(6, 8, 8, 8\), of which no axis .*--data.layout"),
        ({"train_x": np.zeros((6, 1, 8, 8, 8), np.uint8)}, "volumes and films are not searched; give their slices"),
        ({"train_x": X[..., :2]}, "train and test images differ"),
        ({"train_y": Y[:5]}, "train_x holds 6 images but train_y 5 labels"),
        ({"train_y": Y.astype(float)}, "train_y must be whole numbers, got float64"),
        ({"train_y": Y[:, None]}, r"train_y must have the shape \(n,\), got \(6, 1\)"),
        ({"train_y": Y - 1}, "train image 0 has the label -1"),
        ({"train_y": Y * 10**9}, "a label is 2000000000 but there are only 9 images"),
        ({"train_y": Y * 2}, "class '1' has no training image"),
        ({"train_y": Y * 0, "test_y": Y[:3] * 0}, "only one class"),
        ({"classes": np.array(["a", "b"])}, "train image 2 has the label 2"),
        ({"classes": np.array([["a", "b"]])}, r"classes must have the shape \(c,\)"),
        ({"train_x": NAN}, "train image 4 has NaN"),
        ({"train_x": X * 1.0}, r"train image 0 has pixels outside 0\.\.1; scale them, or store uint8"),
        ({"test_x": X[:3, :5]}, "train and test images differ"),
        ({"test_x": X[:0], "test_y": Y[:0]}, "test holds no images"),
        ({"train_x": np.array([{}, []], dtype=object)}, "train_x holds pickled objects"),
    ],
)
def test_each_fault_is_named(save_npz: Save, change: dict[str, Any], message: str) -> None:
    root = save_npz(**SOUND | change)
    with pytest.raises(DataError, match=message) as caught:
        load(root)
    assert str(caught.value).startswith(f"npz {root}")


def test_a_fault_in_x_has_its_index_in_the_file(save_npz: Save) -> None:
    with pytest.raises(DataError, match="x image 4 has NaN"):
        load(save_npz(x=NAN, y=Y))


def test_an_empty_x_is_named(save_npz: Save) -> None:
    with pytest.raises(DataError, match="x holds no images"):
        load(save_npz(x=X[:0], y=Y[:0]))


@pytest.mark.parametrize("content", [b"", b"no archive", RANDOM.bytes(1000), b"PK\x03\x04" + RANDOM.bytes(1000)])
def test_random_bytes_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz archive"):
        load(tmp_path / "data.npz")


def test_a_damaged_archive_names_the_array(save_npz: Save) -> None:
    root = save_npz(**SOUND)
    content = bytearray(root.read_bytes())
    content[300:400] = bytes(100)
    root.write_bytes(content)
    with pytest.raises(DataError, match="train_x cannot be read"):
        load(root)


def test_a_missing_file_and_a_folder_are_no_file(tmp_path: Path) -> None:
    for root in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            load(root)


def test_an_archive_that_does_not_fit_is_refused(save_npz: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.data.decode.memory.available_memory", lambda: 100)
    with pytest.raises(MemoryError, match=r"train_[xy] need"):
        load(save_npz(**SOUND))


def test_the_pixels_of_the_real_pack_are_kept(shared: Callable[[str], Path]) -> None:
    root = shared("cifar10_mini.npz")
    data = load(root)
    with np.load(root) as arrays:
        assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), arrays["train_x"])
        assert np.array_equal(data.test.labels.numpy(), arrays["test_y"])
    assert data.classes[0] == "airplane"
    assert (len(data.train), len(data.test)) == (1000, 500)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("x_train y_train", "x_test y_test"),
        ("X_train Y_train", "X_val Y_val"),
        ("trainX trainY", "testX testY"),
        ("train_images train_labels", "test_images test_labels"),
        ("Training_x Training_y", "Testing_x Testing_y"),
    ],
)
def test_arrays_may_be_called_otherwise(save_npz: Save, train: str, test: str) -> None:
    names = dict(zip(f"{train} {test}".split(), SOUND.values(), strict=True))
    data, usual = load(save_npz(**names)), load(save_npz(**SOUND))
    assert torch.equal(data.train.images, usual.train.images)
    assert torch.equal(data.test.labels, usual.test.labels)


def test_two_arrays_for_the_same_are_refused(save_npz: Save) -> None:
    with pytest.raises(DataError, match="train_x and X_train both look like the same"):
        load(save_npz(**SOUND, X_train=X))


def test_arrays_that_are_not_used_are_told(save_npz: Save, caplog: pytest.LogCaptureFixture) -> None:
    load(save_npz(**SOUND, val_x=X, val_y=Y))
    assert "val_x is not used: test_x is tested on" in caplog.text


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 12), (np.uint16, 8), (np.int32, 8), (np.int64, 16)])
def test_whole_numbers_of_more_bits_have_one_white(
    save_npz: Save, dtype: type, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = RANDOM.integers(0, 2**bits, (6, 8, 7), dtype=np.int64)
    values[0, 0, 0] = 2**bits - 1
    data = load(save_npz(**SOUND | {"train_x": values.astype(dtype), "test_x": values[:3].astype(dtype)}))
    assert np.array_equal(data.train.images[:, 0].numpy(), values >> (bits - 8))
    assert f"({bits} bits)" in caplog.text


def test_white_may_be_set_for_floating_numbers(save_npz: Save) -> None:
    data = load(save_npz(**SOUND | {"train_x": X * 1.0, "test_x": X[:3] * 1.0}), white_level=255)
    torch.testing.assert_close(data.train.images, torch.from_numpy(X).permute(0, 3, 1, 2) / 255)


def test_numbers_that_are_no_pixels_go_from_the_least_to_the_largest_of_each_channel(
    save_npz: Save, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the images for training: what lies beyond in testing is cut off."""
    floating, whole = RANDOM.normal(size=(9, 8, 7, 3)) * (1, 30, 5000), RANDOM.integers(-1000, 3000, (9, 8, 7, 3))
    both: list[np.ndarray] = [floating, whole]
    for x in both:
        caplog.clear()
        data = load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]}))
        x[6, 0, 0] = 9e4
        data = load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]}))
        low, high = x[:6].min(axis=(0, 1, 2)), x[:6].max(axis=(0, 1, 2))
        expected = np.moveaxis((x - low) / (high - low), 3, 1).clip(0, 1)
        found = torch.cat([data.train.images, data.test.images])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        assert data.image_form.value_range == (tuple(low.tolist()), tuple(high.tolist()))
        assert "no pixels in 0..1; each channel is brought there" in caplog.text


@pytest.mark.parametrize("y", [np.arange(30) % 3, np.arange(30) / 7])
def test_of_arrays_that_are_split_the_range_is_of_the_images_for_training(save_npz: Save, y: np.ndarray) -> None:
    x = RANDOM.normal(size=(30, 8, 7))
    root = save_npz(x=x, y=y)
    for seed in range(5):  # in some the extremes are in the test set
        data = Npz(Npz.Config(root=root, split_seed=seed)).load()
        assert (data.train.images.min(), data.train.images.max()) == (0, 1)
        low, high = data.image_form.value_range or ((), ())
        assert ((x >= low[0]) & (x <= high[0])).all(axis=(1, 2)).sum() >= 24
        assert {low[0], high[0]} <= {*x.flatten()}


def test_a_range_may_be_set(save_npz: Save) -> None:
    x = RANDOM.normal(size=(9, 8, 7, 2))
    root = save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]})
    found = load(root, value_range=((-1.0, -2.0), (1.0, 2.0))).train.images
    expected = ((x[:6] / (2, 4)) + 0.5).clip(0, 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    with pytest.raises(DataError, match="must have 2 numbers from and to"):
        load(root, value_range=((0.0,), (1.0,)))
    with pytest.raises(ValueError, match="must lie below"):
        load(root, value_range=((0.0, 1.0), (1.0, 1.0)))


def test_a_number_far_out_is_told_and_the_others_are_normalised_all_the_same(
    save_npz: Save, caplog: pytest.LogCaptureFixture
) -> None:
    x = RANDOM.normal(size=(9, 520, 520, 1))
    load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]}))
    assert "lie far out" not in caplog.text
    x[0, 0, 0] = 1e6
    data = load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]}))
    values = data.train.images.double()
    assert data.std[0] == pytest.approx(float(values.std(correction=0)), rel=1e-3)
    assert data.std[0] < 1e-3
    assert "channel 0 deviates by" in caplog.text


def test_a_conversion_needs_little_more_than_its_result(save_npz: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    x = RANDOM.integers(-1000, 3000, (64, 64, 64)).astype(np.int16)
    whole = to_pixels(x[:, None], values_of([x[:, None]], "made up"), "made up")
    monkeypatch.setattr(arrays, "_CHUNK", 3 * x[0].nbytes)  # of which 64 is no multiple
    tracemalloc.start()
    values = values_of([x[:, None]], "made up")
    found = to_pixels(x[:, None], values, "made up")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.5 * found.nbytes
    assert torch.equal(found, whole)
    monkeypatch.setattr(arrays, "require_memory", Mock(side_effect=OutOfMemoryError("too much")))
    with pytest.raises(OutOfMemoryError):
        to_pixels(x[:, None], values, "made up")


@pytest.mark.parametrize("channels", [2, 4, 6, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_number_of_channels(save_npz: Save, channels: int, dtype: type) -> None:
    x: np.ndarray = (RANDOM.random((9, 16, 20, channels)) * (1 if dtype == np.float32 else 200)).astype(dtype)
    loaded = [
        load(save_npz(**SOUND | {"train_x": each[:6], "test_x": each[6:]})) for each in (x, np.moveaxis(x, 3, 1).copy())
    ]
    assert loaded[0].image_shape == (channels, 16, 20)
    assert torch.equal(loaded[0].train.images, loaded[1].train.images)


def test_16_bits_in_many_channels_keep_their_digits(save_npz: Save) -> None:
    x = RANDOM.integers(0, 60_000, (9, 16, 20, 5)).astype(np.uint16)
    x[..., 4] //= 600  # a channel of small numbers beside one of large ones
    found = load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]})).train.images
    assert found.dtype == torch.float32
    assert len(found[:, 4].unique()) > 90


def test_floating_whole_numbers_up_to_255_are_bytes(save_npz: Save, caplog: pytest.LogCaptureFixture) -> None:
    data = load(save_npz(**SOUND | {"train_x": X * 1.0, "test_x": X[:3] * 1.0}))
    torch.testing.assert_close(data.train.images, torch.from_numpy(X).permute(0, 3, 1, 2) / 255)
    assert "0..255 is taken for black to white" in caplog.text


def test_a_constant_channel_is_no_division_by_zero(save_npz: Save) -> None:
    x = RANDOM.normal(size=(9, 8, 7, 3))
    x[..., 1] = -4
    assert load(save_npz(**SOUND | {"train_x": x[:6], "test_x": x[6:]})).train.images[:, 1].eq(0).all()


def test_images_without_labels_are_unlabelled(save_npz: Save) -> None:
    assert load(save_npz(x=X)).classes == ("unlabelled",)
    assert load(save_npz(train_x=X, test_x=X[:3])).classes == ("unlabelled",)


def test_an_order_of_axes_that_is_a_guess_is_told(save_npz: Save, caplog: pytest.LogCaptureFixture) -> None:
    load(save_npz(**SOUND | {"train_x": X[:, :3], "test_x": X[:3, :3]}))
    assert "the last axis is taken for the channels, and data.layout says otherwise" in caplog.text


def test_a_class_that_is_named_twice_is_refused(save_npz: Save) -> None:
    with pytest.raises(DataError, match="classes names 'a' twice"):
        load(save_npz(**SOUND, classes=np.array(["a", "b", "a"])))
