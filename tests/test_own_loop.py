"""A search in a loop of one's own."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from datanas import Architecture, Choice, ChoiceInput, Search
from datanas.core.errors import CheckpointError
from datanas.posterior import inclusion_probs, most_probable
from datanas.spaces import MODULE


class Model(nn.Module):
    """Its best choice is `linear` at `mix`: the target is a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.mix = Choice({"linear": nn.Linear(4, 4), "negated": torch.neg, "tanh": nn.Tanh()}, samples=2)
        self.gate = Choice({"skip": nn.Identity(), "dropout": nn.Dropout(0.5)}, samples=1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.gate(self.mix(self.norm(x)))
        return output


def make() -> Any:
    torch.manual_seed(0)
    return Model()


def alpha_of(search: Search, name: str) -> Any:
    return cast(Any, search.sampler).alpha[name]


MAP = torch.randn(4, 4, generator=torch.Generator().manual_seed(5))


def batch(number: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(number))
    return x, x @ MAP


def optimizers_of(search: Search) -> Any:
    return torch.optim.SGD(search.weights, 0.1), torch.optim.SGD(search.alphas, 0.1)


def go_on(search: Search, first: int, last: int, optimizers: Any = None) -> Any:
    """Steps of the loop of ten lines."""
    module = search.module
    if optimizers is None:
        optimizers = optimizers_of(search)
    weights, alphas = optimizers
    for number in range(first, last):
        x, y = batch(2 * number)
        torch.manual_seed(number)
        with search.sample("alphas"):
            (F.mse_loss(module(x), y) + search.regulariser()).backward()
        alphas.step()
        alphas.zero_grad()
        x, y = batch(2 * number + 1)
        with search.sample("weights"):
            F.mse_loss(module(x), y).backward()
        weights.step()
        weights.zero_grad()
    return optimizers


def test_the_loop_finds_the_candidate_that_is_right() -> None:
    search = Search(make(), seed=0)
    go_on(search, 0, 150)
    kept = search.derive()
    code = {name: list(cell.code[0]) for name, cell in kept.cells.items()}
    assert code["gate"] == [1, 0]
    assert code["mix"][0] == 1
    probabilities = search.probabilities()
    assert probabilities["mix"]["linear"] == max(probabilities["mix"].values())


def test_the_same_seed_gives_the_same_search_and_another_one_another() -> None:
    found = []
    for seed in (0, 0, 1):
        search = Search(make(), seed=seed)
        go_on(search, 0, 3)
        found.append(torch.cat([alpha.detach().flatten() for alpha in search.alphas]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_draws_do_not_depend_on_torch_s_own_generator() -> None:
    found = []
    for seed in (1, 2):
        search = Search(make(), seed=0)
        torch.manual_seed(seed)
        with search.sample():
            found.append({name: block.gates.host for name, block in search.blocks.items()})
    assert found[0] == found[1]


def test_a_child_is_the_code_itself_which_blocks_combine() -> None:
    search = Search(make(), seed=0)
    values = set()
    for _ in range(10):
        with search.sample():
            values |= {value for _, block in search.blocks.items() for value in block.gates.host[0]}
    assert values == {0.0, 1.0}
    assert search.derive().aggregate == "sum"


def test_steps_draw_different_children() -> None:
    search = Search(make(), seed=0)
    drawn = set()
    for _ in range(20):
        with search.sample():
            drawn.add(tuple(block.gates.host for _, block in search.blocks.items()))
    assert len(drawn) > 3


def test_the_part_says_whose_gradients_are_made() -> None:
    x, y = batch(0)
    parts: dict[Any, tuple[bool, bool]] = {
        "weights": (True, False),
        "alphas": (False, True),
        "both": (True, True),
    }
    for part, (of_weights, of_alphas) in parts.items():
        search = Search(make(), seed=2)
        with search.sample(part):
            assert all(weight.requires_grad is of_weights for weight in search.weights)
            output = search.module(x)
            if output.requires_grad:
                F.mse_loss(output, y).backward()
        assert (sum(alpha.grad is not None for alpha in search.alphas) == 2) is of_alphas
        assert not (any(weight.grad is not None for weight in search.weights) and not of_weights)
        assert all(weight.requires_grad for weight in search.weights)


def test_the_mode_is_that_of_the_closed_form() -> None:
    search = Search(make(), seed=0)
    with torch.no_grad():
        alpha_of(search, "mix").copy_(torch.tensor([[1.0, 0.9, -2.0]]))
        alpha_of(search, "gate").copy_(torch.tensor([[0.0, 0.5]]))
    probs = [torch.tensor([list(table.values())]) for table in search.probabilities().values()]
    kept = search.derive()
    expected = [most_probable(p, samples) for p, samples in zip(probs, (2, 1), strict=True)]
    assert [cell.code.tolist() for _, cell in sorted(kept.cells.items(), reverse=True)] == [
        code.int().tolist() for code in expected
    ]
    # M = 2: twice p1 p2; M = 1: p2.
    p, q = probs[0][0], probs[1][0]
    assert kept.posterior is not None
    assert kept.posterior["log_prob"] == pytest.approx(float((2 * p[0] * p[1] * q[1]).log()), abs=1e-6)
    assert kept.space == MODULE


def test_a_ranking_holds_every_architecture_once_with_probabilities_that_sum_to_one() -> None:
    search = Search(make(), seed=0)
    with torch.no_grad():
        alpha_of(search, "mix").normal_(generator=torch.Generator().manual_seed(1))
    ranking = search.ranking(100).ranking
    assert len({architecture for architecture, _ in ranking}) == len(ranking) == (3 + 3) * 2
    assert sum(torch.tensor(log_prob).exp() for _, log_prob in ranking) == pytest.approx(1, abs=1e-5)
    assert all(first >= second for (_, first), (_, second) in pairwise(ranking))


def test_the_expected_cost_is_that_of_the_inclusion() -> None:
    search = Search(make(), seed=0)
    with torch.no_grad():
        alpha_of(search, "mix").copy_(torch.tensor([[1.0, 0.0, -1.0]]))
    cost = search.expected_cost()
    p = torch.tensor([1.0, 0.0, -1.0]).softmax(0)
    assert cost.item() == pytest.approx(20 * float(inclusion_probs(p, 2)[0]), rel=1e-5)
    cost.backward()
    assert alpha_of(search, "mix").grad[0, 0] > 0


def test_an_expected_cost_of_choices_within_choices_is_refused() -> None:
    inner = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="inner")
    outer = Choice({"deep": nn.Sequential(inner), "skip": nn.Identity()}, name="outer")
    with pytest.raises(ValueError, match="expected_cost: the choice inner is within a candidate of outer"):
        Search(outer).expected_cost()


def test_the_regulariser_pulls_at_alpha_and_counts_every_choice() -> None:
    search = Search(make(), seed=0, sampler={"name": "egs", "constraint": {"kind": "entropy", "gamma": 2.0}})
    with torch.no_grad():
        alpha_of(search, "mix").copy_(torch.tensor([[1.0, 0.0, -1.0]]))
    with search.sample("alphas"):
        found = search.regulariser()
        found.backward()
    tables = [torch.tensor(list(table.values())) for table in search.probabilities().values()]
    assert found.item() == pytest.approx(2 * sum(float(torch.special.entr(p).sum()) for p in tables), rel=1e-5)
    assert alpha_of(search, "mix").grad[0, 0] < 0


def test_resuming_goes_on_as_if_nothing_had_been() -> None:
    whole = Search(make(), seed=3)
    go_on(whole, 0, 6)
    begun = Search(make(), seed=3)
    optimizers = go_on(begun, 0, 3)
    file = io.BytesIO()
    torch.save([begun.state_dict(), begun.module.state_dict(), [each.state_dict() for each in optimizers]], file)
    file.seek(0)
    state, weights, states = torch.load(file, weights_only=True)
    resumed = Search(make(), seed=0)
    resumed.load_state_dict(state)
    resumed.module.load_state_dict(weights)
    optimizers = optimizers_of(resumed)
    for optimizer, each in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(each)
    go_on(resumed, 3, 6, optimizers)
    for mine, theirs in zip(resumed.alphas + resumed.weights, whole.alphas + whole.weights, strict=True):
        assert torch.equal(mine, theirs)


def test_a_state_is_not_changed_by_going_on() -> None:
    search = Search(make(), seed=0)
    state = search.state_dict()
    go_on(search, 0, 2)
    assert not any(alpha.any() for alpha in state["alphas"].values())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(Choice({"a": nn.Identity()})), "0: this search has the candidates .'a'., the state None"),
        (nn.ModuleDict({"mix": Choice({"a": nn.Identity()}), "gate": Choice({"b": nn.Identity()})}), r"\['b'\]"),
    ],
)
def test_a_state_of_other_choices_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Search(module).load_state_dict(Search(make()).state_dict())


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("gdas", r"sampler\.name: this search has 'gdas', the state 'egs'"),
        ({"name": "egs", "tau": {"start": 3.0}}, r"sampler\.tau: this search has \{'start': 3\.0"),
    ],
)
def test_a_state_of_another_method_is_refused(sampler: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Search(make(), sampler=sampler).load_state_dict(Search(make()).state_dict())


def test_a_state_of_other_numbers_of_draws_is_refused() -> None:
    module = make()
    module.gate.samples = 2
    with pytest.raises(CheckpointError, match="gate: this search has samples=2, the state samples=1"):
        Search(module).load_state_dict(Search(make()).state_dict())


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(CheckpointError, match="lacks alphas, candidates"):
        Search(make()).load_state_dict({})


def test_gradients_accumulate_over_children() -> None:
    single: list[Tensor] = []
    both = Search(make(), seed=0)
    for number in range(2):
        search = Search(make(), seed=0)
        search.counts["alphas"] = number
        x, y = batch(number)
        torch.manual_seed(number)
        with search.sample("alphas"):
            F.mse_loss(search.module(x), y).backward()
        single.append(alpha_of(search, "mix").grad)
        torch.manual_seed(number)
        with both.sample("alphas"):
            F.mse_loss(both.module(x), y).backward()
    torch.testing.assert_close(alpha_of(both, "mix").grad, single[0] + single[1])


def gradient_of(*parts: str, in_turn: bool) -> Tensor:
    """Of alpha, from the losses of micro-batches and the regulariser of one child, in one backward pass or in several.

    Args:
        parts: numbers of batches, or "regulariser".
    """
    search = Search(make().eval(), seed=0)
    with search.sample("alphas"):
        total = torch.zeros(())
        for part in parts:
            if part == "regulariser":
                loss = search.regulariser()
            else:
                x, y = batch(int(part))
                loss = F.mse_loss(search.module(x), y)
            if in_turn:
                loss.backward()
            else:
                total = total + loss
        if not in_turn:
            total.backward()
        assert alpha_of(search, "mix").grad.any()
    found: Tensor = alpha_of(search, "mix").grad
    return found


@pytest.mark.parametrize("parts", [("0", "1"), ("0", "regulariser"), ("regulariser", "0", "1", "regulariser")])
def test_several_backward_passes_of_one_child_add_up(parts: tuple[str, ...]) -> None:
    torch.testing.assert_close(gradient_of(*parts, in_turn=True), gradient_of(*parts, in_turn=False))


def test_a_child_can_be_evaluated_without_gradient() -> None:
    search = Search(make().eval(), seed=0)
    with torch.no_grad(), search.sample():
        output = search.module(batch(0)[0])
    assert not output.requires_grad
    with search.running(), torch.inference_mode():
        search.module(batch(0)[0])


def test_the_kept_child_runs_within_the_module() -> None:
    search = Search(make().eval(), seed=0)
    go_on(search, 0, 5)
    search.module.eval()
    x = batch(0)[0]
    with search.running(), torch.no_grad():
        expected = search.module(x)
    torch.testing.assert_close(search.network(weights=True)(x), expected)
    fresh = search.network()
    assert not torch.allclose(fresh(x), expected)
    torch.testing.assert_close(search.network()(x), fresh(x))


def test_fresh_weights_leave_torch_s_generator_alone() -> None:
    search = Search(make(), seed=0)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    search.network()
    assert torch.equal(torch.rand(1), expected)


def test_a_part_that_cannot_be_initialised_anew_is_named() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))
            self.mix = Choice({"skip": nn.Identity()})

    with pytest.raises(ValueError, match=r"the module \(Scaled\) has the parameters scale and no reset_parameters"):
        Search(Scaled()).network()


