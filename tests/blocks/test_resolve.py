"""A module with its choices made is a plain module that gives what the child gave."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import datanas
from datanas import Architecture, Choice, ChoiceInput, Search, resolve
from datanas.blocks.kept import Kept
from datanas.codes.cell import Cell


class Model(nn.Module):
    """Two blocks that choose alike, one of its own, and a choice of inputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.first = self.pair("pair", **options)
        self.second = self.pair("pair", **options)
        self.third = self.pair(None, **options)
        self.reads = ChoiceInput(2, samples=1)

    @staticmethod
    def pair(name: str | None, **options: Any) -> Choice:
        candidates = {"linear": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4), "skip": nn.Identity()}
        return Choice(candidates, name=name, **options)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        output: Tensor = self.reads([self.third(y), y])
        return output


def cell(code: str, *primitives: str) -> Cell:
    return Cell(primitives, ((0, 1),), (1,), np.array([[int(digit) for digit in code]], np.uint8), 1)


def architecture_of(pair: str, third: str, reads: str) -> Architecture:
    three = ("linear", "norm", "skip")
    cells = {"pair": cell(pair, *three), "third": cell(third, *three), "reads": cell(reads, "input0", "input1")}
    return Architecture(cells, space="module")


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    return Model(**options)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("codes", [("100", "001", "10"), ("110", "011", "11"), ("111", "010", "01")])
def test_it_gives_what_the_child_gives(codes: tuple[str, str, str], combine: str) -> None:
    architecture = architecture_of(*codes)
    module = make(combine=combine)
    with Search(module).running(architecture), torch.no_grad():
        expected = module(X)
    torch.testing.assert_close(resolve(make(combine=combine), architecture)(X), expected)


def test_a_mean_is_no_sum() -> None:
    """Negative control."""
    architecture = architecture_of("110", "011", "11")
    assert not torch.allclose(
        resolve(make(combine="mean"), architecture)(X), resolve(make(), architecture)(X), rtol=1e-2
    )


def test_one_candidate_is_left_as_it_is_and_several_as_a_sum() -> None:
    network: Any = resolve(make(), architecture_of("100", "101", "01"))
    assert type(network.first) is nn.Linear
    assert type(network.third) is Kept
    assert list(network.third.kept) == ["linear", "skip"]
    assert not any(isinstance(part, Choice) for part in network.modules())


def test_it_shares_nothing_with_the_searched_module() -> None:
    module = make()
    network = resolve(module, architecture_of("100", "101", "01"))
    theirs = {parameter.data_ptr() for parameter in module.parameters()}
    assert not any(parameter.data_ptr() in theirs for parameter in network.parameters())


def test_a_block_at_two_places_stays_one() -> None:
    block = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()})
    module = nn.Sequential(block, nn.ReLU(), block)
    with Search(module).sample():
        module(X)
    found = Search(module)
    network: Any = found.network(Architecture({"0": cell("10", "linear", "skip")}, space="module"))
    assert network[0] is network[2]


def test_a_choice_within_a_kept_candidate_is_made_too() -> None:
    inner = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="inner")
    outer = Choice({"deep": nn.Sequential(nn.Tanh(), inner), "skip": nn.Identity()}, name="outer")

    found: Any = resolve(
        outer, Architecture({"inner": cell("10", "linear", "skip"), "outer": cell("10", "deep", "skip")})
    )
    assert [type(part) for part in found] == [nn.Tanh, nn.Linear]


def test_a_name_met_outside_and_again_inside_is_made_at_both_places() -> None:
    def tied() -> Choice:
        return Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="tied")

    module = nn.Sequential(tied(), Choice({"deep": nn.Sequential(tied(), nn.Tanh())}, name="outer"))
    kept = {"tied": cell("10", "linear", "skip"), "outer": cell("1", "deep")}
    found = resolve(module, Architecture(kept, space="module"))
    assert not any(isinstance(part, Choice) for part in found.modules())
    assert found(X).shape == X.shape


def test_it_outlives_pickling(tmp_path: Path) -> None:
    network: Any = resolve(make(), architecture_of("111", "101", "11"))
    found = pickle.loads(pickle.dumps(network))
    torch.testing.assert_close(found.eval()(X), network.eval()(X))


def test_it_can_be_compiled() -> None:
    network: Any = resolve(make(), architecture_of("111", "101", "11")).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), network(X))


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_torch_fx_records_all_that_is_kept(combine: str) -> None:
    network: Any = resolve(make(combine=combine), architecture_of("111", "101", "11")).eval()
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(X), network(X))


def test_an_architecture_is_read_from_its_file(tmp_path: Path) -> None:
    architecture = architecture_of("100", "001", "10")
    architecture.save(tmp_path / "kept.json")
    assert type(resolve(make(), str(tmp_path / "kept.json")).first) is nn.Linear


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"other": "100"}, r"cells: the module chooses choice, the architecture other"),
        ({"choice": "10"}, r"cells.choice.primitives: the module has the candidates linear, skip, .* a, b"),
    ],
)
def test_an_architecture_of_other_choices_is_refused(cells: dict[str, str], message: str) -> None:
    block = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()})
    found = {name: cell(code, *"abc"[: len(code)]) for name, code in cells.items()}
    with pytest.raises(datanas.core.errors.ArchitectureError, match=message):
        resolve(block, Architecture(found, space="module"))


def test_a_code_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps none of linear, norm, skip"):
        resolve(make(), architecture_of("000", "101", "11"))


def test_a_built_in_space_s_builder_says_where_a_module_is_rebuilt() -> None:
    with pytest.raises(datanas.core.errors.ArchitectureError, match=r"datanas\.resolve\(module, architecture\)"):
        datanas.build_network(architecture_of("100", "101", "11"))
