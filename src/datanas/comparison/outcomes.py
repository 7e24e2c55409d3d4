"""What the runs of a comparison have given, as the plain data that its report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from datanas.codes.architecture import Architecture
from datanas.comparison.config import CompareConfig
from datanas.comparison.plan import Plan
from datanas.comparison.stages import Stages
from datanas.comparison.statistics import summarise
from datanas.core.errors import ArchitectureError
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.setup import load_table
from datanas.runs.folder import read_json

REFERENCE, BEST_OF = "random cells", "best of random"
Figures = dict[str, Any]


class Outcomes:
    """Reads what the runs have written.

    Args:
        failed: last words of the runs that failed, by name.
    """

    def __init__(self, recipe: CompareConfig, plan: Plan, stages: Stages, failed: Mapping[str, str]) -> None:
        self._recipe = recipe
        self._plan = plan
        self._stages = stages
        self._failed = failed
        settings = recipe.method(next(iter(recipe.methods)), recipe.seeds[0])
        self._table = load_table(settings)
        task = stages.task()
        self._is_share, self._higher_is_better = task.metric.is_share, task.metric.higher_is_better
        self._metric = "test score" if self._is_share else f"test {task.metric.name}"
        if self._table is not None:
            self._is_share = self._higher_is_better = True
            self._metric = settings.truth.metric or self._table.default_metric
        self._scores = self._measured()

    def data(self) -> dict[str, Any]:
        """The contents of comparison.json."""
        rows = [self._method(name) for name in self._plan.methods]
        rows.append(self._control(REFERENCE, self._reference_note()))
        if self._plan.best_of is not None:
            rows.append(self._control(BEST_OF, self._best_of_note()))
        summary = summarise(
            rows, REFERENCE, higher_is_better=self._higher_is_better, confidence=self._recipe.confidence
        )
        return {
            "metric": self._metric,
            "unit": "%" if self._is_share else None,
            "higher_is_better": self._higher_is_better,
            "confidence": self._recipe.confidence,
            "budget": self._budget(),
            "seeds": list(self._recipe.seeds),
            "reference": REFERENCE,
            **summary,
            "notes": self._notes(),
        }

    def _budget(self) -> dict[str, Any]:
        """What every search had: the steps that whole epochs came to, with what was asked for where that differs."""
        budget = self._recipe.budget
        if budget.steps is None:
            return {"kind": "seconds", "value": budget.seconds}
        made = next(iter(self._plan.methods.values())).steps  # of all, as they share data and batches
        return {"kind": "steps", "value": made, **({} if made == budget.steps else {"asked": budget.steps})}

    def _measured(self) -> dict[tuple[str, int], list[float]]:
        """Scores, shares in per cent, by row and seed, in the order of their numbers."""
        scores: dict[tuple[str, int], list[float]] = {}
        for row, seed, number, cell in self._stages.cells():
            value = self._score(row, seed, number, cell)
            if value is not None:
                scores.setdefault((row, seed), []).append(value)
        return scores

    def _score(self, row: str, seed: int, number: int, cell: Architecture) -> float | None:
        if self._table is not None:
            return self._table.value(cell, self._metric)
        file = self._stages.training_folder(row, seed, number) / "evaluation.json"
        if not file.is_file():
            return None
        score = float(read_json(file)["score"])
        return 100 * score if self._is_share else score

    def _mean(self, row: str, seed: int) -> float | None:
        values = self._scores.get((row, seed))
        return mean(values) if values else None

    def _method(self, name: str) -> dict[str, Any]:
        seeds = {str(seed): self._search(name, seed) for seed in self._recipe.seeds}
        if name in self._recipe.ablations:
            return {"name": name, "kind": "ablation", "note": "an ablation; does not compete", "seeds": seeds}
        return {"name": name, "kind": "method", "note": "", "seeds": seeds}

    def _search(self, name: str, seed: int) -> Figures:
        path = self._stages.search_folder(name, seed)
        score, architecture = self._mean(name, seed), self._stages.searched(name, seed)
        if score is None or architecture is None:
            words = [self._failed.get(self._label(path)), self._failed.get(self._training_label(name, seed))]
            return {"failed": next(filter(None, words), "not run")}
        result = read_json(path / RESULT_FILE)
        truth = result["truth"] or {}
        candidates = sum(
            len(cell.edges) * sum(primitive != "none" for primitive in cell.primitives)
            for cell in architecture.cells.values()
        )
        return {
            "score": score,
            "expected": truth.get("expected"),
            "percentile": truth.get("percentile"),
            "seconds": result["seconds"],
            "memory": result["peak_memory"],
            **result["kept"],
            "sparsity": 1 - result["kept"]["operations"] / candidates,
            "collapsed": result["collapsed"],
            "search_score": (result["gap"] or {}).get("child"),
            "architecture": _text(architecture),
            "same_size_score": self._mean(f"{name} same size", seed),
            "shuffled_score": self._mean(f"{name} shuffled", seed),
        }

    def _control(self, row: str, note: str) -> dict[str, Any]:
        seeds: dict[str, Figures] = {}
        for seed in self._recipe.seeds:
            score = self._mean(row, seed)
            seeds[str(seed)] = {"failed": "not run"} if score is None else {"score": score, **self._sizes(row, seed)}
        return {"name": row, "kind": "control", "note": note, "seeds": seeds}

    def _sizes(self, row: str, seed: int) -> Figures:
        cells: Sequence[Architecture] = []
        if row == REFERENCE:
            cells = self._stages.random_cells("random", seed, self._recipe.random_count)
        elif (best := self._stages.best_candidate(seed)) is not None:
            cells = [best]
        figures: Figures = {"parameters": mean(self._stages.parameters(cell) for cell in cells)}
        if self._table is not None:
            scores = self._scores[row, seed]
            figures["percentile"] = mean(self._table.percentile(score, self._metric) for score in scores)
        return figures

    def _reference_note(self) -> str:
        count = self._recipe.random_count
        return f"{count} uniformly random cell{'s' if count > 1 else ''} a seed, their mean"

    def _best_of_note(self) -> str:
        length, count = self._plan.best_of, self._recipe.controls.best_of
        assert length is not None
        return (
            f"the best of {count} random cells, each trained from scratch for {length.epochs} epochs, together as long "
            "as a search, compared on what the searches use for alpha"
        )

    def _notes(self) -> list[str]:
        lengths = ", ".join(f"{name} {length.epochs}" for name, length in self._plan.methods.items())
        notes = [
            f"epochs of each search, fixed before the first: {lengths}",
            f"{self._recipe.workers} runs at a time with {self._plan.threads} thread(s) each; seconds are wall-clock "
            "time of the search, the choice at its end included",
            "parameters and multiply-adds are those of the kept operations in the supernet; sparsity is the share of "
            "candidate operations that is closed, `none` aside",
        ]
        if self._recipe.same_size_count:
            notes.append(
                f"same size: up to {self._recipe.same_size_count} other cells a seed and method, equal in parameters "
                "or nearest within 5 %; where there are none, the seed is left out"
            )
        notes += [f"failed: {name}: {words}" for name, words in self._failed.items()]
        if self._recipe.budget.steps is not None:
            notes.append("equal steps are not equal work: see the seconds")
        if self._recipe.controls.shuffled_labels:
            notes.append("shuffled: the same search on labels that were shuffled")
        return notes

    def _label(self, path: Any) -> str:
        return str(path.relative_to(self._stages.folder))

    def _training_label(self, name: str, seed: int) -> str:
        return self._label(self._stages.training_folder(name, seed, 0))


def _text(architecture: Architecture) -> str:
    """The genotype, or the digest of an architecture of a space that has no genotypes."""
    try:
        return architecture.to_genotype()
    except ArchitectureError:
        return architecture.digest
