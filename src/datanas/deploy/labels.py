"""Networks that tell which labels hold of an image, each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from datanas.deploy.pictures import Inputs
from datanas.deploy.predictions import LabelPredictions, NumberPredictions
from datanas.deploy.predictor import BATCH_SIZE, ImagePredictor


class LabelPredictor(ImagePredictor[LabelPredictions]):
    """Labels of images with the probability of each; any number of them may hold."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each probability is of."""
        return self._use.outputs or tuple(map(str, range(self._count)))

    def predict(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> LabelPredictions:
        parts = [*self.predict_batches(inputs, batch_size=batch_size, skip_broken=skip_broken)]
        names = tuple(name for part in parts for name in part.names)
        return LabelPredictions(names, self.classes, np.concatenate([part.probabilities for part in parts]))

    def predict_batches(
        self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> Iterator[LabelPredictions]:
        """As `predict`, a batch after the other."""
        for names, pixels in self._batches(inputs, batch_size, skip_broken):
            found = self._outputs(torch.stack(pixels)).float().sigmoid()
            yield LabelPredictions(names, self.classes, found.cpu().numpy())

    def predict_proba(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """(n, labels), the probability that each holds; rows do not sum to 1."""
        return self.predict(inputs, batch_size=batch_size).probabilities


class NumberPredictor(ImagePredictor[NumberPredictions]):
    """Numbers of images, in the units of the targets that the network was trained on."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each number is."""
        return self._use.outputs or tuple(map(str, range(self._count)))

    def predict(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> NumberPredictions:
        parts = [*self.predict_batches(inputs, batch_size=batch_size, skip_broken=skip_broken)]
        names = tuple(name for part in parts for name in part.names)
        return NumberPredictions(names, self.classes, np.concatenate([part.values for part in parts]))

    def predict_batches(
        self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> Iterator[NumberPredictions]:
        """As `predict`, a batch after the other."""
        for names, pixels in self._batches(inputs, batch_size, skip_broken):
            found = self._outputs(torch.stack(pixels)).float()
            yield NumberPredictions(names, self.classes, found.cpu().numpy())
