"""Several processes that run as one: each takes its share of a batch, and what they find is averaged.

All of them hold the same weights and alphas and draw the same gates from keyed generators. So all have the same
operations open, and only their gradients are exchanged, not those of the whole supernet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist

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
        gathered = flat.new_empty((self.size, *flat.shape))
        with _contact():
            dist.all_gather(list(gathered.unbind(0)), flat)
        return gathered.to(tensor.device)

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
            rank = next(index for index, code in enumerate(failed) if code)
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
