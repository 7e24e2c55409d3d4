"""Running one candidate of a choice block so that nothing but its output depends on which others run.

A candidate is any module, and what it does besides its output must be the same whether it runs forward, in backward
or among all the others. So each candidate that may draw random numbers draws them from a stream of its own, keyed by
the call; and one that runs only for the gradient of its closed gate leaves buffers as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from datanas.core import seeding
from datanas.core.torch_draws import draws_unasked
from datanas.kernels.bare import Weight, operation_weights
from datanas.kernels.node_sum import Output
from datanas.kernels.norm import EndsInNorm, statistics_kept


@dataclass(frozen=True)
class Candidate:
    """One of the modules that a block chooses among.

    Attributes:
        index: its column in the gates.
        draws: whether it may draw random numbers.
    """

    index: int
    name: str
    module: nn.Module
    draws: bool


def may_draw(module: nn.Module) -> bool:
    """Whether a module may draw random numbers when it runs; those of which nothing is known may.

    The package's own that do, by asking `seeding.current`, say so by `draws_asking`.
    """
    return draws_unasked(module) or any(getattr(part, "draws_asking", False) for part in module.modules())


@dataclass(frozen=True)
class Leaves:
    """The tensors in what a candidate gives, and what is left of it without them."""

    tensors: tuple[Tensor, ...]
    others: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, tree: Any) -> Leaves:
        leaves, spec = tree_flatten(tree)
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        return cls(tensors, tuple(_PLACE if isinstance(leaf, Tensor) else leaf for leaf in leaves), spec)

    def around(self, tensors: Sequence[Tensor]) -> Any:
        """The same tree with other tensors."""
        left = iter(tensors)
        return tree_unflatten([next(left) if leaf is _PLACE else leaf for leaf in self.others], self.spec)

    def apart_from(self, inputs: Sequence[Tensor]) -> Leaves:
        """The same with copies of tensors that are, or are views of, inputs, so that they may be changed in place."""
        bases = {id(_base(tensor)) for tensor in inputs}
        return replace(self, tensors=tuple(each.clone() if id(_base(each)) in bases else each for each in self.tensors))

    def shape(self) -> Any:
        """The shapes in the tree, as a message shows them."""
        shapes = [tuple(tensor.shape) for tensor in self.tensors]
        return shapes[0] if len(shapes) == 1 and len(self.others) == 1 else shapes or "no tensor"


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


_PLACE = object()
"""Stands where a tensor stood."""
_ONE_TENSOR = tree_flatten(((0,), {}))[1]
"""The arguments of a call with one tensor and nothing else."""


@dataclass(frozen=True)
class Call:
    """What all candidates of a block are called with.

    Attributes:
        inputs: the arguments, positional and by name.
        seed: of the candidates' random numbers; None where none of them draws.
        autocast: as it is in the forward pass.
    """

    inputs: Leaves
    seed: int | None
    autocast: tuple[torch.autocast, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, draws: bool) -> Call:
        inputs = Leaves.of((args, dict(kwargs)))
        devices = {"cpu", *(tensor.device.type for tensor in inputs.tensors)} - {"meta"}
        autocast = tuple(
            torch.autocast(name, dtype=torch.get_autocast_dtype(name), enabled=torch.is_autocast_enabled(name))
            for name in sorted(devices)
        )
        seed = int(torch.randint(2**62, (), generator=seeding.current())) if draws else None
        return cls(inputs, seed, autocast)

    def run(self, candidate: Candidate, inputs: Sequence[Tensor]) -> Leaves:
        """What a candidate gives.

        Args:
            inputs: the tensors among the arguments.

        Raises:
            ValueError: it changes an argument in place, which the other candidates read too.
        """
        args, kwargs = self.inputs.around(inputs)
        return Leaves.of(self._guarded(candidate, inputs, lambda: candidate.module(*args, **kwargs)))

    def run_to_norm(self, candidate: Candidate, x: Tensor, rectified: Tensor | None) -> Output:
        """What a candidate gives for the one tensor that it is called with, its last batch norm left out.

        Args:
            rectified: relu(x), if there is one.
        """
        output: Output = self._guarded(candidate, [x], lambda: Output.of(candidate.module, x, rectified))
        return output

    @property
    def has_one_tensor(self) -> bool:
        """Whether candidates are called with one tensor and nothing else."""
        return self.inputs.others == (_PLACE,) and self.inputs.spec == _ONE_TENSOR

    def _guarded(self, candidate: Candidate, inputs: Sequence[Tensor], run: Callable[[], Any]) -> Any:
        versions = [_version(tensor) for tensor in inputs]
        with _stream(self.seed if candidate.draws else None, candidate.index, inputs):
            output = run()
        if versions != [_version(tensor) for tensor in inputs]:
            raise ValueError(
                f"candidate {candidate.name!r} changes its input in place, which the other candidates read too; "
                "give it an operation that is not in place, such as ReLU(inplace=False)"
            )
        return output


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def _stream(seed: int | None, index: int, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Run a block whose random numbers depend on `seed` and `index` alone; those outside go on as if it had none."""
    if seed is None:
        yield
        return
    key = seeding.key(seed, "candidate", index)
    generators = _generators(inputs)
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(key)
        with seeding.keyed(seed, "candidate", index, reach="asking"):
            yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def _generators(inputs: Sequence[Tensor]) -> list[torch.Generator]:
    """torch's own generators of the host and of the devices of the inputs."""
    generators = [torch.default_generator]
    for device in {tensor.device for tensor in inputs}:
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])
        elif device.type == "mps":
            generators.append(torch.mps._get_default_mps_generator())
    return generators


