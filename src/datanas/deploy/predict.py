"""From the folder of a trained network to answers: `load(path).predict(inputs)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datanas.core.errors import ConfigError
from datanas.deploy.examples import ExamplePredictor
from datanas.deploy.masks import MaskPredictor
from datanas.deploy.network_file import find_in_file, is_network_file
from datanas.deploy.predictor import Predictor
from datanas.deploy.rows import ClassPredictor, ClusterPredictor, LabelPredictor, NumberPredictor
from datanas.deploy.trained import find_trained
from datanas.deploy.words import TextPredictor
from datanas.engine.setup import usable_device
from datanas.tasks.base import Task
from datanas.tasks.classification import Classification
from datanas.tasks.clustering import Clustering
from datanas.tasks.fewshot import FewShot
from datanas.tasks.language import Language
from datanas.tasks.multilabel import Multilabel
from datanas.tasks.regression import Regression
from datanas.tasks.segmentation import Segmentation

PREDICTORS: dict[type[Task[Any]], type[Predictor[Any]]] = {
    Classification: ClassPredictor,
    Clustering: ClusterPredictor,
    Language: TextPredictor,
    Segmentation: MaskPredictor,
    FewShot: ExamplePredictor,
    Multilabel: LabelPredictor,
    Regression: NumberPredictor,
}


def load(path: str | Path, device: str = "cpu", *, white_level: float | None = None) -> Predictor[Any]:
    """A trained network that predicts, with the preparation of its inputs; no training data are needed.

    Args:
        path: the run folder of a finished training or fit, or a folder or an ONNX file of `datanas export`.
        device: where it computes; "auto" takes a GPU where there is one.
        white_level: the value that is white in images of more than 8 bits, of a network that was trained on others.

    Raises:
        CheckpointError: there is no trained network, or one that cannot be used without data that are not there.
        ConfigError: no such device here, or a task of which nothing is predicted.

    >>> trained = datanas.train("gdas", recipe)
    >>> len(load(trained.path).predict(torch.rand(2, 3, 32, 32)).labels)
    2
    """
    where = usable_device(device)
    trained = find_in_file(path) if is_network_file(path) else find_trained(path, where)
    for task, predictor in PREDICTORS.items():
        if issubclass(trained.task, task):
            return predictor(trained, where, white_level)
    raise ConfigError(
        f"task {trained.settings.name}: nothing is predicted here; datanas.load_network gives its network"
    )
