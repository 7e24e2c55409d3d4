"""A trained network that takes what people have: the interface, and what networks of images share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.settings import validate
from datanas.data.augment import normalise
from datanas.data.decode.image_form import ImageForm
from datanas.deploy.pictures import Inputs, find_pictures
from datanas.deploy.read_pictures import PictureReader
from datanas.deploy.trained import Trained

BATCH_SIZE = 250
ResultT = TypeVar("ResultT")


class Predictor(ABC, Generic[ResultT]):
    """A trained network that takes what people have. Its `predict` gives a result with a type, by its task.

    Args:
        trained: the network and what its use takes.
        device: where it lies.
        white_level: the value that is white in images of more than 8 bits; None for that of the training images.

    Attributes:
        network: in evaluation mode; of a file what the file computes.
        task, settings: that it was trained for.
        use: how inputs are prepared, and what outputs stand for.
        num_classes: its outputs.
    """

    def __init__(self, trained: Trained, device: torch.device, white_level: float | None = None) -> None:
        self.network = trained.network
        self.task: str = trained.settings.name
        self.path = trained.path
        self.device = device
        self.settings: Any = trained.settings
        self.use = trained.use
        self.num_classes = trained.num_classes

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What each output of the network stands for; None where that has no names."""
        return self.use.outputs

    @abstractmethod
    def predict(self, inputs: Any, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> ResultT:
        """What the network says of the inputs.

        Args:
            inputs: one or several: paths, folders, PIL images, arrays, tensors; of a network of words texts.
            batch_size: inputs that pass the network together.
            skip_broken: leave out what cannot be read, with a warning.

        Raises:
            DataError: there is no input, or one that cannot be read.
        """

    def predict_proba(self, inputs: Any, *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """(n, classes), the probabilities of the classes alone.

        Raises:
            ConfigError: the network's task is not one of classes.
        """
        raise ConfigError(f"task {self.task} gives no probabilities of classes; use predict")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}: {self.task}>"


class ImagePredictor(Predictor[ResultT]):
    """What networks of images share: pictures become what the network was trained on."""

    def __init__(self, trained: Trained, device: torch.device, white_level: float | None = None) -> None:
        super().__init__(trained, device, white_level)
        self.form = validate(ImageForm, trained.use.input, "input")
        self._reader = PictureReader(self.form, white_level)
        preparation = trained.use.preprocessing
        if missing := {"mean", "std"} - preparation.keys():
            raise CheckpointError(
                f"{trained.path}: preprocessing says no {min(missing)} of the channels; export it anew"
            )
        self.moments = torch.tensor(preparation["mean"]), torch.tensor(preparation["std"])

    def read(self, inputs: Inputs) -> Tensor:
        """(n, c, h, w), the pixels that the network sees before they are normalised; of images of one size."""
        return torch.stack([each for _, pixels in self._batches(inputs, BATCH_SIZE, False) for each in pixels])

    def _batches(
        self, inputs: Inputs, batch_size: int, skip_broken: bool
    ) -> Iterator[tuple[tuple[str, ...], list[Tensor]]]:
        """The names of the pictures, and the pixels (c, h, w) of each, on the CPU."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        pictures = find_pictures(inputs, self.form.channels)
        for readable, pixels in self._reader.batches(pictures, batch_size, skip_broken=skip_broken):
            if readable:
                yield tuple(picture.name for picture in readable), pixels

    def _outputs(self, pixels: Tensor) -> Any:
        """What the network makes of pixels (n, c, h, w)."""
        with torch.inference_mode():
            return self.network(normalise(pixels.to(self.device), *self.moments))
