"""How far the sampled step is from what the machine can do: bandwidth, peak arithmetic, and the weight step's share.

    python -m benchmarks.roofline --json FILE

Copying 512 MB gives the bandwidth of memory (read and write counted), copying 4 MB that of the caches, which is what an
operation sees whose input has just been written; a large matrix product and the supernet's own pointwise convolution
give the arithmetic. The weight step's arithmetic is six operations for each multiply-add that its sampled operations
make forward, on average over draws: two forward, four backward.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.measuring import report
from benchmarks.search_step import CPU, SparseStep
from datanas.kernels.hardware import keep_freed_memory, median_seconds


def copied(size: int) -> float:
    """GB/s of copying `size` bytes, read and write."""
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    return 2 * size / median_seconds(lambda: target.copy_(source), CPU, repeats=20) / 1e9


def multiplied(size: int) -> float:
    """GFLOP/s of a float32 matrix product."""
    matrix = torch.randn(size, size)
    return 2 * size**3 / median_seconds(lambda: matrix @ matrix, CPU) / 1e9


def convolved(channels: int, pixels: int, batch: int) -> float:
    """GFLOP/s of a pointwise convolution in channels-last layout."""
    x = torch.randn(batch, channels, pixels, pixels).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 1, 1)
    seconds = median_seconds(lambda: F.conv2d(x, weight), CPU, repeats=20)
    return 2 * channels**2 * batch * pixels**2 / seconds / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    shape = {"scope": "node", "samples": 4, "channels": 16, "cells": 8, "batch": 64, "size": 32, "seed": options.seed}
    step = SparseStep(argparse.Namespace(**shape, gradient="exact", share=1.0))
    seconds = median_seconds(step.weight_step, CPU, warm_up=4, repeats=15)
    costs = step.space.costs(step.supernet.stem, torch.zeros(1, 3, 32, 32))
    inclusion = step.sampler.inclusion()
    macs = sum(float((inclusion[name].double().numpy() * cost.macs).sum()) for name, cost in costs.items())
    peak = statistics.median([convolved(32, 16, 64), convolved(64, 8, 64), convolved(16, 32, 64)])
    reached = 6 * macs * 64 / seconds / 1e9
    report(
        "roofline: node scope, M = 4, C = 16, 8 cells, batch 64 of 32x32",
        {
            "copy_memory_gb_s": copied(512 * 2**20),
            "copy_cache_gb_s": copied(4 * 2**20),
            "matrix_gflop_s": multiplied(2048),
            "pointwise_gflop_s": peak,
            "weight_step_s": seconds,
            "sampled_mmacs_an_image": macs / 1e6,
            "weight_step_gflop_s": reached,
            "share_of_pointwise": reached / peak,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
