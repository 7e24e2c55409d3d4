"""What tasks on images share, however these are grouped: the stem, the form of the input, whether it is mirrored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torch import nn

from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalisation
from datanas.data.own_transform import require_transform
from datanas.tasks.base import BatchT, Task
from datanas.tasks.stems import CONVOLUTIONAL, image_stem


class StemmedTask(Task[BatchT]):
    """A task on images whose networks begin with a stem (`task.stem`).

    Attributes:
        augmentations: by its name in the settings ("train_augment"), the augmentation of a part as the data bear it.
    """

    cells: ClassVar[str] = CONVOLUTIONAL
    data: Any
    augmentations: Mapping[str, Any]

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        settings = cast(Any, config)
        return image_stem(settings.stem, in_channels, channels, getattr(settings, "dense", 0))

    @property
    def example_shape(self) -> tuple[int, int, int]:
        return cast(tuple[int, int, int], self.data.image_shape)

    def preprocessing(self) -> dict[str, Any]:
        return normalisation(self.data.mean, self.data.std)

    def input_form(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.data.image_form.model_dump(mode="json"))

    def mirrored_parts(self) -> Mapping[str, bool]:
        return {f"task.{name}": bool(each.flip) for name, each in self.augmentations.items()}

    def settle_augmentations(self, *names: str) -> None:
        """Fix what the settings leave to the data: whether they bear mirroring.

        Raises:
            ConfigError: a transform of one's own cannot be used on such images.
        """
        bears = self.data.bears_mirroring
        self.augmentations = {name: getattr(self.config, name).settled(bears_mirroring=bears) for name in names}
        for name, settings in self.augmentations.items():
            if (transform := getattr(settings, "transform", None)) is not None:
                require_transform(transform, self.example_shape, f"task.{name}.transform")
