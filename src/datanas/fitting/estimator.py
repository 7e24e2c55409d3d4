"""A fit in scikit-learn's manner: `ImageClassifier(time="10m").fit(X, y).predict(X)`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from torch.utils.data import Dataset

from datanas.core.errors import ConfigError
from datanas.core.own_function import Function
from datanas.core.settings import merge
from datanas.data import datasets
from datanas.fitting.fit import fit
from datanas.fitting.in_memory import write_in_memory
from datanas.fitting.recognise import recognise
from datanas.kernels.hardware import read_macs


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Search, choose and train a network that classifies images, within a time (`datanas.fit`).

    Args:
        time: for all of it, such as "10m".
        macs: multiply-adds that the network may have, such as "2M"; None for as many as there is time to train.
        seed: decides every random number.
        races: choose among trained candidates where there is time.
        validation: share of the images that is kept from training, for the figures of `report_`.
        root: the folder that the runs are written in, one a fit; None keeps none.
        config: settings that hold whatever is planned, nested as in a recipe.
        loss, metric, transform: of one's own, as for `datanas.fit`; one that is no function by its name, which cloning
            keeps.
        quiet: no progress on stderr.

    Attributes:
        classes_: the labels, sorted, in the order of the columns of `predict_proba`.
        report_: what it reached on the images that were kept back, and what it was compared with, as text.

    >>> ImageClassifier(time="5m", macs="1M").get_params()["macs"]
    '1M'
    """

    def __init__(
        self,
        time: str = "10m",
        macs: str | int | None = None,
        *,
        seed: int = 0,
        races: bool = True,
        validation: float = 0.1,
        root: str | None = None,
        config: Mapping[str, Any] | None = None,
        loss: Function | str | None = None,
        metric: Function | str | None = None,
        transform: Function | str | None = None,
        quiet: bool = True,
    ) -> None:
        self.time = time
        self.macs = macs
        self.seed = seed
        self.races = races
        self.validation = validation
        self.root = root
        self.config = config
        self.loss = loss
        self.metric = metric
        self.transform = transform
        self.quiet = quiet

    def fit(self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None) -> Self:
        """Fit images and their labels.

        Args:
            X: (n, h, w), (n, h, w, c) or (n, c, h, w), of whole or floating numbers; a list of PIL images or tensors of
                one size; or what holds its labels: the path of a folder of class folders, an .npz or a .csv, a torch
                Dataset of (image, label), or a pair (training, testing) of Datasets or of (X, y).
            y: (n,), of whole numbers or words; left out where X holds the labels.
            groups: (n,), whole numbers or words: images of one group, such as those of one patient, are on one side of
                every split that is made here.

        Raises:
            ConfigError, DataError: as `datanas.fit`.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.__dict__.pop("_loaded", None)
            if isinstance(X, str | Path):
                if y is not None or groups is not None:
                    if y is None:
                        raise ConfigError("groups: are of images in memory; files say theirs themselves (docs/data.md)")
                    raise ConfigError("y: a path holds its labels; leave it out")
                source, labels = Path(X), None
            else:
                given = X if y is None and isinstance(X, Dataset | tuple) else (X, y)
                source, labels = write_in_memory(given, Path(self.root or folder), only_classes=True, groups=groups)
            settings = merge({"seed": self.seed, "run": {"root": self.root or folder}}, self.config or {})
            own = settings.get("data")
            recognised = recognise(source, "classification", own if isinstance(own, Mapping) else None)["data"]
            if "test_share" in datasets[recognised["name"]].Config.model_fields:
                settings = merge({"data": {"test_share": self.validation}}, settings)
            result = fit(
                source,
                self.time,
                task="classification",
                config=settings,
                max_macs=None if self.macs is None else read_macs(self.macs),
                races=self.races,
                loss=self.loss,
                metric=self.metric,
                transform=self.transform,
                quiet=self.quiet,
            )
            # The network as bytes: an estimator can be pickled, and outlives the folder.
            self.files_ = {file.name: file.read_bytes() for file in result.export.iterdir()}
            self.report_ = result.outcome.text()
        names = self._predictor().output_names
        assert names is not None
        self.classes_: NDArray[Any] = np.asarray(names) if labels is None else labels
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,), the likeliest label of each image; X as for `fit`, or whatever `datanas.load(...).predict` takes."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[likeliest]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """(n, classes), the probability of each label."""
        probabilities: NDArray[np.float32] = self._predictor().predict_proba(X)
        return probabilities

    def _predictor(self) -> Any:
        from datanas.deploy.predict import load

        if not hasattr(self, "files_"):
            raise NotFittedError("this ImageClassifier is not fitted yet; call fit")
        if "_loaded" not in vars(self):
            with tempfile.TemporaryDirectory() as folder:
                for name, content in self.files_.items():
                    (Path(folder) / name).write_bytes(content)
                self._loaded = load(folder)
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}
