"""The plan of a fit: what it does with its time, as its folder keeps it and as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from datanas.core.durations import show_seconds
from datanas.engine.config import resolve
from datanas.engine.passes import Change
from datanas.racing.costs import epochs_text
from datanas.racing.plan import rungs_of


@dataclass(frozen=True)
class Race:
    """A race of so many candidates, references left out.

    Attributes:
        epochs: of the first rung.
        examples: on which each is trained; None for all.
        seconds: that it is expected to take.
    """

    candidates: int
    epochs: int
    examples: int | None
    references: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a fit does, enough to repeat it.

    Attributes:
        seconds: that it may take.
        config: the resolved configuration of search, race and training, as plain data.
        search_seconds, train_seconds: that these are expected to take.
        race: None where there is no time for one.
        notes: what people should know of it.
        epochs: of the training; None until it begins, when they are settled by the time that is left then.
        is_free: whether nobody has said how large the network is, so that its width is settled then, too.
        width: of the training; None until it is settled, and where a recipe or a bound says it.
        settled_for: the digest of the architecture whose width it is.
        cutout: side of the square that a long training blanks in images; None where it is given or there is none.
        limit: seconds after which the training must have ended, which it follows by changing the number of its epochs;
            None where they are given, or repeated from another fit.
        examples: of the training, where its time is too short for one pass over all; None for all, and until it begins.
        revised: such changes of another fit, which are repeated (`train.revised`).
    """

    seconds: float
    config: dict[str, Any]
    search_seconds: float
    train_seconds: float
    race: Race | None
    notes: tuple[str, ...] = ()
    epochs: int | None = None
    is_free: bool = False
    width: int | None = None
    settled_for: str = ""
    cutout: int | None = None
    limit: float | None = None
    examples: int | None = None
    revised: tuple[Change, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        race = (
            None if data["race"] is None else Race(**{**data["race"], "references": tuple(data["race"]["references"])})
        )
        revised = tuple((after, old, new) for after, old, new in data.get("revised", ()))
        return cls(**{**data, "race": race, "notes": tuple(data["notes"]), "revised": revised})

    def text(self) -> str:
        """For people, a line a stage."""
        config = resolve(self.config)
        search, train = config.search, config.train
        size = f"{train.max_macs / 1e6:.1f} M multiply-adds" if train.max_macs else train.network_config.text()
        lines = [
            f"plan for {show_seconds(self.seconds)}:",
            f"  search  about {show_seconds(self.search_seconds)}: {epochs_text(search.epochs)}, "
            f"batch {search.batch_size}, space {config.space.name}",
        ]
        if self.race is not None:
            rungs = ", then ".join(
                f"{r.candidates} x {epochs_text(r.epochs)}" for r in rungs_of(self.race.candidates, self.race.epochs)
            )
            of = "all examples" if self.race.examples is None else f"{self.race.examples:,} examples"
            beside = f", with {', '.join(self.race.references)}" if self.race.references else ""
            lines.append(f"  race    about {show_seconds(self.race.seconds)}: {rungs} on {of}{beside}, at {size}")
        settled = "" if self.epochs is not None else "; settled when it begins"
        passes = epochs_text(train.epochs)
        lines.append(f"  train   about {show_seconds(self.train_seconds)}: {passes} at {size}{settled}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
