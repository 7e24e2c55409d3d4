"""Several processes that run as one: each takes its share of a batch, and what they find is averaged.

All of them hold the same weights and alphas and draw the same gates from keyed generators. So all have the same
operations open, and only their gradients are exchanged, not those of the whole supernet. Lightning Fabric starts the
processes and joins them; it is imported here alone, and only where there is more than one process.
"""

from __future__ import annotations

import atexit
import builtins
import logging
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist

from datanas.core.console import say
from datanas.core.errors import ConfigError, DatanasError, EndedElsewhere, Interrupted, ProcessLostError

BUCKET = 1 << 24
"""Numbers that are exchanged at once, at most; a tensor that has more goes alone."""


class Processes:
    """The processes of a run; this class is one process alone, for which nothing is to be exchanged.

    Attributes:
        rank: the place of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def own_key(self) -> tuple[int, ...]:
        """What keys random numbers that differ between processes; empty in the first, as in one alone."""
        return () if self.is_first else (self.rank,)

    def share(self, count: int) -> slice:
        """The part of `count` examples that is this process's.

        Raises:
            ConfigError: they cannot be divided equally.
        """
        if count % self.size:
            raise ConfigError(
                f"batch_size: {count} examples cannot be divided equally among {self.size} processes; "
                f"take a multiple of {self.size}"
            )
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the processes into each tensor, in place; all must give the same shapes in one order."""

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, stacked: (size, *shape)."""
        return tensor[None]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, with a gradient of any order."""
        return tensor

    def first(self, work: Callable[[], bytes]) -> bytes:
        """Let the first process do some work, and give its result to all.

        Raises:
            EndedElsewhere: it failed there; the first itself raises its error.
        """
        return work()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block that every process must get through; where one fails, all stop.

        Raises:
            ProcessLostError: another process failed, the first did not.
            EndedElsewhere: in another than the first: the first failed.
        """
        yield


ALONE = Processes()


class ProcessGroup(Processes):
    """Several processes, joined by torch.distributed.

    Raises, in every method:
        ProcessLostError: another process is gone.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device = device

    def average(self, tensors: Sequence[Tensor]) -> None:
        alike: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            alike[tensor.dtype].append(tensor)
        for bucket in (bucket for group in alike.values() for bucket in _buckets(group)):
            flat = torch.cat([tensor.detach().reshape(-1).to(self.device) for tensor in bucket])
            self._sum(flat)
            parts = torch.split(flat.div_(self.size), [tensor.numel() for tensor in bucket])
            with torch.no_grad():
                torch._foreach_copy_(list(bucket), [p.view(t.shape) for p, t in zip(parts, bucket, strict=True)])

    def gather(self, tensor: Tensor) -> Tensor:
        flat = tensor.detach().to(self.device).contiguous()
        found = flat.new_empty((self.size, *flat.shape))
        with _contact():
            dist.all_gather(list(found.unbind(0)), flat)
        return found.to(tensor.device)

    def total(self, tensor: Tensor) -> Tensor:
        return cast(Tensor, _Total.apply(tensor, self))

    def first(self, work: Callable[[], bytes]) -> bytes:
        data, error = b"", None
        if self.is_first:
            try:
                data = work()
            except BaseException as caught:
                error = caught
        # Below 0: the exit code of the error, less one.
        length = torch.tensor([len(data) if error is None else -1 - _exit_code(error)], device=self.device)
        try:
            self._broadcast(length)
        finally:
            if error is not None:
                raise error
        if length.item() < 0:
            raise EndedElsewhere("the first process has ended", int(-1 - length))
        content = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.is_first and data:
            content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._broadcast(content)
        return data if self.is_first else content.cpu().numpy().tobytes()

    @contextmanager
    def together(self) -> Iterator[None]:
        error: BaseException | None = None
        try:
            yield
        except ProcessLostError:
            raise
        except BaseException as caught:
            error = caught
        # The exit code of each process' error, plus one; 0 where it has none.
        failed = [0] * self.size
        try:
            failed = self.gather(torch.tensor([0 if error is None else 1 + _exit_code(error)])).flatten().tolist()
        finally:
            if error is not None and (self.is_first or not failed[0]):
                raise error
        if failed[0]:
            raise EndedElsewhere("the first process has ended", failed[0] - 1) from error
        if any(failed):
            rank = next(place for place, code in enumerate(failed) if code)
            raise ProcessLostError(f"process {rank} has stopped with an error of its own")

    def _sum(self, tensor: Tensor) -> None:
        with _contact():
            dist.all_reduce(tensor)

    def _broadcast(self, tensor: Tensor) -> None:
        with _contact():
            dist.broadcast(tensor, 0)