def test_a_child_within_a_child_is_refused() -> None:
    search = Search(make())
    with search.sample(), pytest.raises(RuntimeError, match="drawn already"), search.sample():
        pass
    with search.sample():
        search.module(batch(0)[0])


def test_an_error_within_leaves_the_module_as_it_was() -> None:
    search = Search(make())
    with pytest.raises(ZeroDivisionError), search.sample("alphas"):
        raise ZeroDivisionError
    assert all(block.gates is None for _, block in search.blocks.items())
    assert all(weight.requires_grad for weight in search.weights)


def test_a_weight_that_the_user_has_frozen_stays_so() -> None:
    module = make()
    module.mix.candidates["linear"].bias.requires_grad_(False)
    search = Search(module)
    with search.sample("alphas"):
        pass
    assert [weight.requires_grad for weight in search.weights] == [True, True, True, False]


def test_a_regulariser_without_a_child_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="call regulariser"):
        Search(make()).regulariser()


def test_an_unknown_part_is_refused() -> None:
    part: Any = "alpha"
    with pytest.raises(ValueError, match="part must be one of weights, alphas, both, got 'alpha'"):
        Search(make()).sample(part).__enter__()


def test_a_module_without_choices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sequential has no choice in it: put a datanas\.Choice"):
        Search(nn.Sequential(nn.Linear(2, 2)))


