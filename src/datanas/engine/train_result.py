"""What a training leaves: `TrainResult` for Python, the weights and evaluation.json in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from datanas.engine.budget_kept import within_text
from datanas.engine.certainty import ANSWERS_FILE
from datanas.engine.evaluation import NETWORK_FILE, Evaluation, evaluating, measure, measure_fully
from datanas.engine.exhibits import EXHIBITS_FILE, exhibits_text
from datanas.engine.rebuild import dead_parts
from datanas.engine.run import Run
from datanas.runs.metrics import add_result

if TYPE_CHECKING:
    from datanas.engine.train import TrainJob


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    Attributes:
        path: the run folder.
        network: the trained network, in evaluation mode (the average of the weights, where one was kept).
        evaluation: its figures on the test set, or on the held-out share with `train.test: false`.
        validation: its figures on the part `validation` that the data bring, where they do.
        channels: its width, as set or as found by `train.max_macs`.
        costs: what its network costs by each cost of the budget; empty without one.
        within: how these stand to the bounds, in a sentence for people; empty without any.
        dead_parts: what of the architecture takes no part in the network, for people; empty where all of it does.
    """

    path: Path
    network: torch.nn.Module
    evaluation: Evaluation
    validation: Evaluation | None
    channels: int
    dead_parts: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    within: str = ""


def write_result(job: TrainJob, run: Run, costs: Mapping[str, float]) -> TrainResult:
    """Write the weights of a training that has made its last step, measure it once, and write that."""
    network, task, channels = job.evaluated, job.task, run.config.train.network_config.width
    # Copies: a head may share weights with its stem, and safetensors stores nothing that is shared.
    weights = {name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()}
    run.write_bytes(NETWORK_FILE, save(weights))
    part = "test" if run.config.train.test else job.held_out
    assert part is not None
    evaluation, found = measure_fully(network, task, part)
    if found.answers and not run.config.train.test:  # a race compares them
        run.write_bytes(ANSWERS_FILE, save(dict(found.answers)))
    figures = {**evaluation.figures, evaluation.score_name: evaluation.score, "loss": evaluation.loss}
    written = {**asdict(evaluation), "channels": channels, "preference": task.selection_score(figures)}
    written |= {"shown": task.metric.show(evaluation.score), "metric": asdict(task.metric)}
    if evaluation.interval is not None:
        written["interval_shown"] = task.metric.show_range(*evaluation.interval)
        written["examples_are"] = task.answer_units
    if costs:
        written["costs"] = dict(costs)
    validation = None
    if task.has_validation:
        validation = evaluation if part == "validation" else measure(network, task, "validation")
        written["validation"] = asdict(validation)
    if run.config.train.test and run.is_first:  # of a candidate that is only judged nobody asks for exhibits
        with evaluating(network):
            run.write_text(EXHIBITS_FILE, exhibits_text(network, task, part, found.exhibits))
    is_first_time = not run.has("evaluation.json")
    run.write_json("evaluation.json", written)
    if run.is_first and is_first_time:
        costs_and_loss = {"loss": evaluation.loss, "parameters": evaluation.parameters, "macs": evaluation.macs}
        add_result(run.path, job.length, {evaluation.score_name: evaluation.score, **costs_and_loss})
    assert run.architecture is not None
    dead = dead_parts(run.architecture, run.config)
    within = within_text(job, costs)
    return TrainResult(run.path, network.eval(), evaluation, validation, channels, dead, costs, within)
