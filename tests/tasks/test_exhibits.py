"""What the tasks other than classification show, against what stands beside it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.exhibits import FigureTable, Pictures
from datanas.tasks.cluster_exhibits import cluster_exhibits
from datanas.tasks.continuation import continuation
from datanas.tasks.episode_exhibits import episode_exhibits
from datanas.tasks.mask_exhibits import Segmented, mask_exhibits
from datanas.tasks.thumbnails import blended, class_colours, framed, in_a_row, to_pixels


def pixels(content: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_masks_lie_over_images_in_the_colours_of_the_legend() -> None:
    image = torch.zeros(3, 20, 10, dtype=torch.uint8)
    truth = torch.zeros(20, 10, dtype=torch.uint8)
    truth[10:] = 255
    found = torch.ones(20, 10, dtype=torch.uint8)
    table, pictures = mask_exhibits(
        {"miou": 0.5, "iou/sky": 0.5}, [Segmented(image, truth, found, 1.0)], ["sky", "cow"]
    )
    assert isinstance(table, FigureTable)
    assert isinstance(pictures, Pictures)
    assert table.rows == [["sky", 0.5]]
    assert [name for name, _ in pictures.legend] == ["sky", "cow"]
    shown = pixels(pictures.pictures[0].content)
    assert shown.shape == (20, 38, 3)
    colours = [[round(0.6 * int(colour[i : i + 2], 16)) for i in (1, 3, 5)] for _, colour in pictures.legend]
    assert np.abs(shown[5, 19].astype(int) - colours[0]).max() <= 1
    assert shown[15, 19].tolist() == [0, 0, 0], "void has no colour"
    assert np.abs(shown[5, 33].astype(int) - colours[1]).max() <= 1
    assert "pixels of sky" in pictures.pictures[0].alt
    assert "found cow" in pictures.pictures[0].alt


def test_more_classes_than_colours_share_them_and_the_legend_says_so() -> None:
    names = [str(number) for number in range(10)]
    _, pictures = mask_exhibits({}, [], names)
    assert isinstance(pictures, Pictures)
    assert pictures.legend[0][0] == "0, 8"
    assert len({colour for _, colour in pictures.legend}) == len(pictures.legend) == 8


def test_clusters_are_told_by_size_and_commonest_class() -> None:
    clusters, labels = torch.tensor([2, 2, 2, 0, 0]), torch.tensor([1, 1, 0, 0, 0])
    samples = {each: torch.zeros(2, 3, 8, 8, dtype=torch.uint8) for each in (0, 2)}
    table, pictures = cluster_exhibits(clusters, labels, samples, ["cat", "dog"])
    assert isinstance(table, FigureTable)
    assert isinstance(pictures, Pictures)
    assert table.rows == [["2", 3, "dog", pytest.approx(2 / 3)], ["0", 2, "cat", 1.0]]
    assert [each.caption for each in pictures.pictures] == [
        "cluster 2: 3 images, 67% dog",
        "cluster 0: 2 images, 100% cat",
    ]
    table, _ = cluster_exhibits(clusters, None, samples, ["unlabelled"])
    assert isinstance(table, FigureTable)
    assert table.rows == [["2", 3], ["0", 2]]


def test_queries_of_an_episode_are_framed_as_right_or_wrong() -> None:
    images = [torch.full((3, 1, 8, 8), 100, dtype=torch.uint8) for _ in range(2)]
    (pictures,) = episode_exhibits(images, torch.tensor([[0, 1], [1, 1]]), 1, ["a", "b"])
    assert isinstance(pictures, Pictures)
    assert [each.caption for each in pictures.pictures] == [
        "a: 1 of 2 recognised; others taken for b",
        "b: 2 of 2 recognised",
    ]
    colours = {name: [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for name, colour in pictures.legend}
    shown = pixels(pictures.pictures[0].content)
    frames = [shown[0, place].tolist() for place in (0, 18, 36)]
    assert frames == [colours["to learn from"], colours["a query, right"], colours["a query, wrong"]]


def test_a_mask_is_scaled_without_mixing_classes() -> None:
    mask = torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8)
    found = class_colours(mask, ["#ff0000", "#0000ff"], (6, 6))
    assert {tuple(each) for each in found.reshape(-1, 3).tolist()} == {(255, 0, 0), (0, 0, 255)}


def test_rows_of_pictures_of_several_sizes_keep_each_as_it_is() -> None:
    first, second = np.full((4, 3), 7, np.uint8), np.full((2, 5, 3), 9, np.uint8)
    found = in_a_row([first, second])
    assert found.shape == (4, 3 + 4 + 5, 3)
    assert (found[:, :3] == 7).all()
    assert (found[:2, 7:] == 9).all()
    assert (found[2:, 7:] == 255).all()


def test_a_frame_is_around_and_an_overlay_is_within() -> None:
    image = to_pixels(torch.full((3, 2, 2), 0.5))
    assert framed(image, "#010203", 1).tolist()[0] == [[1, 2, 3]] * 4
    assert framed(image, "#010203", 1)[1:-1, 1:-1].tolist() == image.tolist()
    assert (blended(image, np.zeros((2, 2, 3), np.uint8)) == image).all()


class Counting:
    """Foretells the number after the last, and carries how many words it has read."""

    def __call__(self, given: Any) -> Any:
        tokens, state = given
        self.read = (state or 0) + len(tokens)
        scores = torch.full((len(tokens), 1, 10), -50.0)
        scores[-1, 0, (int(tokens[-1, 0]) + 1) % 10] = 0.0
        scores[-1, 0, 7] = -1.0
        return type("Output", (), {"state": self.read, "logits": scores})


def test_a_text_goes_on_with_the_likeliest_or_a_drawn_word_and_never_with_one() -> None:
    model, cpu = Counting(), torch.device("cpu")
    assert continuation(model, [1, 2], 3, cpu) == [3, 4, 5]
    assert model.read == 4, "every word is read once, the last not at all"
    assert continuation(model, [2], 2, cpu, never=3) == [7, 8]
    drawn = [continuation(model, [2], 8, cpu, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) > 1
    assert continuation(model, [2], 3, cpu, generator=torch.Generator(), temperature=0.01) == [3, 4, 5]
