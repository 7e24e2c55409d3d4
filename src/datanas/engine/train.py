"""Training a rebuilt network, and what it scores on the test set (Section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from datanas.codes.architecture import Architecture
from datanas.engine.config import Config
from datanas.engine.evaluation import NETWORK_FILE, Evaluation, measure
from datanas.engine.loop import Loop
from datanas.engine.process import process_kept
from datanas.engine.rebuild import dead_parts
from datanas.engine.run import begin_run, load_run_config, with_recipe_of
from datanas.engine.setup import load_task, memory_errors
from datanas.engine.starting import starting_weights
from datanas.engine.train_job import TrainJob
from datanas.engine.width import with_width
from datanas.lookup import find_architecture


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    Attributes:
        path: the run folder.
        network: the trained network, in evaluation mode (the average of the weights, where one was kept).
        evaluation: its figures on the test set, or on the held-out share with `train.test: false`.
        validation: its figures on the part `validation` that the data bring, where they do.
        channels: its width, as set or as found by `train.max_macs`.
        dead_parts: what of the architecture takes no part in the network, for people; empty where all of it does.
    """

    path: Path
    network: torch.nn.Module
    evaluation: Evaluation
    validation: Evaluation | None
    channels: int
    dead_parts: str = ""


@process_kept()
def train(
    architecture: Architecture | str | Path | None = None,
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
) -> TrainResult:
    """Train an architecture from scratch and measure it on the test set, once, at the end.

    Where a run of that name stands, go on with it.

    Args:
        architecture: an Architecture, the path of its file or of a run folder, its genotype, or the name of a published
            one; may be left out when resuming. Of a run folder that run's recipe holds, under what a mapping says; a
            recipe's path stands alone.
        config: a recipe's path, a mapping of sections, or a Config; may be left out when resuming.
        resume: a run folder to go on with.
        quiet: no progress on stderr.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.

    Raises:
        ArchitectureError, ConfigError, DataError: before anything is written.
        NonFiniteError, OutOfMemoryError, StorageError, RunInUseError, CheckpointError, ProcessLostError, Interrupted:
            as they say.
    """
    if architecture is None and resume is None:
        raise TypeError("train() needs an architecture, or a run to resume")
    given = architecture
    if given is None and resume is not None:
        load_run_config(resume)
        given = Path(resume) / "architecture.json"
    assert given is not None
    chosen = find_architecture(given)
    if resume is None and (config is None or isinstance(config, Mapping)):
        config = with_recipe_of(given, config or {}, {})
    beginning = begin_run(config, "train", resume, architecture=chosen, allow_topology_change=allow_topology_change)
    with chosen.naming_file(), beginning as run:
        with memory_errors(), run.processes.together():
            assert run.architecture is not None
            start = None if run.has_begun else starting_weights(run.config)
            task = load_task(run.config, run.device, run.processes)
            run.config = with_width(run.architecture, run.config, task)
            job = TrainJob(run.config, run.architecture, task, run.device, run.processes, start)
        run.open(task, job.length, {"architecture.json": chosen.to_json()})
        with Loop(job, run, quiet=quiet) as loop:
            for step in loop:  # from where the run is; saves, and stops at a signal, between two steps
                loop.add(job.step(step))
                if loop.ends_epoch:
                    loop.report(job.end_epoch(loop.epoch, loop.means()))
        network = job.evaluated
        # Copies: a head may share weights with its stem, and safetensors stores nothing that is shared.
        weights = {
            name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()
        }
        run.write_bytes(NETWORK_FILE, save(weights))
        part = "test" if run.config.train.test else job.held_out
        assert part is not None
        evaluation = measure(network, task, part)
        channels = run.config.train.channels
        figures = {**evaluation.figures, evaluation.score_name: evaluation.score, "loss": evaluation.loss}
        written = {**asdict(evaluation), "channels": channels, "preference": task.preference(figures)}
        validation = None
        if task.has_validation:
            validation = evaluation if part == "validation" else measure(network, task, "validation")
            written["validation"] = asdict(validation)
        run.write_json("evaluation.json", written)
        dead = dead_parts(run.architecture, run.config)
        return TrainResult(run.path, network.eval(), evaluation, validation, channels, dead)
