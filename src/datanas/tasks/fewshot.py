"""Few-shot classification by prototypical networks (Section 5.5; Snell, Swersky and Zemel, NeurIPS 2017)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig, Section
from datanas.data.augment import Augment, augment, normalisation, normalise
from datanas.data.base import ImageData, Images
from datanas.data.batches import held_out, judge_share, left_to_judge, parse_ratio, unlabelled
from datanas.data.episodes import EpisodeSampler, EpisodeShape
from datanas.data.types.class_splits import ClassSplitData, choose_classes, regroup
from datanas.kernels.hardware import widest_float
from datanas.tasks import register_task
from datanas.tasks.base import ExhibitMaker, Model, Part, Task
from datanas.tasks.embedding import EmbeddingHead, FlatHead, ImageItself
from datanas.tasks.episode_exhibits import episode_exhibits
from datanas.tasks.metric import Metric
from datanas.tasks.prototypes import accuracies, half_width, log_probs, of_own_class
from datanas.tasks.stems import CONVOLUTIONAL, STEM_KINDS, StemKind, image_stem, require_size

EVALUATION_BATCH = 250
BLOCK = 50
"""Episodes that are drawn at a time, and measured together where all images are embedded."""
SEARCH_PARTS = ("weights", "alpha")
_Measure = Callable[[Model, str, Sequence[Tensor]], Iterator[Tensor]]
NOT_AUGMENTED = Augment(crop_padding=0, flip=False)


class Episode(Section):
    """What an episode holds."""

    way: int = Field(5, ge=2, description="classes")
    shot: int | None = Field(None, ge=1, description="images of each class to learn from; null: as in task.test")
    query: int = Field(15, ge=1, description="images of each class to recognise")


class TestEpisode(Section):
    """What an episode holds by which a network is measured, and how many there are."""

    way: int = Field(5, ge=2, description="classes")
    shot: int = Field(1, ge=1, description="images of each class to learn from")
    query: int = Field(15, ge=1, description="images of each class to recognise")
    episodes: int = Field(600, ge=2, description="over which accuracy is averaged")


@dataclass(frozen=True)
class EpisodeBatch:
    """The augmented images of some episodes, one episode after the other, class by class, shots first.

    Attributes:
        shape: of each episode.
    """

    images: Float32[Tensor, "batch channels height width"]
    shape: EpisodeShape


@register_task("fewshot")
class FewShot(Task[EpisodeBatch]):
    """Recognise classes that were never trained on, from a few images of each.

    A part is a set of classes, and an example of a batch is an episode.
    """

    class Config(ComponentConfig):
        name: Literal["fewshot"] = "fewshot"
        stem: StemKind | Literal["none"] = Field(
            "cifar_half", description=f"{STEM_KINDS}; none hands on the image and embeds by the body alone, for conv4"
        )
        embedding: int = Field(64, ge=1, description="channels of the embedded feature map")
        temperature: float | None = Field(
            1.0, gt=0, description="what squared distances are divided by; null: the dimensions of the embedding"
        )
        search: Episode = Episode(way=10)
        train: Episode = Episode(way=30)
        test: TestEpisode = TestEpisode()
        episodes: int = Field(100, ge=1, description="of an epoch")
        search_augment: Augment = NOT_AUGMENTED
        train_augment: Augment = NOT_AUGMENTED
        test_classes: float = Field(
            0.3, gt=0, lt=1, description="share of the classes that is for testing, where the data do not part them"
        )

    metric: ClassVar[Metric] = Metric("accuracy", has_error=True)
    example_call: ClassVar[str] = 'with_examples("examples").predict("picture.jpg")  # a folder of class folders'
    cells: ClassVar[str] = CONVOLUTIONAL
    default_size: ClassVar[int | None] = 84
    default_classes: ClassVar[int] = 64
    smallest_batch: ClassVar[int] = 1
    validation_is_up_to_data: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "space": {"name": "conv_cell", "cells": 5},
        "sampler": {"name": "egs", "samples": 7},
        "search": {
            "epochs": 300,
            "batch_size": 1,
            "weights": {"lr": 0.1, "schedule": "step", "decay": 0.2, "decay_every": 100},
        },
        "train": {
            "channels": 16,
            "cells": 5,
            "epochs": 300,
            "batch_size": 1,
            "auxiliary": False,
            "drop_path": 0.0,
            "weights": {"lr": 0.1, "schedule": "step", "decay": 0.2, "decay_every": 100},
        },
    }
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        assert isinstance(config, self.Config)
        if isinstance(data, ImageData):
            if len(data.classes) < 2:
                raise DataError(
                    "data.root: there is only one class, or none that is known; task fewshot needs classes to learn "
                    "and others to test on"
                )
            # Not by the seed of the run: runs of several seeds are to be compared on the same classes.
            data = regroup(data, Fraction(str(config.test_classes)), seed=0)
        if not isinstance(data, ClassSplitData):
            raise ConfigError("data.name: task fewshot takes image data sets in memory, such as class_folders")
        self.config = config
        self.data = data
        self.device = device
        self.has_validation = data.validation is not None
        self._pool: Int64[Tensor, " m"] | None = None
        self._seed = seed
        self._sets = {name: part.to(device) for name, part in data.parts().items()}
        self._sources: dict[str, str] = {}
        self._samplers: dict[str, EpisodeSampler] = {}
        self._batch_sizes: dict[str, int] = {}
        if config.stem != "none":
            require_size(data.image_shape, config.stem)
        for name in self._sets.keys() - {"train"}:
            self._add(name, name)

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        return ImageItself(in_channels) if config.stem == "none" else image_stem(config.stem, in_channels, channels)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        """The embedding; a network that embeds has no classes, so `num_classes` plays no part."""
        assert isinstance(config, cls.Config)
        if len(widths) > 1:
            raise ConfigError("train.auxiliary: task fewshot has no auxiliary classifier; leave it off")
        return FlatHead() if config.stem == "none" else EmbeddingHead(widths[-1], config.embedding)

    @property
    def example_shape(self) -> tuple[int, int, int]:
        return self.data.image_shape

    @property
    def num_classes(self) -> int:
        """Channels of the embedding: a network that embeds has no classes."""
        return self.config.embedding

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = {"shape": list(self.example_shape)}
        for name, part in self.data.parts().items():
            found[name] = {"classes": len(part.classes), "images": len(part)}
        return found

    def preprocessing(self) -> dict[str, Any]:
        return normalisation(self.data.mean, self.data.std)

    def input_form(self) -> dict[str, Any]:
        return self.data.image_form.model_dump(mode="json")

    def mirrored_parts(self) -> Mapping[str, bool]:
        bears = self.data.bears_mirroring
        return {
            name: bool(getattr(self.config, name.removeprefix("task.")).settled(bears_mirroring=bears).flip)
            for name in ("task.search_augment", "task.train_augment")
        }

    def suited_settings(self) -> Mapping[str, Any]:
        """Episodes of fewer classes and narrow networks (`recipes/small/omniglot.yaml`)."""
        classes = len(self.data.train.classes)
        fast = {"lr": 0.05, "schedule": "cosine", "lr_min": 0.0}
        return {
            "task": {
                "temperature": None,
                "search": {"way": max(2, min(10, classes // 4)), "query": 5},
                "train": {"way": max(2, min(20, classes // 2)), "query": 10},
            },
            "space": {"channels": 8},
            "search": {"batch_size": 2, "alpha_start": 0.1, "weights": fast, "gap": {"every": 5}},
            "train": {"channels": 16, "batch_size": 1, "weights": fast},
        }

    def chosen(self) -> Mapping[str, Tensor]:
        """The classes of each part."""
        return {part: sampler.chosen for part, sampler in self._samplers.items()}

    def contents(self) -> Iterator[bytes]:
        for name, part in sorted(self._sets.items()):
            yield json.dumps([name, part.classes]).encode()
            yield from part.images.contents()

    def shuffle_labels(self) -> None:
        train = self._sets["train"]
        order = torch.randperm(len(train), generator=seeding.generator(self._seed, "shuffled labels"))
        labels = train.images.labels[order.to(self.device)]
        self._sets["train"] = replace(train, images=replace(train.images, labels=labels))

    @property
    def _class_pool(self) -> Int64[Tensor, " m"]:
        """The training classes that parts are made of."""
        return torch.arange(len(self._sets["train"].classes)) if self._pool is None else self._pool

    def _set_aside(self, share: float | None) -> None:
        """Whole classes."""
        train = self._sets["train"]
        share = judge_share(len(train)) if share is None else share
        held, self._pool = left_to_judge(unlabelled(len(train.classes)), share)
        self._add("validation", "train", held)

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """As in `Task`, by whole classes: alpha sees none of those that the weights are trained on.

        Args:
            examples: whole classes that hold no more images than this; None for all.
        """
        chosen = self._share(examples)
        first, second = (Fraction(str(number)) for number in parse_ratio(ratio))
        parts = choose_classes(len(chosen), first / (first + second), self._seed, "split")
        for name, places in zip(("weights", "alpha"), parts, strict=True):
            self._add(name, "train", chosen[places], batch_size)

    def _share(self, examples: int | None) -> Int64[Tensor, " m"]:
        """The numbers of the training classes to search with."""
        train, pool = self._sets["train"], self._class_pool
        sizes = torch.bincount(train.images.labels.cpu(), minlength=len(train.classes))
        if examples is None or examples >= int(sizes[pool].sum()):
            return pool
        order = pool[torch.randperm(len(pool), generator=seeding.generator(self._seed, "classes"))]
        return order[sizes[order].cumsum(0) <= examples].sort().values

    def split_train(self, validation: float, batch_size: int) -> None:
        """As in `Task`; what is held out are whole classes."""
        held, kept = held_out(unlabelled(len(self._class_pool)), validation, self._seed)
        self._add("train", "train", self._class_pool[kept], batch_size)
        if validation > 0:
            self._add("validation", "train", self._class_pool[held])

    def _add(self, part: str, source: str, chosen: Tensor | None = None, batch_size: int | None = None) -> None:
        """Draw the episodes of a part from these classes of a set."""
        section = "search" if part in SEARCH_PARTS else "train" if part == "train" else "test"
        settings: Episode | TestEpisode = getattr(self.config, section)
        shot = self.config.test.shot if settings.shot is None else settings.shot
        self._sources[part] = source
        self._samplers[part] = EpisodeSampler(
            self._sets[source].images.labels,
            self._sets[source].classes,
            EpisodeShape(settings.way, shot, settings.query),
            chosen,
            part=part,
            setting=f"task.{section}",
        )
        if batch_size is not None:
            self.require_share(batch_size)
            self._batch_sizes[part] = batch_size

    def steps_per_epoch(self, part: Part) -> int:
        return max(1, self.config.episodes // self._batch_sizes[part])

    def batch(self, part: Part, step: int) -> EpisodeBatch:
        sampler, episodes = self._samplers[part], self._batch_sizes[part]
        drawn = sampler.draw(episodes, seeding.generator(self._seed, f"episodes/{part}", step))
        share, each = self.processes.share(episodes), sampler.shape.images
        settings = self.config.train_augment if part == "train" else self.config.search_augment
        settings = settings.settled(bears_mirroring=self.data.bears_mirroring)
        images = augment(
            self._images(part, drawn[share]),
            settings,
            self.data.mean,
            self.data.std,
            seeding.generator(self._seed, f"augment/{part}", step),
            whole=episodes * each,
            share=slice(share.start * each, share.stop * each),
        )
        return EpisodeBatch(images, sampler.shape)

    def _images(self, part: str, indices: Tensor) -> Images:
        """The images of a part at these places, in one row."""
        pixels = self._sets[self._sources[part]].images.images
        return pixels[indices.flatten().to(pixels.device)]

    def loss(self, model: Model, batch: EpisodeBatch) -> Tensor:
        """The mean negative log-probability of the queries' own classes; all images pass the network together."""
        return -of_own_class(self._scores(model(batch.images), batch.shape)).mean()

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`accuracy` in 0..1, `interval`: half its 95 % confidence interval over episodes, and `loss`.

        With a `limit` over as many episodes as hold so many images, but at least two. On the parts of a search each
        episode passes the model by itself, since there every call may be another child, and batch norm may be that of
        the batch. Elsewhere the model is one network in evaluation mode, and embeds each image once for all episodes.
        """
        measure = self._in_turn if part in SEARCH_PARTS else self._embedded
        return self._measure(measure, model, part, limit)

    @torch.inference_mode()
    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same, with each image embedded once on every part: what is followed is the training of one network."""
        return self._measure(self._embedded, model, part, None)

    def evaluate_with_exhibits(self, model: Model, part: Part) -> tuple[dict[str, float], ExhibitMaker]:
        """With one episode: the images that each class was learned from, and queries, right or wrong."""
        return self.evaluate(model, part), lambda: self._exhibits(model, part)

    @torch.inference_mode()
    def _exhibits(self, model: Model, part: Part) -> Sequence[Exhibit]:
        sampler, source = self._samplers[part], self._sets[self._sources[part]]
        places = sampler.draw(1, seeding.generator(self._seed, f"exhibits/{part}"))
        points = torch.cat([self._embed(model, part, each) for each in torch.split(places.flatten(), EVALUATION_BATCH)])
        answers = self._scores(points, sampler.shape)[0].argmax(dim=-1).cpu()
        names = [source.classes[int(source.images.labels[row[0]])] for row in places[0]]
        return episode_exhibits([self._images(part, row) for row in places[0]], answers, sampler.shape.shot, names)

    def _measure(self, measure: _Measure, model: Model, part: str, limit: int | None) -> dict[str, float]:
        """Figures over the episodes of a part, which are the same each time."""
        sampler, count = self._samplers[part], self.config.test.episodes
        if limit is not None:
            count = min(count, max(2, -(-limit // sampler.shape.images)))
        blocks = [
            sampler.draw(min(BLOCK, count - start), seeding.generator(self._seed, f"evaluate/{part}", start))
            for start in range(0, count, BLOCK)
        ]
        accuracy, loss = torch.cat(list(measure(model, part, blocks)), dim=1).cpu()
        return {"accuracy": float(accuracy.mean()), "interval": half_width(accuracy), "loss": float(loss.mean())}

    def _in_turn(self, model: Model, part: str, blocks: Sequence[Tensor]) -> Iterator[Float[Tensor, "2 e"]]:
        """Accuracy and loss of each episode of each block; every process takes its own episodes."""
        shape = self._samplers[part].shape
        for episodes in blocks:
            figures = torch.zeros(2, len(episodes), dtype=widest_float(self.device), device=self.device)
            for place in range(self.processes.rank, len(episodes), self.processes.size):
                points = self._embed(model, part, episodes[place])
                figures[:, place : place + 1] = _figures(self._scores(points, shape))
            yield self.processes.total(figures)

    def _embedded(self, model: Model, part: str, blocks: Sequence[Tensor]) -> Iterator[Float[Tensor, "2 e"]]:
        """The same, from every image embedded once by one of the processes."""
        sampler = self._samplers[part]
        own = sampler.members[self.processes.rank :: self.processes.size]
        embedded = torch.cat([self._embed(model, part, places) for places in torch.split(own, EVALUATION_BATCH)])
        points = embedded.new_zeros(len(self._sets[self._sources[part]]), embedded.shape[1])
        points[own.to(points.device)] = embedded
        points = self.processes.total(points)
        for episodes in blocks:
            yield _figures(self._scores(points[episodes.flatten().to(points.device)], sampler.shape))

    def _scores(self, embedded: Float[Tensor, "n d"], shape: EpisodeShape) -> Float[Tensor, "e w q w"]:
        """Log-probabilities of the classes for the queries of embedded episodes."""
        dimensions = embedded.shape[1]
        temperature = dimensions if self.config.temperature is None else self.config.temperature
        return log_probs(embedded.view(-1, shape.way, shape.each, dimensions), shape.shot, temperature)

    def _embed(self, model: Model, part: str, places: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
        points: Tensor = model(normalise(self._images(part, places), self.data.mean, self.data.std))
        return points.float()


def _figures(scores: Float[Tensor, "e w q w"]) -> Float[Tensor, "2 e"]:
    """Accuracy and mean loss of each episode."""
    found = accuracies(scores)
    return torch.stack((found, -of_own_class(scores).to(found).mean(dim=(-2, -1))))