def test_one_name_for_different_candidates_is_refused() -> None:
    module = nn.ModuleDict(
        {"x": Choice({"a": nn.Identity()}, name="mix"), "y": Choice({"b": nn.Identity()}, name="mix")}
    )
    with pytest.raises(ValueError, match=r"'mix' is used twice .*: x has Choice of a, y has Choice of b"):
        Search(module)


@pytest.mark.parametrize("options", [{"samples": 2}, {"combine": "mean"}])
def test_blocks_of_one_name_must_agree_in_all(options: dict[str, Any]) -> None:
    module = nn.ModuleDict(
        {"x": Choice({"a": nn.Identity()}, name="mix"), "y": Choice({"a": nn.Identity()}, name="mix", **options)}
    )
    with pytest.raises(ValueError, match="used twice"):
        Search(module)


class Named(nn.Module):
    def __init__(self, place: str, **options: Any) -> None:
        super().__init__()
        self.add_module(place, Choice({"a": nn.Identity(), "b": nn.Tanh()}, **options))


@pytest.mark.parametrize("place", ["values", "keys", "get", "items"])
def test_a_place_that_modules_of_torch_use_needs_a_name(place: str) -> None:
    with pytest.raises(ValueError, match=f"{place}: '{place}' cannot be what a choice is called.* a name="):
        Search(Named(place))
    assert list(Search(Named(place, name="mine")).probabilities()) == ["mine"]