class _Total(torch.autograd.Function):
    """A sum over processes; the gradient of everybody's loss is that sum too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: ProcessGroup) -> Tensor:
        ctx.processes = processes
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        processes._sum(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Total.apply(gradients[0], ctx.processes)), None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, (DatanasError, Interrupted)) else 1


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and held + tensor.numel() > BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.numel()
    if bucket:
        yield bucket


_SIGNS_OF_LOSS = ("gloo", "Gloo", "NCCL", "onnection", "imed out", "Broken pipe")


@contextmanager
def _contact() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or any(word in str(error) for word in _SIGNS_OF_LOSS)):
            raise
        reason = str(error).strip().splitlines()
        raise ProcessLostError(
            f"lost contact with another process of this run ({reason[0] if reason else 'no answer'}); "
            "its own message stands above, if it could give one; go on with --resume"
        ) from error


_joined: ProcessGroup | None = None


def join(accelerator: str, devices: int, num_nodes: int, timeout: float) -> Processes:
    """Start the other processes of this run, or join those that torchrun or Slurm has started.

    Where it starts them, each runs this process's command from its beginning and arrives here too. A second call gives
    the same processes again.

    Args:
        accelerator: cpu, cuda or mps.
        devices: processes on this machine, one a device.
        num_nodes: machines.
        timeout: seconds after which a process that does not answer is lost.

    Raises:
        ConfigError: the numbers do not fit the machine, or what started this process.
        ProcessLostError: another process does not come.
    """
    global _joined
    is_elastic = dist.is_available() and dist.is_torchelastic_launched()
    if is_elastic:
        started, here = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if devices * num_nodes not in (1, started):
            raise ConfigError(f"devices: {devices} on {num_nodes} machines, but torchrun has started {started}")
        devices, num_nodes = here, started // here
    if _joined is not None:
        if (_joined.size, _joined.device.type) != (devices * num_nodes, accelerator):
            raise ConfigError(
                f"devices: this program runs as {_joined.size} processes on {_joined.device.type} already"
            )
        return _joined
    if devices * num_nodes == 1:
        return ALONE
    if num_nodes > 1 and not is_elastic and "SLURM_NTASKS" not in os.environ:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
        if missing:
            raise ConfigError(f"num_nodes: {num_nodes} machines need {' and '.join(missing)} set on each, or torchrun")
    are_there = is_elastic or "SLURM_NTASKS" in os.environ or "LOCAL_RANK" in os.environ
    if devices > 1 and not are_there and (what := _what_cannot_be_run_again()):
        raise ConfigError(
            f"devices: {devices} processes need this program to run {devices} times, which cannot be done with {what}; "
            f"put it into a script file, use the command line (datanas search --devices {devices}) or take devices=1"
        )
    with _process_kept():
        _joined = _start(accelerator, devices, num_nodes, timeout)
    return _joined


def _what_cannot_be_run_again() -> str | None:
    """What started this program, where starting it again by its file or module would not do the same; else None."""
    main = sys.modules["__main__"]
    specification = getattr(main, "__spec__", None)
    if getattr(sys, "frozen", False):
        return "a frozen executable"
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "get_ipython"):
        return "a notebook or an interactive session"
    if multiprocessing.parent_process() is not None:
        return "a process that multiprocessing has started"
    if specification is not None:
        return "a folder or an archive that is run" if specification.name == "__main__" else None
    if not getattr(main, "__file__", None):
        return "python -c, standard input or an embedded Python"
    if not os.path.isfile(sys.argv[0]):
        return f"a script that is no longer found ({sys.argv[0]!r})"
    return None


_SET_BY_FABRIC = (
    *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS"),
    *("PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR"),  # by being imported
)


@contextmanager
def _process_kept() -> Iterator[None]:
    """Run a block that starts processes, and take back what it sets for them in the environment and in loggers."""
    variables = {name: os.environ.get(name) for name in _SET_BY_FABRIC}
    loggers = [logging.getLogger(name) for name in ("lightning.fabric", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _start(accelerator: str, devices: int, num_nodes: int, timeout: float) -> ProcessGroup:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.launchers import subprocess_script
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    for name in ("lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    observer = logging.getLogger(subprocess_script.__name__)
    observer.setLevel(logging.INFO)
    observer.addHandler(_Observer())
    observer.propagate = False
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=DDPStrategy(timeout=timedelta(seconds=timeout)),
        )
        fabric.launch()
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise ProcessLostError(f"not all of {devices} x {num_nodes} processes have come: {reason}") from None
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"devices: {devices} x {accelerator} on {num_nodes} machines: {reason}") from None
    atexit.register(dist.destroy_process_group)
    return ProcessGroup(fabric.device)


class _Observer(logging.Handler):
    """Fabric kills all that is left once a process that it started has failed, and says so to its log alone."""

    def emit(self, record: logging.LogRecord) -> None:
        if "terminated" in record.getMessage():
            say("error: a process of this run has failed, all end; go on with --resume")


def was_started_here() -> bool:
    """Whether the first process of this machine has started this one, and kills all where it fails."""
    is_local = _joined is not None and not dist.is_torchelastic_launched() and "SLURM_NTASKS" not in os.environ
    return is_local and os.environ.get("LOCAL_RANK", "0") != "0"


def rank() -> int:
    """The place of this process among those of its run."""
    return 0 if _joined is None else _joined.rank


def is_first() -> bool:
    """Whether this process is the one that speaks: alone, or the first of its run."""
    return rank() == 0
