"""The sections of a run's configuration that no component declares: search, training, outside truth and run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import Field, create_model, field_validator, model_validator

from datanas.core.durations import read_seconds
from datanas.core.settings import Section
from datanas.data.batches import parse_ratio
from datanas.engine.passes import Change, Passes, passes_of
from datanas.kernels.gates import ClosedGradient
from datanas.kernels.hardware import read_macs
from datanas.spaces.network_config import NetworkConfig


class SGDConfig(Section):
    """SGD with momentum; the rate falls from `lr` along a schedule, after an optional linear rise."""

    lr: float = Field(0.025, gt=0)
    lr_min: float = Field(0.001, ge=0, description="where cosine and poly end; constant and step heed it not")
    schedule: Literal["cosine", "poly", "step", "constant"] = Field(
        "cosine",
        description="half a cosine; (1 - progress) to the `power`; times `decay` every `decay_every` epochs; none",
    )
    power: float = Field(0.9, gt=0, description="of the schedule poly")
    decay: float = Field(0.2, gt=0, le=1, description="of the schedule step")
    decay_every: int = Field(100, ge=1, description="epochs, of the schedule step")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(3e-4, ge=0)
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    warm_up_epochs: float = Field(0.0, ge=0, description="over which the rate rises linearly from 0")

    @model_validator(mode="after")
    def momentum_to_look_ahead_with(self) -> SGDConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0.0; set momentum, or nesterov: false")
        return self


class TrainSGDConfig(SGDConfig):
    """The same for a training from scratch: the rate ends at 0."""

    lr_min: float = Field(0.0, ge=0)


class AdamConfig(Section):
    """Adam for alpha."""

    lr: float = Field(3e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float | None = Field(
        None, ge=0, description="null: the method's own, 0 of egs (its authors' program), else 1e-3 (DARTS)"
    )

    @field_validator("betas")
    @classmethod
    def below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("must both be in [0, 1)")
        return betas


def _with_examples(raw: Any) -> Any:
    """A section's plain data, with `images`, as recipes once said, for `examples`."""
    if not isinstance(raw, Mapping) or "images" not in raw:
        return raw
    if "examples" in raw:
        raise ValueError("images is an older name of examples; give one of them, got both")
    return {"examples" if name == "images" else name: value for name, value in raw.items()}


class GapConfig(Section):
    """The gap meter (Table 2, live)."""

    every: int = Field(1, ge=1, description="epochs between two measurements; the last one is always measured")
    children: int = Field(4, ge=2, description="sampled children whose mean and variance are taken")
    examples: int | None = Field(2000, ge=1, description="of the alpha part for each figure; null for all")
    statistics_batches: int = Field(8, ge=1, description="batches from which a child's batch norm is re-estimated")

    _older_names = model_validator(mode="before")(_with_examples)


class GradientConfig(Section):
    """The gradient of closed gates in the alpha step; that of open ones is always exact."""

    kind: ClosedGradient = Field(
        "exact", description="subsampled asks a random share of the closed gates, unbiased; sampled asks none"
    )
    share: float = Field(0.25, gt=0, le=1, description="of the closed gates, where subsampled")


class HypergradientConfig(Section):
    """How the alpha step heeds that the weights follow alpha (DARTS, ICLR 2019, Eq. 6 to 8).

    `unrolled` looks one weight step ahead. Its mixed second derivative is exact, or the finite difference that DARTS
    takes, which is faster but far from it on networks with ReLUs (docs/method.md).
    """

    kind: Literal["first_order", "unrolled"] = "first_order"
    product: Literal["exact", "finite_difference"] = "exact"

    @model_validator(mode="before")
    @classmethod
    def kind_alone(cls, raw: Any) -> Any:
        return {"kind": raw} if isinstance(raw, str) else raw


def _ratio(value: str) -> str:
    parse_ratio(value)
    return value


