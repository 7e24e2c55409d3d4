"""What a task tells the engine of its data: its batches, its loss, its score, and the stem and head around a body."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from datanas.core.deprecation import take_older_methods, warn_renamed
from datanas.core.errors import ConfigError
from datanas.core.exhibits import Exhibit
from datanas.core.processes import ALONE, Processes
from datanas.core.settings import ComponentConfig
from datanas.tasks.kind import Answers, TaskKind
from datanas.tasks.metric import Metric

Model = Callable[[Any], Any]
"""A network, or a child bound to its gates: a function of the input alone."""

Part = Literal["weights", "alpha", "train", "validation", "test"]
"""Which examples: the two parts of a search, the two of a training, or the test set.

`validation` is a share of the training examples, or a part of its own where the data bring one (`has_validation`)."""

BatchT = TypeVar("BatchT")

ExhibitMaker = Callable[[], Sequence[Exhibit]]


@dataclass(frozen=True)
class FullEvaluation:
    """What one pass over a part has found.

    Attributes:
        figures: as of `Task.evaluate`.
        exhibits: makes what a report shows besides. The first process alone calls it, so it must not wait for others;
            the network is then in the same mode.
        answers: what the network says of each example, on the CPU, in one order whatever the network; empty where the
            task keeps none.
    """

    figures: dict[str, float]
    exhibits: ExhibitMaker
    answers: Answers = field(default_factory=dict)


class Task(TaskKind, Generic[BatchT]):
    """A problem to search and train for. It never sees gates.

    Args:
        config: the task's settings.
        data: what its data set loaded.
        device: where batches go.
        seed: keys splits, order and augmentation.

    Raises:
        ConfigError: the data is not of the kind that this task takes.
    """

    _OLDER_NAMES: ClassVar[Mapping[str, str]] = {"preference": "selection_score", "rate": "lr_scale"}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        take_older_methods(cls, cls._OLDER_NAMES)
        own = vars(cls)
        if "evaluate" in own and "evaluate_fully" not in own and not cls._shows_what_it_evaluates:
            cls.evaluate_fully = Task.evaluate_fully  # type: ignore[method-assign]
            cls.keeps_answers = own.get("keeps_answers", False)
        if "metric" in own and not own.keys() & {"resampled_scores", "keeps_answers"}:
            cls.keeps_answers = False  # its base's are of another score
        if isinstance(name := vars(cls).get("score"), str) and "metric" not in vars(cls):
            warn_renamed(f"{cls.__name__}.score", "metric")
            names = ("is_share", "higher_is_better", "counts_examples")
            cls.metric = Metric(name, **{each: getattr(cls, each) for each in names if hasattr(cls, each)})

    _shows_what_it_evaluates: ClassVar[bool] = False
    """Whether `evaluate_fully` takes the figures of `evaluate`, so that a class may give others in that alone."""
    config: Any
    device: torch.device
    draws_like_unknown: bool = False
    """Whether it calls a function of somebody's own, which may draw from torch's generators."""
    processes: Processes = ALONE
    """Those that share the work. A task that heeds them gives each its share of a batch (`processes.share`) and adds up
    what each finds (`processes.total`); one that does not lets all do the same, which is as right and no faster."""

    @abstractmethod
    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None: ...

    @classmethod
    def measuring(cls, record: Mapping[str, Any]) -> type[Task[Any]]:
        """The task whose score stands in a run on such data; itself, where it measures all data alike.

        Args:
            record: what `describe` said of the data.
        """
        return cls

    def selection_score(self, figures: Mapping[str, float]) -> float:
        """How much a search or training prefers a network with these figures of `evaluate`; the higher the better.

        By default that is the score. A task whose score is not for a search to know, such as one that is found by
        labels which the task does without, takes another figure.
        """
        return self.metric.oriented(figures[self.metric.name])

    @property
    @abstractmethod
    def example_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""

    def example(self) -> Any:
        """One input, as a batch of one, on the device; its values do not matter."""
        return torch.zeros(1, *self.example_shape, device=self.device)

    def make_stem(self, channels: int) -> nn.Module:
        """The stem for this data."""
        return self.stem(self.config, self.example_shape[0], channels)

    def make_head(self, widths: tuple[int, ...], stem: nn.Module) -> nn.Module:
        """The head for this data, behind this stem."""
        return self.tied_head(self.config, widths, self.num_classes, stem)

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Outputs of the head."""

    def mirrored_parts(self) -> Mapping[str, bool]:
        """Whether images are mirrored at random, for each setting that says so ("task.augment"); none by default.

        A setting that leaves it to the data is told what these bear.
        """
        return {}

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What each output of the head stands for: a network is of no use for data where it stands for something else.

        None where that does not matter, by default.
        """
        return None

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What an architecture or report should know of the data: names and counts, JSON types only."""

    def preprocessing(self) -> dict[str, Any]:
        """How an example becomes an input of the network, JSON types only, for who has the network without the task.

        Of images `mean` and `std` of each channel, of values in 0..1. Nothing by default.
        """
        return {}

    def input_form(self) -> dict[str, Any]:
        """What an example has to become before that, JSON types only: of images an `ImageForm`. Nothing by default."""
        return {}

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words that numbers stand for in an input; None where it is not of words, by default."""
        return None

    def suited_settings(self) -> Mapping[str, Any]:
        """What number and size of the examples ask for on a small machine, nested as in a recipe; nothing by default.

        It stands where a search is planned by its data (`datanas fit`) and a recipe says nothing.
        """
        return {}

    def lighter_settings(self) -> Sequence[Mapping[str, Any]]:
        """Sections to lay over those, each making a search cheaper than the one before, where time is short."""
        return ()

    def notes(self) -> Sequence[str]:
        """What people should know of how these data are treated, a line each; nothing by default."""
        return ()

    def fingerprint(self) -> str:
        """A sum of the examples and of their split: a run goes on with no others."""
        digest = sha256(json.dumps(self.describe(), sort_keys=True).encode())
        for part, examples in sorted(self.chosen().items()):
            digest.update(part.encode())
            digest.update(examples.cpu().numpy().tobytes())
        for piece in self.contents():
            digest.update(piece)
        return digest.hexdigest()

    def sum_of_examples(self) -> str:
        """A sum of the examples alone, whatever has been split."""
        digest = sha256()
        for piece in self.contents():
            digest.update(piece)
        return digest.hexdigest()

    def chosen(self) -> Mapping[str, Tensor]:
        """Which examples each part holds, of the parts that have been made so far; none by default."""
        return {}

    def contents(self) -> Iterator[bytes]:
        """What tells the examples of all parts from others, piece by piece; nothing by default."""
        yield from ()

    def state_dict(self) -> dict[str, Any]:
        """What the task itself has learned or counted: nested mappings and lists of tensors and plain values.

        The same in all processes: that of the first is saved, and all get it back. All ask for it at the same step, so
        a task may gather it from them.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""

    def set_aside(self, share: float | None) -> None:
        """Leave examples to the judge of a race: they are the part `validation`, and no later split touches them.

        They are the same whatever the seed. Where the data bring a part `validation`, that is the judge's, and nothing
        else is left. To be called before the parts are made.

        Args:
            share: of the training examples; None for a tenth, but at least 1,000 or a fifth.

        Raises:
            ConfigError: the task cannot.
        """
        if not self.has_validation:
            self._set_aside(share)

    def _set_aside(self, share: float | None) -> None:
        raise ConfigError(f"search.judge: task {self.config.name} cannot leave examples to a judge")

    def limit(self, examples: int) -> None:
        """Use only so many of the training examples, balanced over classes; to be called before the parts are made.

        Raises:
            ConfigError: the task cannot.
        """
        raise ConfigError(f"train.examples: task {self.config.name} takes all its examples; leave it out")

    @abstractmethod
    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """Make the disjoint parts `weights` and `alpha` (Eq. 6) of the training examples, m:n.

        Args:
            examples: use only so many, balanced over the classes where there are any; None for all.
        """

    def shuffle_labels(self) -> None:
        """Give the training examples each other's labels, keyed by the seed: what is learned then means nothing.

        Raises:
            ConfigError: the task has no labels.
        """
        raise ConfigError(f"search.shuffled_labels: task {self.config.name} has no labels to shuffle")

    @abstractmethod
    def split_train(self, validation: float, batch_size: int) -> None:
        """Make the parts `train` and `validation`; the share 0 trains on everything.

        Where the data bring their own (`has_validation`), the share is 0 and that is the part `validation`.
        """

    def require_share(self, batch_size: int) -> None:
        """Refuse, before the first step, a batch that the processes cannot share.

        Raises:
            ConfigError: it cannot be divided equally, or a share is smaller than `smallest_share`.
        """
        share = self.processes.share(batch_size)
        if share.stop - share.start < self.smallest_share:
            raise ConfigError(
                f"batch_size: {batch_size} {self.unit}s among {self.processes.size} processes are too few; the batch "
                f"norm of task {self.config.name} needs {self.smallest_share} each"
            )

    @abstractmethod
    def steps_per_epoch(self, part: Part) -> int:
        """Batches in one pass over a part."""

    def left_out(self, part: Part) -> int:
        """How many of a part's examples (`chosen`) the full batches of an epoch leave out; 0 by default."""
        return 0

    @abstractmethod
    def batch(self, part: Part, step: int) -> BatchT:
        """This process's share of the augmented batch of one step: a function of the step's number."""

    def lr_scale(self, batch: BatchT) -> float:
        """The factor of the weights' learning rate for this batch; 1 by default."""
        return 1.0

    @abstractmethod
    def loss(self, model: Model, batch: BatchT) -> Tensor:
        """The mean loss of a batch, a scalar."""

    @abstractmethod
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """Figures over a part without augmentation, among them the score and `loss`.

        With a `limit` over about as many examples, but at least one a class.
        The caller chooses the network's mode.
        """

    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """Figures to follow a training by, named as those of `evaluate`; cheaper than these where the task can."""
        return self.evaluate(model, part)

    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """Figures as `evaluate` gives them, and of the same pass what else is kept or shown of it."""
        return FullEvaluation(self.evaluate(model, part), lambda: self.exhibits(model, part))

    def exhibits(self, model: Model, part: Part) -> Sequence[Exhibit]:
        """What is shown besides figures, where that takes the network alone; nothing by default."""
        return ()
