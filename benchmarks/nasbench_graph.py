"""How good the graph networks are that a search keeps, by NAS-Bench-Graph's table of all of them.

    python -m benchmarks.nasbench_graph --data PATH --bench PATH --seeds 0 1 2 3 4

DATA holds Planetoid's files, BENCH the .bench files of the package nas-bench-graph. Weights learn on the training nodes
and alphas on the validation nodes; the table is read once the search is over. `random in the supernet` trains the same
weights for as many steps with children drawn uniformly, and keeps the child with the lowest loss on the validation
nodes among a hundred random ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples.graph_network import NODES, Graph, GraphNetwork, likeliest, loss, searched

from benchmarks.graphs import planetoid
from benchmarks.graphs.intervals import interval
from benchmarks.graphs.table import Table
from benchmarks.measuring import machine
from datanas.core.errors import DataError

Found = tuple[tuple[int, ...], tuple[str, ...]]
WIDTH, WARM_UP, STEPS, CHILDREN = 16, 100, 50, 100
ARMS: dict[str, dict[str, Any]] = {
    "egs, M = 1": {},
    "egs, M = 4": {"samples": None},
    "gdas": {"sampler": "gdas"},
    "darts": {"sampler": "darts"},
}
RANDOM = "random in the supernet"


def search_once(graph: Graph, arm: Mapping[str, Any], seed: int) -> Found:
    settings = dict(arm)
    torch.manual_seed(seed)
    classes = int(graph.labels.max()) + 1
    module = GraphNetwork(graph.features.shape[1], classes, WIDTH, samples=settings.pop("samples", 1))
    options = {"warm_up": WARM_UP, "steps": STEPS, **settings}
    return likeliest(searched(module, graph, options.pop("steps"), seed, **options))


def random_once(graph: Graph, seed: int, children: int) -> Found:
    torch.manual_seed(seed)
    module = GraphNetwork(graph.features.shape[1], int(graph.labels.max()) + 1, WIDTH)
    search = searched(module, graph, 0, seed, warm_up=WARM_UP + STEPS)
    module.eval()
    blocks: Any = [*module.reads, *module.nodes]
    best: tuple[float, Found] = float("inf"), ((), ())
    for _ in range(children):
        with torch.no_grad(), search.sample(uniform=True):
            value = float(loss(module, graph, graph.validation))
            kept = tuple(block.primitives[list(block.gates.host[0]).index(1.0)] for block in blocks)
        if value < best[0]:
            best = value, (tuple(map(int, kept[:NODES])), kept[NODES:])
    return best[1]


def measured(table: Table, found: Found, seconds: float) -> dict[str, Any]:
    try:
        row = table.row(*found)
    except DataError:  # skip connections alone, which the table lacks
        return {"links": found[0], "operations": found[1], "seconds": seconds}
    return {
        "links": found[0],
        "operations": found[1],
        "seconds": seconds,
        "validation": 100 * table.validation[row],
        "test": 100 * table.test[row],
        "percentile": table.percentile(row),
        "same_size": 100 * table.same_size(row),
    }


def table_text(runs: Sequence[Mapping[str, Any]], table: Table, name: str) -> str:
    """The arms of one graph: means over seeds, and paired differences with 95 % intervals of Student's t."""
    mean, highest = 100 * float(table.test.mean()), 100 * float(table.test.max())
    best = ", ".join(f"k = {count} {100 * table.best_of(count):.1f}" for count in (2, 3, 5, 10))
    lines = [
        f"{name}: test accuracy in the table, mean of all networks {mean:.1f}, best {highest:.1f}; "
        f"the best by validation of k random ones, each trained by itself: {best}",
        "| arm | test | percentile | less the mean | less networks of equal size | less the random one | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    arms = {run["arm"]: [each for each in runs if each["arm"] == run["arm"] and "test" in each] for run in runs}
    random = {run["seed"]: run["test"] for run in arms.get(RANDOM, [])}
    for arm, found in arms.items():
        test = [run["test"] for run in found]
        beside = [run["test"] - random[run["seed"]] for run in found if run["seed"] in random]
        cells = [
            arm,
            f"{np.mean(test):.1f}",
            f"{np.mean([run['percentile'] for run in found]):.0f}",
            interval([value - mean for value in test]),
            interval([run["test"] - run["same_size"] for run in found]),
            interval(beside) if beside and arm != RANDOM else "",
            f"{np.mean([run['seconds'] for run in found]):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--graphs", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=[*ARMS, RANDOM], choices=[*ARMS, RANDOM])
    parser.add_argument("--children", type=int, default=CHILDREN, help="of `random in the supernet`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keep each run there, and go on where it ends")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    runs: list[dict[str, Any]] = []
    if options.json is not None and options.json.is_file():
        runs = json.loads(options.json.read_text())
    for name in options.graphs:
        graph, table = planetoid.load(options.data, name), Table.load(options.bench / f"{name}.bench")
        for seed in options.seeds:
            for arm in options.arms:
                key = {"graph": name, "seed": seed, "arm": arm}
                if any(key.items() <= run.items() for run in runs):
                    continue
                start = time.process_time()
                found = (
                    random_once(graph, seed, options.children) if arm == RANDOM else search_once(graph, ARMS[arm], seed)
                )
                runs.append({**key, **measured(table, found, time.process_time() - start)})
                print(runs[-1], flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(runs, indent=1))
    for name in options.graphs:
        table = Table.load(options.bench / f"{name}.bench")
        of_graph = [run for run in runs if run["graph"] == name and run["seed"] in options.seeds]
        print(table_text(of_graph, table, name))


if __name__ == "__main__":
    main()
