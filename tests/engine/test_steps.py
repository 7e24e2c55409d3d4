"""An update is made whole or not at all, and only of what it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from datanas.core.errors import NonFiniteError
from datanas.core.processes import Processes
from datanas.engine.steps import UNSHARED, Averaging, autocast, update, update_alpha
from datanas.kernels.frozen import frozen

LARGE = 1e9


def weights() -> nn.Parameter:
    return nn.Parameter(torch.tensor([3.0, 0.0]))


def sgd(parameter: nn.Parameter, lr: float = 0.1, momentum: float = 0.9) -> torch.optim.SGD:
    return torch.optim.SGD([parameter], lr, momentum=momentum)


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "nan loss": (lambda w: (w * torch.nan).sum(), "loss is nan"),
    "infinite loss": (lambda w: (w / 0.0).sum(), "loss is"),
    "infinite gradient": (lambda w: w.sqrt().sum(), "gradient is inf"),
    "nan gradient": (lambda w: (w * w.sqrt()).sum(), "gradient is nan"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_finite_reaches_no_weight(fault: str) -> None:
    loss, message = FAULTS[fault]
    w = weights()
    optimizer = sgd(w)
    with pytest.raises(NonFiniteError, match=f"weight step 12: the {message}") as caught:
        update(loss(w), [w], optimizer, LARGE, "weight step 12")
    assert caught.value.exit_code == 4
    assert w.tolist() == [3.0, 0.0]
    assert not optimizer.state


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_finite_reaches_no_alpha(fault: str) -> None:
    loss, message = FAULTS[fault]
    alpha = weights()
    optimizer = torch.optim.Adam([alpha], 0.1)
    with pytest.raises(NonFiniteError, match=f"alpha step 3: the {message}") as caught:
        update_alpha(loss(alpha), [alpha], optimizer, "alpha step 3", UNSHARED)
    assert caught.value.exit_code == 4
    assert alpha.tolist() == [3.0, 0.0]
    assert not optimizer.state


def test_an_alpha_that_overflows_is_put_back() -> None:
    alpha = weights()
    with pytest.raises(NonFiniteError, match="alpha is no longer finite"):
        update_alpha((1e10 * alpha).sum(), [alpha], sgd(alpha, lr=1e30), "alpha step 1", UNSHARED)
    assert alpha.tolist() == [3.0, 0.0]


def test_a_finite_update_is_made() -> None:
    """Negative control, with the step of SGD worked out by hand."""
    for step in (
        lambda w: update(w.square().sum(), [w], sgd(w), LARGE, "step"),
        lambda w: update_alpha(w.square().sum(), [w], sgd(w), "step", UNSHARED),
    ):
        w = weights()
        assert step(w) == 9.0
        assert w.tolist() == pytest.approx([3.0 - 0.1 * 6.0, 0.0])


def test_the_weights_gradient_is_clipped_by_its_norm() -> None:
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    update((w * torch.tensor([30.0, 40.0])).sum(), [w], sgd(w, lr=1.0), 5.0, "step")
    assert w.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_the_alphas_gradient_is_not_clipped() -> None:
    alpha = nn.Parameter(torch.tensor([3.0, 4.0]))
    update_alpha((alpha * torch.tensor([30.0, 40.0])).sum(), [alpha], sgd(alpha, lr=1.0), "step", UNSHARED)
    assert alpha.tolist() == pytest.approx([-27.0, -36.0])


def test_gradients_do_not_add_up() -> None:
    w = weights()
    optimizer = sgd(w, momentum=0.0)
    for _ in range(2):
        update(w.sum(), [w], optimizer, LARGE, "step")
    assert w.tolist() == pytest.approx([2.8, -0.2])


def test_a_weight_that_the_loss_does_not_see_is_not_stepped() -> None:
    """Neither by what decays weights nor by what is left of earlier gradients: its operation was closed."""
    w, closed = weights(), weights()
    optimizer = torch.optim.SGD([w, closed], 0.1, momentum=0.9, weight_decay=0.1)
    update((w + closed).sum(), [w, closed], optimizer, LARGE, "step")
    before = closed.tolist()
    update(w.sum(), [w, closed], optimizer, LARGE, "step")
    assert closed.tolist() == before


def test_a_loss_that_sees_no_alpha_steps_none() -> None:
    alpha = weights()
    assert update_alpha(torch.tensor(2.0), [alpha], sgd(alpha), "step", UNSHARED) == 2.0
    assert alpha.tolist() == [3.0, 0.0]


class BesideZeros(Processes):
    """One of two, where the other one's tensors are all 0."""

    size = 2

    def average(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.div_(2)


def test_loss_gradients_and_statistics_are_averaged_over_processes() -> None:
    network, w = nn.BatchNorm1d(2), weights()
    optimizer = sgd(w, momentum=0.0)
    mean = update((2 * w).sum(), [w], optimizer, LARGE, "step", Averaging(BesideZeros(), network))
    assert mean == 3.0  # half of 6
    assert w.tolist() == pytest.approx([2.9, -0.1])
    assert network.running_var is not None
    assert network.running_var.tolist() == [0.5, 0.5]
    assert network.num_batches_tracked == 0  # a count, which all have alike


def test_an_alphas_gradient_is_averaged_and_one_without_is_left_out() -> None:
    alpha, unseen = weights(), weights()
    optimizer = torch.optim.SGD([alpha, unseen], 0.1)
    assert update_alpha((2 * alpha).sum(), [alpha, unseen], optimizer, "step", Averaging(BesideZeros())) == 3.0
    assert alpha.tolist() == pytest.approx([2.9, -0.1])
    assert unseen.tolist() == [3.0, 0.0]


def test_one_process_alone_averages_nothing() -> None:
    network = nn.BatchNorm1d(2)
    gradient = torch.ones(2)
    average = Averaging(Processes(), network)
    assert average(torch.tensor(4.0), [gradient]) == 4.0
    assert gradient.tolist() == [1.0, 1.0]


def test_an_alpha_step_gives_the_weights_no_gradient() -> None:
    alpha, w = weights(), weights()
    update_alpha((alpha * w).sum(), [alpha], sgd(alpha), "step", UNSHARED)
    assert w.grad is None


def test_an_alpha_that_the_loss_does_not_see_stays() -> None:
    alpha, unseen = weights(), weights()
    optimizer = torch.optim.Adam([alpha, unseen], 0.1, weight_decay=0.1)
    update_alpha(alpha.sum(), [alpha, unseen], optimizer, "step", UNSHARED)
    assert unseen.tolist() == [3.0, 0.0]
    assert alpha.tolist() != [3.0, 0.0]


def test_frozen_weights_get_no_gradient_and_thaw() -> None:
    w, alpha = weights(), weights()
    with frozen([w]):
        assert not w.requires_grad
        (w * alpha).sum().backward()
    assert w.requires_grad
    assert w.grad is None
    assert alpha.grad is not None


def test_what_was_frozen_before_stays_frozen() -> None:
    w, fixed = weights(), nn.Parameter(torch.zeros(1), requires_grad=False)
    with frozen(iter([w, fixed])):
        pass
    assert w.requires_grad
    assert not fixed.requires_grad


def test_weights_thaw_after_an_error() -> None:
    w = weights()
    with pytest.raises(RuntimeError), frozen([w]):
        raise RuntimeError
    assert w.requires_grad


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_decides_the_type_of_products(precision: str, dtype: torch.dtype) -> None:
    x = torch.ones(2, 2)
    with autocast(torch.device("cpu"), precision):
        assert (x @ x).dtype == dtype