class RaceConfig(Section):
    """How a race chooses among candidates (docs/race.md)."""

    time: float | None = Field(
        None, gt=0, description='that all of it takes, such as "20m"; null: as long as the search did'
    )
    candidates: int | None = Field(
        None, ge=2, le=27, description="references left out; null: as many as the time allows, 6 to 27"
    )
    epochs: int | None = Field(
        None, ge=1, description="of the first rung; null: as many as the time allows. With candidates the time is open"
    )
    searched: bool = Field(True, description="whether cells of the search take part; without them it is a control")
    published: bool = Field(False, description="whether published cells of the space take part")
    references: tuple[str, ...] = Field(
        (),
        description="such as resnet18: networks to compare with, which take part to the end, a random cell beside them",
    )
    examples: int | None = Field(
        None, ge=2, description="training examples of each candidate, balanced; null for all that are not the judge's"
    )
    max_macs: int | None = Field(None, description="multiply-adds; every candidate gets the width that meets it")
    processes: int | None = Field(None, ge=1, description="trainings at a time; null: one a core, or one a GPU")

    @field_validator("time", mode="before")
    @classmethod
    def seconds(cls, value: object) -> float | None:
        return None if value is None else read_seconds(value)

    @field_validator("max_macs", mode="before")
    @classmethod
    def multiply_adds(cls, value: object) -> int | None:
        return None if value is None else read_macs(value)


class SearchConfig(Section):
    """The search loop (Eq. 6, 13; settings of Section 5.1)."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(64, ge=1)
    examples: int | None = Field(
        None, ge=2, description="training examples (images, tokens) to search with, balanced; null for all"
    )
    shuffled_labels: bool = Field(False, description="search on labels without meaning: a control")
    split: str = Field("1:1", description="m:n, examples for the weights and for alpha")
    steps: str = Field("1:1", description="m:n, weight steps and alpha steps in turn")
    alpha_start: float = Field(0.0, ge=0, lt=1, description="share of the search before alpha is first updated")
    pretrain_epochs: int = Field(0, ge=0, description="weights only, with operations drawn uniformly (Table 10)")
    weights: SGDConfig = SGDConfig()
    alpha: AdamConfig = AdamConfig()
    gradient: GradientConfig = GradientConfig()
    hypergradient: HypergradientConfig = HypergradientConfig()
    gap: GapConfig = GapConfig()
    choice: Literal["derive", "race"] = Field(
        "derive", description="race: train candidates from scratch after the search, and keep the best (docs/race.md)"
    )
    judge: float | None = Field(
        None,
        ge=0,
        lt=0.9,
        description="share of the training examples that the search leaves to the judge of a race; null: none, or for "
        "choice race a tenth, but at least 1,000 or a fifth",
    )
    race: RaceConfig = RaceConfig()
    execution: Literal["sparse", "dense"] = Field("sparse", description="dense runs every operation: the reference")
    precision: Literal["float32", "bfloat16"] = "float32"

    _older_names = model_validator(mode="before")(_with_examples)

    @property
    def leaves_aside(self) -> bool:
        """Whether a part of the training examples is left to a judge."""
        return self.judge != 0 if self.choice == "race" else bool(self.judge)

    @field_validator("split", "steps")
    @classmethod
    def ratio(cls, value: str) -> str:
        return _ratio(value)

    @field_validator("steps")
    @classmethod
    def whole_steps(cls, value: str) -> str:
        if not all(isinstance(part, int) for part in parse_ratio(value)):
            raise ValueError("must be two whole numbers m:n, such as 1:1")
        return value


class TrainConfig(Section):
    """Training a rebuilt network from scratch (Section 5.1: 600 epochs, batch 96).

    In a configuration the settings of the network stand beside these (`train_config`).
    """

    Network: ClassVar[type[NetworkConfig]] = NetworkConfig
    network: str | None = Field(
        None, description="a reference, or another space than that of the search, whose network this section describes"
    )
    max_macs: int | None = Field(
        None,
        description="multiply-adds of one example, such as 600M; channels then become as many as stay within that",
    )
    epochs: int = Field(600, ge=1)
    revised: tuple[Change, ...] = Field(
        (),
        description="(after which epoch, from how many, to how many): changes on the way, over which the rest of the "
        "schedule is spread; void where epochs is another number. A fit that gets late, or has time left, writes them",
    )
    batch_size: int = Field(96, ge=1)
    weights: TrainSGDConfig = TrainSGDConfig()
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an average of the weights that is evaluated")
    average_after: int | None = Field(
        None,
        ge=1,
        description="average the weights from the epoch on whose held-out score is worse than the best of all but the "
        "last so many, and evaluate the average (Merity et al., ICLR 2018)",
    )
    examples: int | None = Field(None, ge=2, description="training examples to train on, balanced; null for all")
    validation: float = Field(0.0, ge=0, lt=1, description="share of the training examples held out and measured")
    start_from: Path | None = Field(
        None,
        description="a finished training's run folder, or its network.safetensors: stem and body start with its "
        "weights, the head afresh",
    )
    parts: Literal["train", "search", "judge"] = Field(
        "train",
        description="search: train on what a search gives the weights, and hold out what it gives alpha; judge: hold "
        "out what a search leaves to the judge of a race (`search.judge`), and train on the rest",
    )
    validate_every: int = Field(1, ge=1, description="epochs between two measurements of the held-out share")
    precision: Literal["float32", "bfloat16"] = "float32"
    test: bool = Field(True, description="measure on the test set at the end; otherwise on the held-out share")
    compile: bool = Field(False, description="run the network under torch.compile, which takes minutes to start")

    @field_validator("max_macs", mode="before")
    @classmethod
    def multiply_adds(cls, value: object) -> int | None:
        return None if value is None else read_macs(value)

    @model_validator(mode="after")
    def held_out_once(self) -> TrainConfig:
        if self.validation > 0 and self.parts != "train":
            held = "the alpha part" if self.parts == "search" else "the judge's part"
            raise ValueError(f"validation belongs to parts: train; with parts: {self.parts} {held} is held out")
        if self.ema is not None and self.average_after is not None:
            raise ValueError("ema and average_after are two averages of the weights; give one, got both")
        _ = self.passes  # says what is wrong with them
        return self

    @property
    def passes(self) -> Passes:
        """How many epochs there are, changes included."""
        return passes_of(self.epochs, self.revised)

    @property
    def network_config(self) -> NetworkConfig:
        """The settings of the network alone."""
        return self.Network.model_validate({name: getattr(self, name) for name in self.Network.model_fields})

    def with_network(self, settings: NetworkConfig) -> Self:
        """The same training of a network with other settings."""
        return self.model_copy(update=dict(settings))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy finds the class again by the kind of network; it has no name of its own."""
        return _blank, (self.Network,), self.__getstate__()