def test_a_name_that_modules_of_torch_use_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mix: 'type' cannot be .* give it another name"):
        Search(Named("mix", name="type"))


def test_a_choice_without_a_name_is_not_tied_to_one_that_is_called_like_its_place() -> None:
    module = nn.ModuleDict({"mix": Choice({"a": nn.Identity()}), "other": Choice({"a": nn.Identity()}, name="mix")})
    with pytest.raises(ValueError, match="the place mix of a choice without a name is the name of another one"):
        Search(module)


def test_blocks_of_one_name_choose_alike_and_their_gradients_add() -> None:
    def block(name: str | None) -> Choice:
        return Choice({"twice": lambda x: 2 * x, "thrice": lambda x: 3 * x}, samples=1, name=name)

    module = nn.Sequential(block("mix"), block("mix"))
    search = Search(module)
    assert list(search.blocks.groups()) == ["mix"]
    with search.sample():
        output = module(torch.ones(1))
        output.sum().backward()
    assert output.item() in (4.0, 9.0)
    assert alpha_of(search, "mix").grad.any()


def test_a_choice_that_never_runs_is_told() -> None:
    module = make()
    module.unused = Choice({"a": nn.Identity(), "b": nn.Tanh()})
    search = Search(module)
    search.derive()  # nothing has run so far, and nothing is to be said
    go_on(search, 0, 2)
    with pytest.warns(UserWarning, match="unused: no forward pass has come by"):
        search.derive()


