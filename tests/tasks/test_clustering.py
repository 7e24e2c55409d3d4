"""Clustering: parts and batches without labels, thresholds that move, pairs across processes, and its figures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.core.processes import Processes
from datanas.core.settings import validate
from datanas.data.base import ImageData, ImageSet
from datanas.tasks.adaptive_pairs import (
    MEETING,
    label_features,
    pair_loss,
    relations,
    similarities,
    thresholds,
)
from datanas.tasks.cluster_head import Assignment
from datanas.tasks.clustering import Clustering
from datanas.testing.two_processes import together

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")


def images(count: int, seed: int = 0, channels: int = 3) -> ImageSet:
    """8x8 images in three classes that differ in brightness."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 60, (count, channels, 8, 8), generator=generator)
    labels = torch.arange(count) % 3
    return ImageSet((noise + 80 * labels[:, None, None, None]).to(torch.uint8), labels)


DATA = ImageData(images(60), images(30, 1), CLASSES)


def task(data: object = DATA, seed: int = 0, **settings: Any) -> Clustering:
    return Clustering(validate(Clustering.Config, settings, "task"), data, CPU, seed)


def by_brightness(x: Tensor) -> Assignment:
    """A network that is sure of the class of each image, which its normalised mean tells."""
    mean = x.mean(dim=(1, 2, 3))
    cluster = (mean > -0.6).long() + (mean > 0.6).long()
    return Assignment(label_features(50.0 * torch.eye(3)[cluster]), mean[:, None])


def collapsed(x: Tensor) -> Assignment:
    return Assignment(label_features(torch.tensor([[50.0, 0.0, 0.0]]).expand(len(x), -1)), x.mean(dim=(2, 3)))


def undecided(x: Tensor) -> Assignment:
    """Unlike for every image, so that some pairs are in between."""
    return Assignment(label_features(x.flatten(1)[:, :3]), x.mean(dim=(2, 3)))


def parts(made: Clustering) -> dict[str, list[int]]:
    return {part: indices.tolist() for part, indices in made.chosen().items()}


def test_parts_are_disjoint_and_all_there_is() -> None:
    made = task()
    made.split_search("2:1", 6, None)
    found = parts(made)
    assert (len(found["weights"]), len(found["alpha"])) == (40, 20)
    assert sorted(found["weights"] + found["alpha"]) == list(range(60))


