"""What loaded data of each known kind owe whoever trains on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from datanas.data.base import ImageData, check_images
from datanas.data.types.class_splits import ClassSplitData, check_class_splits
from datanas.data.types.corpus import EOS, TextData
from datanas.data.types.file_set import ImageFileData
from datanas.data.types.masks import SegmentationData, check_masks


def check_image_data(data: ImageData) -> None:
    """Sound images with distinct classes, and the statistics of those for training."""
    check_images(data.train, data.test, data.classes, "contract")
    channels, height, width = data.image_shape
    assert data.train.images.shape == (len(data.train), channels, height, width)
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (channels,)
    assert data.mean.dtype == data.std.dtype == torch.float32
    assert (data.mean >= 0).all()
    assert (data.mean <= 1).all()
    assert (data.std > 0).all()


def check_class_split_data(data: ClassSplitData) -> None:
    """Sound images, classes that are in one part only, and the statistics of those for training."""
    check_class_splits(data, "contract")
    names = [name for part in data.parts().values() for name in part.classes]
    assert len(set(names)) == len(names)
    channels, _, _ = data.image_shape
    assert data.mean.shape == data.std.shape == (channels,)
    assert ((data.mean >= 0) & (data.mean <= 1) & (data.std > 0)).all()


def check_segmentation_data(data: SegmentationData) -> None:
    """Sound images and masks, distinct classes, and the statistics of those for training."""
    check_masks(data, "contract")
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (3,)
    assert ((data.mean >= 0) & (data.mean <= 1) & (data.std > 0)).all()
    assert all(len(set(part.names)) == len(part) for part in data.parts().values())


def check_image_file_data(data: ImageFileData) -> None:
    """Files that can be read, of distinct classes that all have some for training, and sound statistics."""
    channels, height, width = data.image_shape
    for part in (data.train, data.test):
        images, labels = part.begin(torch.arange(len(part)))()
        assert images.shape == (len(part), channels, height, width)
        assert torch.equal(labels, part.labels)
        assert 0 <= labels.min() <= labels.max() < len(data.classes)
    assert set(data.train.labels.tolist()) == set(range(len(data.classes)))
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (channels,)
    assert (data.std > 0).all()


def check_text_data(data: TextData) -> None:
    """Ids of the vocabulary, sentences that end, words that stand once and hold no blank."""
    for ids in (data.train, data.valid, data.test):
        assert ids.dtype == torch.int64
        assert ids.ndim == 1
        assert 0 <= ids.min() <= ids.max() < len(data.vocabulary)
        assert (ids != data.eos).any()
        assert ids[-1] == data.eos
    assert len(set(data.vocabulary)) == len(data.vocabulary)
    assert all(word.split() == [word] for word in data.vocabulary)
    assert data.vocabulary[data.eos] == EOS
    assert 0 <= data.digest < 2**63
    assert {"valid", "test"} <= set(data.unknown) <= {"train", "valid", "test"}
    for split, count in data.unknown.items():
        assert 0 <= count < len(getattr(data, split))


CHECKS: dict[type, Callable[[Any], None]] = {
    ImageFileData: check_image_file_data,
    ClassSplitData: check_class_split_data,
    ImageData: check_image_data,
    SegmentationData: check_segmentation_data,
    TextData: check_text_data,
}
