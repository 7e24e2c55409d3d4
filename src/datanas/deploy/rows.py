"""Networks that give a row of numbers an image: of classes or clusters, of labels, or the numbers themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.deploy.pictures import Inputs
from datanas.deploy.predictions import ClassPredictions, LabelPredictions, NumberPredictions
from datanas.deploy.predictor import BATCH_SIZE, ImagePredictor, ResultT
from datanas.tasks.adaptive_pairs import cluster_shares


class RowPredictor(ImagePredictor[ResultT]):
    """What they share; one that is built on it says the `result` of names, columns and rows, and what a row is."""

    result: ClassVar[Callable[..., Any]]
    unnamed: ClassVar[str] = "{}"
    """What a column is called by its number, where the outputs of the network have no names."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each column is of."""
        return self.use.outputs or tuple(map(self.unnamed.format, range(self.num_classes)))

    def predict(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> ResultT:
        classes = self.classes
        parts = [*self._predicted(inputs, batch_size, skip_broken)]
        names = tuple(name for names, _ in parts for name in names)
        result: ResultT = type(self).result(names, classes, np.concatenate([rows for _, rows in parts]))
        return result

    def predict_batches(
        self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> Iterator[ResultT]:
        """As `predict`, a batch after the other: of as many images as there may be."""
        classes = self.classes
        for names, rows in self._predicted(inputs, batch_size, skip_broken):
            yield type(self).result(names, classes, rows)

    def _predicted(
        self, inputs: Inputs, batch_size: int, skip_broken: bool
    ) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        for names, pixels in self._batches(inputs, batch_size, skip_broken):
            yield names, self._rows(self._outputs(torch.stack(pixels))).float().cpu().numpy()

    def _rows(self, outputs: Any) -> Tensor:
        """(n, columns) of what the network gives; that itself, by default."""
        rows: Tensor = outputs
        return rows


class ClassPredictor(RowPredictor[ClassPredictions]):
    """Classes of images with their probabilities; of a clustering network its clusters."""

    result = ClassPredictions
    unnamed = "cluster {}"

    def predict_proba(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        return self.predict(inputs, batch_size=batch_size).probabilities

    def _rows(self, outputs: Any) -> Tensor:
        logits: Tensor = outputs
        return logits.float().softmax(dim=1)


class ClusterPredictor(ClassPredictor):
    """Clusters of images: how far an image belongs to each."""

    def _rows(self, outputs: Any) -> Tensor:
        return cluster_shares(outputs[0].float())


class LabelPredictor(RowPredictor[LabelPredictions]):
    """Labels of images with the probability of each; any number of them may hold."""

    result = LabelPredictions

    def predict_proba(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """(n, labels), the probability that each holds; rows do not sum to 1."""
        return self.predict(inputs, batch_size=batch_size).probabilities

    def _rows(self, outputs: Any) -> Tensor:
        logits: Tensor = outputs
        return logits.float().sigmoid()


class NumberPredictor(RowPredictor[NumberPredictions]):
    """Numbers of images, in the units of the targets that the network was trained on."""

    result = NumberPredictions