def relabelled(data: ImageData) -> ImageData:
    """The same images in other classes."""
    train, test = (replace(part, labels=torch.arange(len(part)) * 3 // len(part)) for part in (data.train, data.test))
    return replace(data, train=train, test=test)


@pytest.mark.parametrize("split", ["search", "examples", "train"])
def test_labels_decide_no_part_and_no_batch(split: str) -> None:
    batches = []
    for data in (DATA, relabelled(DATA)):
        made = task(data)
        if split == "train":
            made.split_train(0.25, 6)
        else:
            made.split_search("1:1", 6, 24 if split == "examples" else None)
        part: Any = "train" if split == "train" else "weights"
        batches.append((parts(made), made.batch(part, 3)))
    assert batches[0][0] == batches[1][0]
    assert torch.equal(batches[0][1].views, batches[1][1].views)
    assert not hasattr(batches[0][1], "labels")


def test_parts_are_not_balanced_over_classes() -> None:
    """As they would be if labels were read: by chance some of ten splits are not."""
    counts = []
    for seed in range(10):
        made = task(seed=seed)
        made.split_search("1:1", 6, None)
        counts.append(torch.bincount(DATA.train.labels[parts(made)["weights"]], minlength=3).tolist())
    assert any(count != [10, 10, 10] for count in counts)


def test_a_search_may_use_some_of_the_images() -> None:
    made = task()
    made.split_search("1:1", 6, 24)
    found = parts(made)
    assert len(set(found["weights"]) | set(found["alpha"])) == 24


def test_the_loss_believes_in_the_image_and_learns_from_its_view() -> None:
    made = task()
    made.split_search("1:1", 10, None)
    batch = made.batch("weights", 0)
    views, plain = (similarities(undecided(x).labels) for x in (batch.views, batch.images))
    assert float(made.loss(undecided, batch)) == pytest.approx(
        float(pair_loss(views, relations(plain, *thresholds(0.0))))
    )


def test_it_may_believe_in_the_view_as_well() -> None:
    made = task(relations="view")
    made.split_search("1:1", 10, None)
    batch = made.batch("weights", 0)
    seen = []

    def model(x: Tensor) -> Assignment:
        seen.append(x)
        return undecided(x)

    cosines = similarities(undecided(batch.views).labels)
    assert float(made.loss(model, batch)) == float(pair_loss(cosines, relations(cosines, *thresholds(0.0))))
    assert len(seen) == 1


def test_the_view_is_augmented_and_the_image_is_not() -> None:
    made = task(train_augment={"crop_padding": 0, "flip": False}, search_augment={"crop_padding": 2})
    made.split_search("1:1", 10, None)
    made.split_train(0.0, 10)
    searched, trained = made.batch("weights", 0), made.batch("train", 0)
    assert not torch.equal(searched.images, searched.views)
    torch.testing.assert_close(trained.images, trained.views)


def test_lambda_rises_after_every_pass_and_never_falls() -> None:
    made = task(eta=0.1)
    made.split_search("1:1", 10, None)
    steps = made.steps_per_epoch("weights")
    lambdas = []
    for step in (0, steps - 1, steps, 0, 3 * steps, 9 * steps):
        made.loss(undecided, made.batch("weights", step))
        lambdas.append(made.state_dict()["lambda"])
    assert lambdas == pytest.approx([0, 0, 0.11, 0.11, 0.33, MEETING])


def test_passes_through_the_alpha_part_move_nothing() -> None:
    made = task(eta=0.1)
    made.split_search("1:1", 10, None)
    made.loss(undecided, made.batch("alpha", 5 * made.steps_per_epoch("alpha")))
    assert made.state_dict() == {"lambda": 0.0, "finished": 0}


def test_a_restored_task_goes_on_where_the_other_was() -> None:
    first, second = task(eta=0.01), task(eta=0.01)
    for made in (first, second):
        made.split_train(0.0, 10)
    steps = first.steps_per_epoch("train")
    for step in range(0, 8 * steps, steps):
        first.loss(undecided, first.batch("train", step))
    second.load_state_dict(first.state_dict())
    last = [made.loss(undecided, made.batch("train", 8 * steps)) for made in (first, second)]
    assert torch.equal(*last)
    assert first.state_dict() == second.state_dict()


def test_evaluating_leaves_lambda_alone() -> None:
    made = task(eta=0.1)
    made.split_search("1:1", 10, None)
    made.loss(undecided, made.batch("weights", made.steps_per_epoch("weights")))
    before = made.state_dict()
    made.evaluate(undecided, "alpha")
    made.evaluate(undecided, "test")
    assert made.state_dict() == before


@pytest.mark.parametrize("settings", [{"relations": "image"}, {"relations": "view"}])
def test_pairs_across_processes_count_in_loss_and_gradient(settings: dict[str, Any]) -> None:
    def found(processes: Processes) -> tuple[float, Tensor]:
        made = task(**settings)
        made.processes = processes
        made.split_search("1:1", 10, None)
        weight = torch.eye(3, dtype=torch.float64).requires_grad_()

        def model(x: Tensor) -> Assignment:
            return Assignment(label_features(x.flatten(1)[:, :3].double() @ weight), x.flatten(1))

        loss = made.loss(model, made.batch("weights", 1))
        loss.backward()
        assert weight.grad is not None
        return loss.item(), weight.grad

    whole, gradient = found(Processes())
    shared = together(found)
    assert [loss for loss, _ in shared] == pytest.approx([whole, whole])
    torch.testing.assert_close((shared[0][1] + shared[1][1]) / 2, gradient)
    assert gradient.any()


def test_a_process_needs_two_images_of_a_batch() -> None:
    """Whose pooled maps its batch norm takes statistics of."""

    def split(processes: Processes) -> None:
        made = task()
        made.processes = processes
        made.split_train(0.0, 2)

    with pytest.raises(ConfigError, match=r"batch_size: 2 images among 2 processes .* clustering needs 2"):
        together(split)


def test_processes_find_together_what_one_finds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 10)

    def found(processes: Processes) -> dict[str, float]:
        made = task()
        made.processes = processes
        return made.evaluate(by_brightness, "test")

    alone = found(Processes())
    assert together(found) == [pytest.approx(alone)] * 2


def test_a_process_without_images_waits_for_the_others() -> None:
    def found(processes: Processes) -> dict[str, float]:
        made = task()
        made.processes = processes
        return made.evaluate(by_brightness, "test")  # of 30 images, in one batch

    assert together(found) == [pytest.approx(found(Processes()))] * 2


def test_sure_and_right_clusters_have_the_best_figures() -> None:
    found = task(search_augment={"crop_padding": 0}).evaluate(by_brightness, "test")
    assert {name: found[name] for name in ("nmi", "ari", "accuracy", "clusters")} == {
        "nmi": 1.0,
        "ari": 1.0,
        "accuracy": 1.0,
        "clusters": 3.0,
    }
    assert found["loss"] == pytest.approx(0.0, abs=1e-5)
    assert found["information"] == pytest.approx(math.log(3), rel=1e-3)


def test_a_collapse_has_the_least_loss_but_is_not_preferred() -> None:
    made = task()
    whole, fallen, unsure = (made.monitor(model, "test") for model in (by_brightness, collapsed, undecided))
    assert (fallen["nmi"], fallen["clusters"]) == (0.0, 1.0)
    assert fallen["loss"] == pytest.approx(0.0, abs=1e-6)
    assert made.selection_score(whole) > made.selection_score(unsure) > made.selection_score(fallen)


def test_what_is_preferred_is_known_without_labels() -> None:
    one, other = (task(data).monitor(undecided, "test") for data in (DATA, relabelled(DATA)))
    assert one["nmi"] != other["nmi"]
    for name in ("loss", "information", "clusters"):
        assert one[name] == other[name]
    assert task().selection_score(one) == task().selection_score(other)


def test_k_means_on_pixels_and_features_stands_beside_the_figures_of_test_and_validation() -> None:
    made = task()
    made.split_train(0.25, 6)
    for part in ("test", "validation"):
        found = made.evaluate(undecided, part)
        assert found["pixels/accuracy"] == 1.0
        assert found["pixels/nmi"] == pytest.approx(1.0)
        assert found["features/nmi"] == pytest.approx(1.0)
        assert found["nmi"] < 0.9
        assert made.monitor(undecided, part) == {name: x for name, x in found.items() if "/" not in name}


def test_a_search_measures_no_references() -> None:
    made = task()
    made.split_search("1:1", 6, None)
    assert not [name for name in made.evaluate(undecided, "alpha") if "/" in name]
    assert not [name for name in made.evaluate(undecided, "test", 12) if "/" in name]


def test_joined_images_are_trained_on_and_measured_together() -> None:
    made = task(joined=True)
    made.split_train(0.0, 9)
    seen = torch.cat([made.batch("train", step).images for step in range(made.steps_per_epoch("train"))])
    assert len(seen) == 90
    assert sorted(parts(made)["test"]) == sorted(parts(made)["train"]) == list(range(90))
    assert made.evaluate(by_brightness, "test")["accuracy"] == 1.0


def test_apart_the_test_images_are_not_trained_on() -> None:
    made = task()
    made.split_train(0.0, 6)
    assert (len(parts(made)["train"]), len(parts(made)["test"])) == (60, 30)


@pytest.mark.parametrize(("settings", "clusters"), [({}, 3), ({"clusters": 2}, 2), ({"clusters": 7}, 7)])
def test_clusters_need_not_be_as_many_as_classes(settings: dict[str, Any], clusters: int) -> None:
    made = task(**settings)
    made.split_train(0.0, 6)
    assert made.num_classes == made.describe()["clusters"] == clusters
    network = datanas.build_network(
        datanas.architecture("gdas"), "clustering", num_classes=clusters, channels=2, cells=3
    )
    assert made.loss(network, made.batch("train", 0)).isfinite()
    found = made.evaluate(network.eval(), "test")
    assert 0 <= found["nmi"] <= 1
    assert 1 <= found["clusters"] <= clusters


def test_grey_images_are_clustered_too() -> None:
    made = task(ImageData(images(60, channels=1), images(30, 1, channels=1), CLASSES))
    made.split_search("1:1", 6, None)
    stem = made.make_stem(2)
    assert stem(made.batch("weights", 0).views)[0].shape == (6, 6, 8, 8)


def test_it_says_how_an_image_becomes_an_input() -> None:
    found = task().preprocessing()
    assert found["mean"] == pytest.approx(DATA.mean.tolist(), abs=1e-6)
    assert found["std"] == pytest.approx(DATA.std.tolist(), abs=1e-6)


@pytest.mark.parametrize("clusters", [0, 1])
def test_one_cluster_is_refused(clusters: int) -> None:
    with pytest.raises(ConfigError, match=r"task\.clusters"):
        task(clusters=clusters)


@pytest.mark.parametrize(
    ("clusters", "split", "message"),
    [
        (31, lambda made: None, "30 images of the part 'test' cannot be put into 31 clusters"),
        (30, lambda made: made.split_search("3:1", 6, None), "15 images of the part 'alpha' cannot be put into 30"),
        (20, lambda made: made.split_train(0.25, 6), "15 images of the part 'validation' cannot be put into 20"),
        (8, lambda made: made.split_search("1:1", 6, 12), "6 images of the part 'weights' cannot be put into 8"),
    ],
)
def test_more_clusters_than_images_are_refused(clusters: int, split: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(task(clusters=clusters))


def test_images_smaller_than_all_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.stem: .* the stem imagenet divides .* by 32, .* have 8 pixels"):
        task(stem="imagenet")


def test_an_auxiliary_classifier_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.auxiliary: task clustering has no auxiliary classifier"):
        Clustering.head(Clustering.Config(), (8, 16), 3)


def test_a_network_finds_clusters_by_itself() -> None:
    """Two of the three at least: of five seeds one found all."""
    made = task(eta=0.05, search_augment={"crop_padding": 1}, train_augment={"crop_padding": 1})
    made.split_train(0.0, 20)
    torch.manual_seed(0)
    network = datanas.build_network(datanas.architecture("gdas"), "clustering", num_classes=3, channels=2, cells=3)
    before = made.monitor(network.eval(), "test")
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.02, momentum=0.9)
    for step in range(30):
        optimizer.zero_grad()
        made.loss(network, made.batch("train", step)).backward()
        optimizer.step()
    after = made.monitor(network.eval(), "test")
    assert before["nmi"] < 0.3
    assert after["nmi"] > 0.5
    assert after["information"] > before["information"]


UNLABELLED = ImageData(
    replace(DATA.train, labels=0 * DATA.train.labels), replace(DATA.test, labels=0 * DATA.test.labels), ("unlabelled",)
)


def test_images_without_labels_are_measured_by_information_alone(caplog: pytest.LogCaptureFixture) -> None:
    made = task(UNLABELLED, clusters=3)
    assert "the images have no labels: nmi, ari and accuracy are not known" in caplog.text
    made.split_search("1:1", 6, None)
    for part in ("alpha", "test"):
        figures = made.evaluate(by_brightness, part)
        assert figures.keys() == {"loss", "information", "clusters"}
        known = replace_labels(made).evaluate(by_brightness, part)
        assert figures == {name: known[name] for name in figures}
    assert (made.metric.name, made.metric.is_share, made.describe()["classes"]) == ("information", False, [])


def replace_labels(made: Clustering) -> Clustering:
    """The task on the same images with their labels."""
    other = task(DATA, clusters=made.num_classes)
    other.split_search("1:1", 6, None)
    return other


def test_images_without_labels_need_a_number_of_clusters() -> None:
    with pytest.raises(ConfigError, match=r"task\.clusters: the images have no labels to count"):
        task(UNLABELLED)


def test_a_run_tells_by_its_record_how_it_was_measured() -> None:
    assert Clustering.measuring(task(UNLABELLED, clusters=2).describe()).metric.name == "information"
    assert Clustering.measuring(task().describe()).metric.name == "nmi"
