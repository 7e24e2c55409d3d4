"""Networks that embed images: classes are told by the nearest prototype of a few examples of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import ConfigError, DataError
from datanas.core.paths import require_folder, shown
from datanas.data.decode.image_list import class_folders
from datanas.deploy.pictures import Inputs
from datanas.deploy.predictor import BATCH_SIZE
from datanas.deploy.rows import ClassPredictor
from datanas.deploy.trained import Trained
from datanas.tasks.prototypes import prototypes, squared_distances


class ExamplePredictor(ClassPredictor):
    """Classes that were never trained on, by prototypes (Snell et al., NeurIPS 2017)."""

    def __init__(self, trained: Trained, device: torch.device, white_level: float | None = None) -> None:
        super().__init__(trained, device, white_level)
        self._examples: dict[str, Tensor] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        if not self._examples:
            raise ConfigError(
                f"task {self.task} tells classes by examples of them; give a folder of class folders: "
                "--support FOLDER, or load(path).with_examples(folder)"
            )
        return tuple(self._examples)

    def with_examples(self, examples: str | Path | Mapping[str, Inputs]) -> Self:
        """The same network with these classes.

        Args:
            examples: a folder of class folders of images, or images by the names of their classes.

        Raises:
            DataError: there are fewer than two classes, or a class without images.
        """
        if isinstance(examples, str | Path):
            require_folder(examples, DataError)
            examples = {folder.name: folder for folder in class_folders(Path(examples))} or _no_classes(examples)
        if len(examples) < 2:
            raise DataError(f"only one class of examples ({', '.join(examples)}); at least two are needed")
        predictor = copy.copy(self)
        predictor._examples = {
            name: prototypes(torch.from_numpy(self.embed(images))).to(self.device) for name, images in examples.items()
        }
        return predictor

    def embed(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> NDArray[np.float32]:
        """(n, dimensions), the points that images become."""
        batches = self._batches(inputs, batch_size, skip_broken)
        return np.concatenate([self._outputs(torch.stack(pixels)).float().cpu().numpy() for _, pixels in batches])

    def _rows(self, outputs: Any) -> Tensor:
        points: Tensor = outputs.float()
        temperature = points.shape[1] if self.settings.temperature is None else self.settings.temperature
        distances = squared_distances(points, torch.stack([*self._examples.values()]))
        return (-distances / temperature).softmax(dim=1)


def _no_classes(folder: str | Path) -> dict[str, Inputs]:
    path = Path(folder)
    raise DataError(f"{shown(folder)}: holds no class folders of examples; expected {path / 'CLASS' / 'image.png'}")