@pytest.mark.parametrize("name", ["enas", "evolution", "dso_nas", "proxylessnas", "pc_darts"])
def test_a_method_that_does_more_than_descend_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be used in a loop of one's own"):
        Search(make(), sampler=name)


@pytest.mark.parametrize("name", ["darts", "gdas", "snas"])
def test_other_methods_that_descend_can_be_used(name: str) -> None:
    search = Search(make(), sampler=name)
    go_on(search, 0, 3)
    assert isinstance(search.derive(), Architecture)
    assert any(alpha.any() for alpha in search.alphas)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sampler"):
        Search(make(), sampler="eggs")


def test_in_bfloat16_the_gradient_is_close_to_that_in_float32() -> None:
    found: list[Tensor] = []
    dtypes: set[torch.dtype] = set()
    for enabled in (False, True):
        module = make().eval()
        module.mix.candidates["linear"].register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
        search = Search(module, seed=0)
        x, y = batch(0)
        with search.sample():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                output = module(x)
            F.mse_loss(output.float(), y).backward()
        found.append(alpha_of(search, "mix").grad)
        assert dtypes == {torch.bfloat16 if enabled else torch.float32}
        dtypes.clear()
    assert found[0].any()
    torch.testing.assert_close(*found, rtol=0.05, atol=0.05)


def test_in_a_compiled_module_choices_run_as_they_are() -> None:
    module, compiling = make().eval(), []
    module.mix.candidates["linear"].register_forward_hook(lambda *_: compiling.append(torch.compiler.is_compiling()))
    search = Search(module, seed=0)
    compiled = torch.compile(module, backend="eager")
    x = batch(0)[0]
    for _ in range(4):
        with search.sample("alphas"):
            found = compiled(x)
            torch.testing.assert_close(found, module(x))
            found.sum().backward()
    assert alpha_of(search, "mix").grad.any()
    assert compiling
    assert not any(compiling)


def test_it_shows_what_it_searches() -> None:
    search = Search(make())
    go_on(search, 0, 2)
    assert repr(search) == "Search(Model, EGS, mix: 3, gate: 2; drawn: 2 weights, 2 alphas)"


def test_inputs_are_chosen_too() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.BatchNorm1d(4), nn.Linear(4, 4)
            self.reads = ChoiceInput(["x", "y"], samples=1)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.reads([self.norm(x), self.linear(x)])
            return output

    torch.manual_seed(0)
    search = Search(Reading(), seed=0)
    go_on(search, 0, 100)
    assert search.derive().cells["reads"].operations() == [("y", 0, 1)]


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
import datanas

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
mix = datanas.Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity(), "tanh": nn.Tanh()}, samples=2)
module = nn.Sequential(nn.Linear(4, 4), mix)
search = datanas.Search(module, seed=0)
wrapped = DistributedDataParallel(module, find_unused_parameters=True)
weights, alphas = torch.optim.SGD(search.weights, 0.1), torch.optim.SGD(search.alphas, 1.0)
drawn = []
for step in range(4):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))[4 * rank : 4 * rank + 4]
    for part, optimizer in (("alphas", alphas), ("weights", weights)):
        with search.sample(part):
            drawn.append(mix.gates.host)
            F.mse_loss(wrapped(x), x.flip(1)).backward()
        optimizer.step()
        optimizer.zero_grad()
torch.save([drawn, [each.detach() for each in (*search.alphas, *search.weights)]], folder / f"{rank}.pt")
torch.distributed.destroy_process_group()
"""


ONE_LEAVES_A_CHOICE_OUT = """
import sys
from datetime import timedelta
from pathlib import Path
import torch
from torch import nn
import datanas

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=20)
)
torch.manual_seed(0)
parts = nn.ModuleList(datanas.Choice({"skip": nn.Identity(), "tanh": nn.Tanh()}, name=name) for name in "abc")
search = datanas.Search(parts, seed=0)
with search.sample("alphas"):
    x = torch.full((2,), rank + 1.0)
    x = parts[0](x)
    if rank == 0:
        x = parts[1](x)
    x.sum().backward()
    own = [alpha.grad for alpha in search.alphas]
    own = [None if each is None else each.clone() for each in own]
