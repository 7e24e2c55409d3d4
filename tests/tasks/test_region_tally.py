"""Which classes are scored, and what counted pixels give."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from datanas.core.errors import ConfigError
from datanas.data.types.masks import VOID
from datanas.tasks.region_tally import RegionTally, ScoredClasses

CLASSES = ("ant", "bee", "cow")
MASKS = torch.tensor([[[0, 1, 2, VOID]]], dtype=torch.uint8)


def certain(*classes: int) -> torch.Tensor:
    """Log-probabilities of a row of pixels, all but sure of these classes."""
    return (8.0 * F.one_hot(torch.tensor([[classes]]), 3)).log_softmax(-1).permute(0, 3, 1, 2)


def test_classes_that_are_not_scored_become_void() -> None:
    assert ScoredClasses(CLASSES, None).labels(MASKS).tolist() == [[[0, 1, 2, VOID]]]
    scored = ScoredClasses(CLASSES, ("cow", "ant"))
    assert scored.names == ["ant", "cow"]
    assert scored.labels(MASKS).tolist() == [[[0, VOID, 2, VOID]]]


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.classes: the data have no class 'cows'; did you mean 'cow'"):
        ScoredClasses(CLASSES, ("cows",))


def test_figures_by_hand() -> None:
    tally = RegionTally(ScoredClasses(CLASSES, None), 2, torch.device("cpu"))
    tally.add([1], certain(0, 0, 2, 1), MASKS)
    tally.add([0], certain(0, 1, 1, 1), torch.tensor([[[0, 1, 1, VOID]]], dtype=torch.uint8))
    found = tally.figures()
    assert found["iou/ant"] == pytest.approx(2 / 3)
    assert found["iou/bee"] == pytest.approx(2 / 3)
    assert found["iou/cow"] == 1
    assert found["miou"] == pytest.approx(7 / 9)
    assert tally.regions().tolist() == [[[1, 2, 0], [1, 2, 0], [1, 2, 0]], [[1, 0, 1], [1, 1, 1], [2, 0, 1]]]
    assert found["pixel_accuracy"] == pytest.approx(5 / 6)
    right, wrong = (-float(certain(0)[0, label]) for label in (0, 1))
    assert found["loss"] == pytest.approx((5 * right + wrong) / 6)


def test_pixels_of_a_class_that_is_not_scored_count_for_none() -> None:
    """Whatever they were taken for; a pixel that is taken for such a class is missed all the same."""
    tally = RegionTally(ScoredClasses(CLASSES, ("ant", "cow")), 1, torch.device("cpu"))
    tally.add([0], certain(0, 0, 1, 2), MASKS)
    found = tally.figures()
    assert (found["iou/ant"], found["iou/cow"]) == (1, 0)
    assert "iou/bee" not in found
    assert tally.regions().shape == (1, 3, 2)