@cache
def train_config(network: type[NetworkConfig]) -> type[TrainConfig]:
    """`TrainConfig` with the settings of a kind of network."""
    config_class = cast(type[TrainConfig], create_model("TrainConfig", __base__=cast(Any, (TrainConfig, network))))
    config_class.Network = network
    return config_class


def _blank(network: type[NetworkConfig]) -> TrainConfig:
    kind = train_config(network)
    return kind.__new__(kind)


class TruthConfig(Section):
    """A table of known accuracies, to say at the end of a search how good its cell is; the search never sees it."""

    table: Path | None = Field(None, description=".npz or .csv; docs/data.md has the forms")
    metric: str | None = Field(None, description="which column; null for the table's first accuracy")


LONGEST_NAME = 255
"""Bytes of a folder's name on the usual file systems."""


class RunConfig(Section):
    """Where a run is written."""

    root: Path = Path("runs")
    name: str | None = Field(None, min_length=1, description="the folder's name; by default kind and time")
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        description="epochs between two checkpoints; null: one, or more where saving would take 2 % of the time",
    )
    checkpoint_minutes: float | None = Field(10.0, gt=0, description="and at the latest after so long; null for never")
    keep: int = Field(2, ge=1, description="last checkpoints that stay, besides the best")

    @field_validator("name")
    @classmethod
    def one_folder(cls, name: str | None) -> str | None:
        if name is not None and (Path(name).name != name or name in (".", "..")):
            raise ValueError("must be the name of one folder, without a path")
        if name is not None and ("\0" in name or len(name.encode(errors="surrogateescape")) > LONGEST_NAME):
            raise ValueError(f"must be a name that a folder can have, of at most {LONGEST_NAME} bytes")
        return name
