"""Networks that tell classes, or clusters, of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.deploy.pictures import Inputs
from datanas.deploy.predictions import ClassPredictions
from datanas.deploy.predictor import BATCH_SIZE, ImagePredictor
from datanas.tasks.adaptive_pairs import cluster_shares


class ClassPredictor(ImagePredictor[ClassPredictions]):
    """Classes of images with their probabilities; of a clustering network its clusters."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each probability is of."""
        if self._use.outputs is not None:
            return self._use.outputs
        return tuple(f"cluster {number}" for number in range(self._count))

    def predict(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> ClassPredictions:
        return ClassPredictions.joined(
            list(self.predict_batches(inputs, batch_size=batch_size, skip_broken=skip_broken))
        )

    def predict_batches(
        self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> Iterator[ClassPredictions]:
        """As `predict`, a batch after the other: of as many images as there may be."""
        classes = self.classes
        for names, pixels in self._batches(inputs, batch_size, skip_broken):
            probabilities = self._probabilities(self._outputs(torch.stack(pixels)))
            yield ClassPredictions(names, classes, probabilities.float().cpu().numpy())

    def predict_proba(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        return self.predict(inputs, batch_size=batch_size).probabilities

    def _probabilities(self, outputs: Any) -> Tensor:
        logits: Tensor = outputs
        return logits.float().softmax(dim=1)


class ClusterPredictor(ClassPredictor):
    """Clusters of images: how far an image belongs to each."""

    def _probabilities(self, outputs: Any) -> Tensor:
        return cluster_shares(outputs.labels.float())
