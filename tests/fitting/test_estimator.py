"""`ImageClassifier` as scikit-learn uses its estimators."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tests.fitting.test_fit import plan_for, settings

import datanas
from datanas import ImageClassifier
from datanas.core.errors import ConfigError, DataError
from datanas.fitting import fit as fitting


def plain_plan(given: Any, seconds: float, **more: Any) -> Any:
    found = plan_for(given, seconds, **more)
    return type(found)(**{**vars(found), "race": None, "epochs": 2})


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "make_plan", plain_plan)
        yield


def config() -> dict[str, Any]:
    found = settings(Path("unused"))
    del found["run"]
    return found


@pytest.fixture(scope="module")
def pictures() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """8x8 images in three classes that differ in brightness."""
    rng = np.random.default_rng(0)
    numbers = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 8, 8, 3)) + 80 * numbers[:, None, None, None]
    return images.astype(np.uint8), np.array(["cow", "ant", "bee"])[numbers]


@pytest.fixture(scope="module")
def fitted(pictures: tuple[NDArray[np.uint8], NDArray[np.str_]]) -> ImageClassifier:
    return ImageClassifier(time="30s", config=config()).fit(*pictures)


def test_it_predicts_labels_as_they_were_given(fitted: ImageClassifier, pictures: Any) -> None:
    images, labels = pictures
    assert fitted.classes_.tolist() == ["ant", "bee", "cow"]
    probabilities = fitted.predict_proba(images)
    assert probabilities.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (fitted.predict(images) == fitted.classes_[probabilities.argmax(axis=1)]).all()
    assert fitted.score(images, labels) == (fitted.predict(images) == labels).mean()
    assert "accuracy" in fitted.report_


def test_it_learns_what_is_there_to_learn(fitted: ImageClassifier, pictures: Any) -> None:
    assert fitted.score(*pictures) > 0.5


def test_it_outlives_a_pickle(fitted: ImageClassifier, pictures: Any) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(pictures[0]), fitted.predict_proba(pictures[0]))


def test_a_clone_has_the_settings_and_is_not_fitted(fitted: ImageClassifier, pictures: Any) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(pictures[0])


def test_it_stands_in_a_pipeline_and_in_cross_validation(pictures: Any) -> None:
    pipeline = make_pipeline(FunctionTransformer(), ImageClassifier(time="30s", config=config()))
    scores = cross_val_score(pipeline, *pictures, cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert (scores >= 0).all()


def test_one_seed_gives_one_network(fitted: ImageClassifier, pictures: Any) -> None:
    again = ImageClassifier(time="30s", config=config()).fit(*pictures)
    assert again.files_["model.safetensors"] == fitted.files_["model.safetensors"]


def test_fitted_again_it_knows_the_new_labels_only(fitted: ImageClassifier, pictures: Any) -> None:
    images, labels = pictures
    again = clone(fitted).fit(images, labels)
    again.predict(images)
    again.fit(images[labels != "cow"], labels[labels != "cow"])
    assert again.predict_proba(images).shape == (60, 2)
    assert set(again.predict(images)) <= {"ant", "bee"}


def test_a_folder_and_pil_images_are_taken_too(tmp_path: Path, pictures: Any) -> None:
    images, labels = pictures
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "pictures" / label / f"{place}.png")
    found = ImageClassifier(time="30s", config=config(), root=str(tmp_path / "runs")).fit(tmp_path / "pictures")
    assert found.classes_.tolist() == ["ant", "bee", "cow"]
    assert found.predict(Image.fromarray(images[0])).shape == (1,)
    assert datanas.load(next((tmp_path / "runs").iterdir())).output_names == ("ant", "bee", "cow")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 64)), np.zeros(4), "tables of numbers are not searched"),
        (np.zeros((4, 8, 8), np.uint8), [0.5, 1, 0.25, 2], "labels must be whole numbers or words"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1, 2, 3], "a class needs several images"),
        (np.zeros((4, 8, 8), np.uint8), np.array(["a", None, "a", "b"], object), "none may be missing"),
        (np.zeros((4, 8, 8), np.uint8), None, "y: is needed with images"),
        (np.zeros((4, 8, 8), np.uint8), np.zeros(3), r"y: must have the shape \(4,\)"),
        (np.zeros((4, 8, 8, 8), np.uint8), np.zeros(4), "no axis can be told to be the channels"),
        ([Image.new("L", (8, 8)), Image.new("L", (9, 8))], [0, 1], "differ in size"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageClassifier().fit(images, labels)


def test_a_path_to_other_things_than_classes_is_refused_at_once(tmp_path: Path, pictures: Any) -> None:
    table = tmp_path / "table.csv"
    for place, image in enumerate(pictures[0]):
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    table.write_text("path,label\n" + "".join(f"{place}.png,{place % 3}.5\n" for place in range(60)))
    (tmp_path / "words.txt").write_text("some words\n" * 99)
    for path, message in ((table, "these have numbers"), (tmp_path / "words.txt", "classification")):
        with pytest.raises(ConfigError, match=message):
            ImageClassifier(time="30s", config=config(), root=str(tmp_path / "runs")).fit(path)


def test_of_a_path_the_validation_share_is_kept(tmp_path: Path, pictures: Any) -> None:
    np.savez(tmp_path / "mine.npz", x=pictures[0], y=np.arange(60) % 3)
    found = ImageClassifier(time="30s", config=config(), validation=0.5).fit(tmp_path / "mine.npz")
    assert "on 30 test examples" in found.report_


def test_a_path_with_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a path holds its labels"):
        ImageClassifier().fit(tmp_path, [0])