torch.save([own, [alpha.grad for alpha in search.alphas]], folder / f"{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_a_choice_that_one_process_leaves_out_counts_there_as_zero(tmp_path: Path) -> None:
    (own, first), (others, second) = in_two_processes(ONE_LEAVES_A_CHOICE_OUT, tmp_path)
    assert [each is None for each in (*own, *others)] == [False, False, True, False, True, True]
    assert first[2] is None
    assert second[2] is None
    torch.testing.assert_close(first[:2], second[:2])
    torch.testing.assert_close(first[:2], [(own[0] + others[0]) / 2, own[1] / 2])


def in_one_process() -> list[Tensor]:
    torch.manual_seed(0)
    mix = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity(), "tanh": nn.Tanh()}, samples=2)
    module = nn.Sequential(nn.Linear(4, 4), mix)
    search = Search(module, seed=0)
    weights, alphas = torch.optim.SGD(search.weights, 0.1), torch.optim.SGD(search.alphas, 1.0)
    for step in range(4):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        for part, optimizer in (("alphas", alphas), ("weights", weights)):
            with search.sample(part):  # type: ignore[arg-type]
                F.mse_loss(module(x), x.flip(1)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return [each.detach() for each in (*search.alphas, *search.weights)]


def in_two_processes(text: str, tmp_path: Path) -> list[Any]:
    """What a script leaves in `0.pt` and `1.pt`."""
    script = tmp_path / "two.py"
    script.write_text(text)
    processes = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_draw_alike_and_average_what_they_find(tmp_path: Path) -> None:
    (children, first), (others, second) = in_two_processes(TWO_PROCESSES, tmp_path)
    assert children == others
    assert len(set(map(str, children))) > 2
    for mine, theirs, alone in zip(first, second, in_one_process(), strict=True):
        assert torch.equal(mine, theirs)
        torch.testing.assert_close(mine, alone, rtol=1e-4, atol=1e-6)


def test_fabric_s_loop_is_the_loop() -> None:
    """Lightning Fabric wraps module and optimisers, and makes the backward pass."""
    fabric: Any = Fabric(accelerator="cpu", devices=1)
    found = []
    for is_wrapped in (False, True):
        search: Any = Search(make(), seed=0)
        model = search.module
        weights, alphas = optimizers_of(search)
        backward: Any = Tensor.backward
        if is_wrapped:
            model, weights = fabric.setup(model, weights)
            alphas, backward = fabric.setup_optimizers(alphas), fabric.backward
        for number in range(3):
            torch.manual_seed(number)
            x, y = batch(number)
            with search.sample("alphas"):
                backward(F.mse_loss(model(x), y) + search.regulariser())
            alphas.step()
            alphas.zero_grad()
            with search.sample("weights"):
                backward(F.mse_loss(model(x), y))
            weights.step()
            weights.zero_grad()
        found.append([each.detach().clone() for each in (*search.alphas, *search.weights)])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def test_drawn_alike_every_candidate_is_as_likely() -> None:
    search: Any = Search(make(), seed=0)
    with torch.no_grad():
        alpha_of(search, "gate").copy_(torch.tensor([[50.0, 0.0]]))
    drawn = []
    for _ in range(40):
        with search.sample("weights", uniform=True):
            drawn.append(search.module.gate.gates.host[0][0])
    assert 10 < sum(drawn) < 30
    with search.sample("weights"):
        assert search.module.gate.gates.host == ((1.0, 0.0),)


def bytes_kept(block: Choice, part: Any) -> int:
    """Of the different tensors that a graph keeps until backward, weights aside."""
    search = Search(block, seed=0)
    kept: dict[int, int] = {}
    own = {weight.data_ptr() for weight in block.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    x = torch.ones(64, 32, requires_grad=True)
    with search.sample(part):
        block(x)
    with search.sample(part), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = block(x)
    del output
    return sum(kept.values())


def test_an_alpha_step_keeps_no_more_than_the_child_its_input_and_its_output() -> None:
    def deep() -> nn.Module:
        return nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Tanh())))

    block = Choice({name: deep() for name in "abcd"}, samples=1)
    child = bytes_kept(block, "weights")
    one = 64 * 32 * 4
    assert child >= 8 * one
    assert bytes_kept(block, "both") <= child + 2 * one
