"""What can be asked of a task without any data: its figures, its parts of a network, what suits it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from datanas.core.settings import ComponentConfig
from datanas.tasks.metric import Metric

Answers = Mapping[str, Tensor]
"""What a network says of each example, and what is true of it, each with the examples along its first dimension."""


class TaskKind(ABC):
    """The class of a task, as those see it who have no data."""

    Config: ClassVar[type[ComponentConfig]]
    metric: ClassVar[Metric]
    """The figure of `evaluate` by which networks are compared."""
    further: ClassVar[Sequence[Metric]] = ()
    """Figures of `evaluate` beside it and `loss` that are not shown like it: no shares although it is one, or so."""
    keeps_answers: ClassVar[bool] = False
    """Whether the score of any choice of examples follows from what a network says of each (`resampled_scores`).

    A score that counts examples keeps `right`, of which examples it is: 1 or 0 each."""
    shared_answers: ClassVar[Sequence[str]] = ()
    """Those of the answers that are of the examples alone: networks were measured on the same ones where they agree."""
    races_briefly: ClassVar[bool | None] = None
    """Whether trainings on few examples, which are measured fast, tell networks apart: so a fit of little time
    compares them, where one evaluation says how uncertain its score is. None: where the score counts examples."""
    answer_units: ClassVar[str] = "examples"
    """What the answers that are kept are of, for people."""
    cells: ClassVar[str] = ""
    """What its networks are made of, for people: "recurrent cells, such as darts_v2_rnn"."""
    compared_as: ClassVar[str] = ""
    """Another task whose references suit this one too, in a race of a fit."""
    target_kind: ClassVar[str | None] = None
    """What is to be told of an image where it is no class, "labels" or "numbers"; a fit takes the task by it."""
    unit: ClassVar[str] = "image"
    """What one example is, for people."""
    example_call: ClassVar[str] = 'predict("picture.jpg")'
    """How what `datanas.load` gives is used, in the card of an exported network."""
    default_size: ClassVar[int | None] = 32
    """Height and width of a made-up example where nothing is said; None where an example has no size."""
    has_validation: bool = False
    """Whether the data bring a part `validation` of their own, so that nothing is held out for one.

    Like `test` it can be evaluated whatever has been split."""
    validation_is_up_to_data: ClassVar[bool] = False
    """Whether some data bring one and others do not, so that only a task with its data knows."""
    smallest_batch: ClassVar[int] = 2
    """The least `batch_size` that its networks, whose batch norm takes statistics from a batch, can do with."""
    smallest_share: ClassVar[int] = 1
    """The least part of a batch that a process can do with."""
    default_classes: ClassVar[int] = 10
    """Outputs of the head of a network that is built without data, where nothing is said."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of other sections that suit the task, nested (`{"train": {"epochs": 1600}}`): what a run is configured
    with where its recipe says nothing. Settings of a component hold for the component that they name."""

    @classmethod
    def measured_by(cls, config: ComponentConfig) -> type[Self]:
        """The task as it measures networks with these settings; itself, by default."""
        return cls

    @classmethod
    def tells_chance(cls) -> bool:
        """Whether one evaluation says how uncertain its score is: of a share, or where answers are kept."""
        return cls.metric.counts_examples or cls.keeps_answers

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        """The score of each of b choices among n examples; of all ones that of `evaluate`.

        Args:
            answers: of the n examples (`Task.evaluate_fully`), on the CPU.
            counts: how often each example stands in a choice.
        """
        raise NotImplementedError(f"{cls.__name__} keeps no answers")

    @classmethod
    @abstractmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        """The way into a body whose first cell has `channels`; has a `shape` (StemShape)."""

    @classmethod
    @abstractmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        """The way out of a body that returns features of these widths."""

    @classmethod
    def tied_head(
        cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int, stem: nn.Module
    ) -> nn.Module:
        """The way out behind this stem, of which it may share weights; by default it shares none."""
        return cls.head(config, widths, num_classes)

    @classmethod
    def inputs(cls, num_classes: int) -> int:
        """Channels of the input (`in_channels` of a stem) where nothing is said; 3 by default."""
        return 3

    @classmethod
    def example_input(
        cls, config: ComponentConfig, in_channels: int, size: int, batch: int, device: torch.device
    ) -> Any:
        """A made-up input of a network that is built without data, also on the meta device.

        Args:
            in_channels: as for `stem`.
            size: how large an example is: height and width of an image, by default. 1 where `default_size` is None.
            batch: how many examples.
        """
        images = torch.randn(batch, in_channels, size, size, device=device)
        return images.contiguous(memory_format=torch.channels_last)

    @classmethod
    def answer(cls, output: Any) -> Any:
        """What whoever uses a network computes from its output besides, such as scores that it leaves out; by default
        nothing, so that it is the output itself.
        """
        return output

    @classmethod
    def one(cls) -> str:
        """An example with its article, for people: "an image"."""
        return f"{'an' if cls.unit[0] in 'aeiou' else 'a'} {cls.unit}"

    @classmethod
    def figure(cls, name: str) -> Metric:
        """How a figure of `evaluate` is read; what is said nowhere is a share if the task's metric is one."""
        known = {each.name: each for each in (cls.metric, *cls.further)}
        is_share = cls.metric.is_share
        return known.get(name, Metric(name, is_share=is_share, digits=2 if is_share else 4))
