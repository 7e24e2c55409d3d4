"""Which of torch's functions draw random numbers, and how they are made to draw from a generator of one's own.

Many take a `generator`, which whoever calls them has left out: the initialisation of torch's modules, a plugin's layer.
Some, dropout above all, take none. torch then draws from the one generator of the process, which all threads share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

GeneratorOn = Callable[[torch.device], torch.Generator | None]

_TAKE_A_GENERATOR = (
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli"),
    *("multinomial", "poisson", "binomial", "_sample_dirichlet", "_standard_gamma", "uniform_", "normal_", "random_"),
    *("bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_", "kaiming_uniform_"),
)
_TAKE_NONE = (
    *("alpha_dropout", "alpha_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_", "native_dropout"),
    *("rrelu", "rrelu_", "scaled_dot_product_attention", "multi_head_attention_forward", "gumbel_softmax"),
    *("fractional_max_pool2d", "fractional_max_pool3d", "lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("fractional_max_pool2d_with_indices", "fractional_max_pool3d_with_indices"),
)
_HOMES = (torch, Tensor, nn.init, F, torch._VF)

_process_generators = threading.RLock()
"""Held while torch's own generators, which the whole process shares, stand at a place that is not their own."""


def _named(names: Sequence[str]) -> frozenset[Any]:
    return frozenset(getattr(home, name) for home in _HOMES for name in names if hasattr(home, name))


_ASKING, _UNASKING = _named(_TAKE_A_GENERATOR), _named(_TAKE_NONE)
_DROPOUTS = _named(("dropout", "dropout_"))
_FEATURE_DROPOUTS = _named(("dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_dropout_"))

_QUIET_HOMES = tuple(
    f"torch.nn.modules.{name}"
    for name in (
        *("conv", "batchnorm", "linear", "pooling", "activation", "container", "sparse", "normalization", "padding"),
        *("upsampling", "flatten", "instancenorm", "pixelshuffle", "distance", "loss"),
    )
)
_DRAWING = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class OwnDraws(TorchFunctionMode):
    """While entered, torch's random functions draw from `generator_on(device)` in this thread, and in no other.

    A function that is given a generator keeps it. The numbers are those that torch's own generator gives from the same
    seed, for every function on the CPU; dropout on a GPU takes other ones than torch's fused kernel. It costs about a
    microsecond for each call of torch.

    Args:
        generator_on: the generator for a device; None for torch's own.
    """

    def __init__(self, generator_on: GeneratorOn) -> None:
        super().__init__()
        self._generator_on = generator_on

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in _ALL:
            return func(*args, **kwargs) if kwargs else func(*args)
        given = dict(kwargs or {})
        generator = self._generator_on(_device_of(args, given)) if given.get("generator") is None else None
        if generator is None:
            return func(*args, **given)
        if func in _ASKING:
            return func(*args, **{**given, "generator": generator})
        if func in _UNASKING:
            with standing_in(generator):
                return func(*args, **given)
        inplace = func.__name__.endswith("_") or bool(given.pop("inplace", args[3] if len(args) > 3 else False))
        return _dropout(generator, func, *args[:3], **given, inplace=inplace)


_ALL = _ASKING | _UNASKING | _DROPOUTS | _FEATURE_DROPOUTS


def _device_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    return tensors[0].device if tensors else torch.get_default_device()


def _dropout(
    generator: torch.Generator,
    func: Any,
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    *,
    train: bool | None = None,
    inplace: bool,
) -> Tensor:
    """torch's dropout, number for number on the CPU; `train` is what its function without a module calls `training`."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if p == 0 or not (training if train is None else train) or input.numel() == 0:
        return input
    noise = input.new_empty(_channels(input, func)) if func in _FEATURE_DROPOUTS else torch.empty_like(input)
    if p == 1:
        noise.zero_()
    else:
        noise.bernoulli_(1 - p, generator=generator).div_(1 - p)
    return input.mul_(noise) if inplace else input * noise


def _channels(input: Tensor, func: Any) -> tuple[int, ...]:
    """The shape of one number a channel; a single example may come without the dimension of the batch."""
    is_single = input.ndim == {"dropout1d": 2, "dropout3d": 4}.get(func.__name__)
    counted = 1 if is_single else 2
    return (*input.shape[:counted], *[1] * (input.ndim - counted))


@contextmanager
def standing_in(generator: torch.Generator) -> Iterator[None]:
    """Run a block in which torch's own generator on that device goes on from `generator`, which ends where it ends.

    It is put back afterwards. Threads that use this take turns; others that draw meanwhile are not kept out, since
    torch has one generator a device for the whole process. So this is for what takes no generator of one's own.
    """
    with _process_generators:
        own = process_generator(generator.device)
        before = own.get_state()
        own.set_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(own.get_state())
            own.set_state(before)


def process_generator(device: torch.device) -> torch.Generator:
    """torch's own generator on a device, which the whole process shares."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator


@contextmanager
def process_generators(seed: int) -> Iterator[None]:
    """Run a block with torch's own generators started from `seed`, and put their state back; threads take turns."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with _process_generators, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def draws_unasked(*modules: nn.Module) -> bool:
    """Whether a part of the modules may draw without asking `seeding.current`.

    The package's own do not, nor do torch's that have nothing to do with chance. Of any other, such as a plugin's or
    torchvision's, that is not known, nor of one that calls what it was given (`draws_like_unknown`).
    """
    return any(_may_draw(part) for module in modules for part in module.modules())


def _may_draw(module: nn.Module) -> bool:
    if getattr(module, "draws_like_unknown", False):
        return True
    home = type(module).__module__
    return not home.startswith("datanas.") and (home not in _QUIET_HOMES or isinstance(module, _DRAWING))