@contextmanager
def aside(candidate: Candidate) -> Iterator[None]:
    """Run a block in which a candidate may run, and after which its buffers are what they were.

    Meanwhile it has copies of them, so that those which a graph holds are never written to.
    """
    owners = [part for part in candidate.module.modules() if part._buffers]
    before = [dict(part._buffers) for part in owners]
    for part, buffers in zip(owners, before, strict=True):
        part._buffers.update({name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in zip(owners, before, strict=True):
            part._buffers.update(buffers)


@dataclass(frozen=True)
class ClosedCandidates:
    """The closed candidates whose gates want a gradient, and all that it takes to run them in backward.

    Attributes:
        call: without its tensors, which are `inputs`, without a graph.
        weights: of the candidates, in the forward pass.
    """

    call: Call
    candidates: Sequence[Candidate]
    inputs: Sequence[Tensor]
    weights: Sequence[Weight]

    @classmethod
    def of(cls, call: Call, candidates: Sequence[Candidate]) -> ClosedCandidates:
        inputs = [tensor.detach() for tensor in call.inputs.tensors] if candidates else []
        bare = replace(call, inputs=replace(call.inputs, tensors=()))
        return cls(bare, candidates, inputs, operation_weights(candidate.module for candidate in candidates))

    def outputs(self) -> Iterator[tuple[Candidate, Leaves | Output]]:
        """What each of them would have given, one at a time; an `Output` where they are called with one tensor.

        To be asked, and what it gives to be read, while the modules hold `weights`.
        """
        rectified: Tensor | None = None
        for candidate in self.candidates:
            with torch.no_grad(), ExitStack() as stack:
                for autocast in self.call.autocast:
                    stack.enter_context(autocast)
                stack.enter_context(aside(candidate))
                stack.enter_context(statistics_kept())  # what would be thrown away need not be computed
                output: Leaves | Output
                if self.call.has_one_tensor:
                    if rectified is None and isinstance(candidate.module, EndsInNorm):
                        rectified = self.inputs[0].relu()
                    output = self.call.run_to_norm(candidate, self.inputs[0], rectified)
                else:
                    output = self.call.run(candidate, self.inputs)
                output = output if isinstance(output, Leaves) or output.norm is not None else Leaves.of(output.z)
            yield candidate, output
