"""Stripes that lie, and stripes that stand."""

from typing import Literal

import torch
from pydantic import Field

from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images


@register_dataset("stripes")
class Stripes(Dataset[ImageData]):
    class Config(ComponentConfig):
        name: Literal["stripes"] = "stripes"
        count: int = Field(32, ge=2)

    config: Config

    def load(self) -> ImageData:
        def part(count: int, seed: int) -> ImageSet:
            noise = torch.randint(0, 40, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
            lying = (torch.arange(8) % 2 * 200)[:, None].expand(8, 8)
            labels = torch.arange(count) % 2
            stripes = torch.where(labels[:, None, None] == 0, lying, lying.T)
            return ImageSet((noise + stripes[:, None]).to(torch.uint8), labels)

        train, test = part(self.config.count, 0), part(self.config.count // 2, 1)
        check_images(train, test, ("lying", "standing"), "stripes")
        return ImageData(train, test, ("lying", "standing"))
