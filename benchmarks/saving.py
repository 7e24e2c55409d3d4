"""What checkpoints cost a search: seconds of one save, of one epoch, and the share of the first in the second.

    python -m benchmarks.saving --json FILE                        recipes/small/photos.yaml
    python -m benchmarks.saving -c RECIPE --set data.root=PATH     another recipe

The default interval is an epoch, or as many as make saving less than 2 % of the time; ten minutes where an epoch takes
longer. An epoch is its steps at the median time of one, and the measurements at its end divided by the epochs between
two of them. A save is timed from the state of the job to the file system's word that the device holds it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import report
from datanas.engine.config import resolve
from datanas.engine.loop import WORK
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task, select_device
from datanas.kernels.hardware import median_seconds
from datanas.runs.checkpoint import save_checkpoint

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "small" / "photos.yaml"
WARM_UP = 3


def seconds_of_saves(job: SearchJob, folder: Path, times: int) -> list[float]:
    """Of saves that keep the last two, as a run does."""
    found = []
    for step in range(times):
        start = time.perf_counter()
        save_checkpoint(folder, step, {"job": job.state()}, keep=2)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting laid over it")
    parser.add_argument("--steps", type=int, default=20, help="measured")
    parser.add_argument("--saves", type=int, default=11, help="measured, after one that is not")
    parser.add_argument("--folder", type=Path, help="where to save; by default where temporary files lie")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    overrides: list[tuple[str, Any]] = [("device", "cpu"), ("threads", options.threads), ("seed", options.seed)]
    config = resolve(options.config, overrides + [tuple(each.split("=", 1)) for each in options.set])
    device = select_device(config)
    job = SearchJob(config, load_task(config, device), device)
    # From the middle of the search on, where both updates are made.
    steps = count(job.epochs * job.steps_per_epoch // 2)
    step = median_seconds(lambda: job.step(next(steps)), device, warm_up=WARM_UP, repeats=options.steps)
    start = time.perf_counter()
    job.end_epoch(job.epochs, {"loss": 0.0})
    measuring = time.perf_counter() - start
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        save = statistics.median(seconds_of_saves(job, Path(folder), options.saves + 1)[1:])
        newest = max((Path(folder) / "checkpoints").iterdir())
        size = sum(file.stat().st_size for file in newest.iterdir())
    epoch = job.steps_per_epoch * step + measuring / config.search.gap.every
    epochs = config.run.checkpoint_every or max(1, math.ceil(WORK * save / epoch))
    interval = min(epochs * epoch, 60 * (config.run.checkpoint_minutes or math.inf))
    figures = {
        "step_s": step,
        "epoch_s": epoch,
        "checkpoint_mb": size / 1e6,
        "save_s": save,
        "percent_every_epoch": 100 * save / (epoch + save),
        "epochs_between_saves": epochs,
        "percent": 100 * save / (interval + save),
    }
    title = (
        f"saving: {options.config.name}, {options.steps} steps, median of {options.saves} saves, seed {options.seed}"
    )
    report(title, figures, options.json)


if __name__ == "__main__":
    main()
