"""Few-shot classification by prototypical networks (Section 5.5; Snell, Swersky and Zemel, NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64
from pydantic import Field
from torch import Tensor, nn

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalise
from datanas.data.episodes import EpisodeShape
from datanas.kernels.hardware import widest_float
from datanas.tasks import register_task
from datanas.tasks.base import FullEvaluation, Model, Part
from datanas.tasks.embedding import EmbeddingHead, FlatHead
from datanas.tasks.episode_exhibits import episode_exhibits
from datanas.tasks.episode_task import SEARCH_PARTS, EpisodeBatch, EpisodeTask
from datanas.tasks.kind import Answers
from datanas.tasks.metric import Metric
from datanas.tasks.prototypes import accuracies, half_width, log_probs, of_own_class

EVALUATION_BATCH = 250
BLOCK = 50
"""Episodes that are drawn at a time, and measured together where all images are embedded."""
_Measure = Callable[[Model, str, Sequence[Tensor]], Iterator[Tensor]]


@register_task("fewshot")
class FewShot(EpisodeTask):
    """Recognise classes that were never trained on, from a few images of each.

    A part is a set of classes, and an example of a batch is an episode.
    """

    class Config(EpisodeTask.Config):
        name: Literal["fewshot"] = "fewshot"
        embedding: int = Field(64, ge=1, description="channels of the embedded feature map")
        temperature: float | None = Field(
            1.0, gt=0, description="what squared distances are divided by; null: the dimensions of the embedding"
        )

    metric: ClassVar[Metric] = Metric("accuracy", has_error=True)
    keeps_answers: ClassVar[bool] = True
    shared_answers: ClassVar[Sequence[str]] = ("episodes",)
    answer_units: ClassVar[str] = "episodes"
    example_call: ClassVar[str] = 'with_examples("examples").predict("picture.jpg")  # a folder of class folders'
    default_classes: ClassVar[int] = 64
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

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        """The embedding; a network that embeds has no classes, so `num_classes` plays no part."""
        assert isinstance(config, cls.Config)
        if len(widths) > 1:
            raise ConfigError("train.auxiliary: task fewshot has no auxiliary classifier; leave it off")
        return FlatHead() if config.stem == "none" else EmbeddingHead(widths[-1], config.embedding)

    @property
    def num_classes(self) -> int:
        """Channels of the embedding: a network that embeds has no classes."""
        return self.config.embedding

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
        return _over_episodes(self._measure(measure, model, part, limit))

    @torch.inference_mode()
    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With the answers `accuracy`, of each episode, and `episodes`, which tells these from others."""
        measure = self._in_turn if part in SEARCH_PARTS else self._embedded
        episodes = self._measure(measure, model, part, None)
        shot = self._samplers[part].shape.shot
        drawn = torch.cat(self._blocks(part, self.config.test.episodes)).flatten(1).cpu()
        answers = {
            "accuracy": episodes[0].clone(),
            "episodes": drawn @ torch.arange(1, drawn.shape[1] + 1) * BLOCK + shot,
        }
        return FullEvaluation(_over_episodes(episodes), lambda: self.exhibits(model, part), answers)

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        return counts @ answers["accuracy"].to(counts) / counts.sum(dim=1)

    @torch.inference_mode()
    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same, with each image embedded once on every part: what is followed is the training of one network."""
        return _over_episodes(self._measure(self._embedded, model, part, None))

    @torch.inference_mode()
    def exhibits(self, model: Model, part: Part) -> Sequence[Exhibit]:
        """One episode: the images that each class was learned from, and queries, right or wrong."""
        sampler, source = self._samplers[part], self._sets[self._sources[part]]
        indices = sampler.draw(1, seeding.generator(self._seed, f"exhibits/{part}"))
        points = torch.cat(
            [self._embed(model, part, each) for each in torch.split(indices.flatten(), EVALUATION_BATCH)]
        )
        answers = self._scores(points, sampler.shape)[0].argmax(dim=-1).cpu()
        names = [source.classes[int(source.images.labels[row[0]])] for row in indices[0]]
        return episode_exhibits([self._images(part, row) for row in indices[0]], answers, sampler.shape.shot, names)

    def _measure(self, measure: _Measure, model: Model, part: str, limit: int | None) -> Float[Tensor, "2 e"]:
        """Accuracy and loss of each episode of a part, which are the same each time; on the CPU."""
        sampler, count = self._samplers[part], self.config.test.episodes
        if limit is not None:
            count = min(count, max(2, -(-limit // sampler.shape.images)))
        return torch.cat(list(measure(model, part, self._blocks(part, count))), dim=1).cpu()

    def _blocks(self, part: str, count: int) -> list[Int64[Tensor, "e way each"]]:
        """The images of so many episodes of a part, some together."""
        return [
            self._samplers[part].draw(
                min(BLOCK, count - start), seeding.generator(self._seed, f"evaluate/{part}", start)
            )
            for start in range(0, count, BLOCK)
        ]

    def _in_turn(self, model: Model, part: str, blocks: Sequence[Tensor]) -> Iterator[Float[Tensor, "2 e"]]:
        """Accuracy and loss of each episode of each block; every process takes its own episodes."""
        shape = self._samplers[part].shape
        for episodes in blocks:
            figures = torch.zeros(2, len(episodes), dtype=widest_float(self.device), device=self.device)
            for index in range(self.processes.rank, len(episodes), self.processes.size):
                points = self._embed(model, part, episodes[index])
                figures[:, index : index + 1] = _figures(self._scores(points, shape))
            yield self.processes.total(figures)

    def _embedded(self, model: Model, part: str, blocks: Sequence[Tensor]) -> Iterator[Float[Tensor, "2 e"]]:
        """The same, from every image embedded once by one of the processes."""
        sampler = self._samplers[part]
        own = sampler.members[self.processes.rank :: self.processes.size]
        embedded = torch.cat([self._embed(model, part, indices) for indices in torch.split(own, EVALUATION_BATCH)])
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

    def _embed(self, model: Model, part: str, indices: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
        points: Tensor = model(normalise(self._images(part, indices), self.data.mean, self.data.std))
        return points.float()


def _figures(scores: Float[Tensor, "e w q w"]) -> Float[Tensor, "2 e"]:
    """Accuracy and mean loss of each episode."""
    accuracy = accuracies(scores)
    return torch.stack((accuracy, -of_own_class(scores).to(accuracy).mean(dim=(-2, -1))))


def _over_episodes(episodes: Float[Tensor, "2 e"]) -> dict[str, float]:
    accuracy, loss = episodes
    return {"accuracy": float(accuracy.mean()), "interval": half_width(accuracy), "loss": float(loss.mean())}
