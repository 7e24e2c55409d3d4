"""A module with choices as a search space: handed over, built by a plugin's file, or in a loop of one's own."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import datanas
from datanas import Choice, Search
from datanas.blocks.given import given
from datanas.blocks.kept import Kept
from datanas.blocks.space import ModuleBody, ModuleSpace
from datanas.core.errors import ArchitectureError
from datanas.core.settings import ComponentConfig
from datanas.engine.config import resolve as resolve_config
from datanas.engine.schedules import build_adam, build_sgd, set_learning_rate
from datanas.engine.search import SearchJob
from datanas.engine.setup import build_space, load_task
from datanas.kernels.gates import Gates
from datanas.spaces import MODULE, spaces

CPU = torch.device("cpu")


class Net(nn.Module):
    """Weights are the same each time that it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.mix = Choice(
            {
                "conv3": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
                "conv1": nn.Conv2d(4, 4, 1),
                "skip": nn.Identity(),
            },
            samples=2,
        )
        self.bends = nn.ModuleList(Choice({"tanh": nn.Tanh(), "relu": torch.relu}, samples=1) for _ in range(2))
        self.head = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.stem(x))
        for bend in self.bends:
            x = bend(x)
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


class NetSpace(ModuleSpace):
    name: ClassVar[str] = "made_up_net"

    class Config(ComponentConfig):
        name: Literal["made_up_net"] = "made_up_net"

    @classmethod
    def build(cls, settings: Any) -> nn.Module:
        return Net()


@pytest.fixture
def sections(tiny_images: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(name: str = "run", epochs: int = 2, **more: Any) -> dict[str, Any]:
        search = {
            "epochs": epochs,
            "batch_size": 8,
            "alpha": {"lr": 0.1},
            "weights": {"lr": 0.05},
            "gap": {"examples": 8, "children": 2},
        }
        return {
            "data": {"name": "npz", "root": str(tiny_images)},
            "task": "classification",
            "device": "cpu",
            "seed": 3,
            "run": {"root": str(tmp_path), "name": name, "checkpoint_every": 1},
            "search": search,
            **more,
        }

    return make


Sections = Callable[..., dict[str, Any]]


def in_a_loop_of_one_s_own(sections: Sections) -> tuple[Any, dict[str, Tensor]]:
    """The engine's data and rates, and ten lines of one's own."""
    with given(Net()) as space:
        config = resolve_config({**sections(), "space": space})
        job = SearchJob(config, load_task(config, CPU), CPU)
    task, settings, times = job.task, config.search, job.times
    module = Net()
    search = Search(module, seed=config.seed)
    weights = build_sgd(search.weights, settings.weights)
    alphas = build_adam(search.alphas, settings.alpha, 0.0)
    number = 0
    for step in range(job.length):
        for _ in range(times.alpha_steps(step)):
            with search.sample("alphas"):
                (task.loss(module, task.batch("alpha", number)) + search.regulariser()).backward()
            alphas.step()
            alphas.zero_grad()
            number += 1
        set_learning_rate(weights, times.weight_rate(step))
        with search.sample("weights"):
            task.loss(module, task.batch("weights", step)).backward()
        nn.utils.clip_grad_norm_(search.weights, settings.weights.clip)
        weights.step()
        weights.zero_grad()
    return search.derive(), search.sampler.probabilities()


def test_three_ways_give_the_same_architecture(sections: Sections) -> None:
    handed = datanas.search(Net(), quiet=True, **sections())
    with spaces.lent("made_up_net", NetSpace):
        plugged = datanas.search({**sections("plugged"), "space": "made_up_net"}, quiet=True)
    own, probabilities = in_a_loop_of_one_s_own(sections)
    assert handed.architecture == own
    assert plugged.architecture.cells == own.cells
    assert plugged.architecture.space == "made_up_net"
    for name, table in probabilities.items():
        for found in (handed, plugged):
            last = torch.tensor(found.history[-1][f"probs/{name}"])
            torch.testing.assert_close(table.float(), last, rtol=1e-3, atol=1e-4)
    assert max(float(table.max()) for table in probabilities.values()) > 0.55


def test_the_module_stays_as_it_is(sections: Sections) -> None:
    module = Net()
    before = deepcopy(module.state_dict())
    datanas.search(module, quiet=True, **sections(epochs=1))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert MODULE not in spaces


def test_a_run_folder_has_what_those_of_built_in_spaces_have(sections: Sections) -> None:
    found = datanas.search(Net(), quiet=True, **sections())
    names = {path.name for path in found.path.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "architecture.json", "result.json", "checkpoints", "genotypes"} <= names
    assert found.gap is not None
    assert "log_prob" in (found.architecture.posterior or {})
    assert isinstance(datanas.resolve(Net(), str(found.path)), Net)


def test_a_killed_run_goes_on_where_it_was(sections: Sections, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = datanas.search(Net(), quiet=True, **sections("whole"))
    step = SearchJob.step

    def stop(self: SearchJob, number: int) -> dict[str, float]:
        if number == 4:
            raise KeyError("stopped")
        return step(self, number)

    monkeypatch.setattr(SearchJob, "step", stop)
    with pytest.raises(KeyError, match="stopped"):
        datanas.search(Net(), quiet=True, **sections())
    monkeypatch.undo()
    resumed = datanas.search(Net(), quiet=True, resume=whole.path.parent / "run")
    assert resumed.architecture == whole.architecture
    key = "probs/mix"
    assert resumed.history[-1][key] == whole.history[-1][key]


def test_a_run_without_its_module_says_whose_it_is(sections: Sections) -> None:
    found = datanas.search(Net(), quiet=True, **sections(epochs=1))
    with pytest.raises(ValueError, match=r"hand it over, as in datanas\.search\(module"):
        datanas.search(resume=found.path, quiet=True)


def test_a_run_does_not_go_on_with_another_module(sections: Sections) -> None:
    datanas.search(Net(), quiet=True, **sections(epochs=1))
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), Choice({"a": nn.Identity(), "b": nn.Tanh()}))
    with pytest.raises(ValueError, match=r"space\.candidates"):
        datanas.search(other, quiet=True, **sections(epochs=1))


def test_a_race_of_a_module_is_refused(sections: Sections) -> None:
    with pytest.raises(ValueError, match=r"search\.choice: a race trains candidates in processes of their own"):
        datanas.search(Net(), quiet=True, **{**sections(), "search": {"choice": "race", "epochs": 1}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": "conv_cell"}, "space: the module is the space"),
        ({"sampler": "pc_darts"}, "module cannot run its operations on part of the channels"),
        ({"sampler": "eggs"}, "unknown sampler"),
    ],
)
def test_settings_that_do_not_fit_are_refused(sections: Sections, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datanas.search(Net(), quiet=True, **{**sections(), **arguments})


def test_sections_beside_a_recipe_are_refused() -> None:
    with pytest.raises(ValueError, match="task: sections stand in the recipe itself"):
        datanas.search({"data": "npz"}, task="classification")


@pytest.mark.parametrize("sampler", ["darts", "drnas", "dso_nas", "enas", "evolution", "gdas", "random", "snas"])
def test_other_methods_search_a_module(sections: Sections, sampler: str) -> None:
    found = datanas.search(Net(), quiet=True, **sections(epochs=1, sampler=sampler))
    assert isinstance(datanas.resolve(Net(), found.architecture), Net)


def test_what_is_kept_is_within_a_budget(sections: Sections) -> None:
    free = datanas.search(Net(), quiet=True, **sections("free"))
    bound = datanas.search(Net(), quiet=True, **sections("bound", budget={"macs": 1900}))
    with given(Net()) as space:
        costs = build_space(resolve_config({**sections(), "space": space})).costs(
            nn.Identity(), torch.zeros(1, 3, 8, 8)
        )
    assert costs["mix"].macs.tolist() == [[4 * 4 * 9 * 16, 4 * 4 * 16, 0]]
    assert free.architecture.cells["mix"].code.tolist() != bound.architecture.cells["mix"].code.tolist()
    assert bound.architecture.cells["mix"].code[0, 0] == 0


def test_a_budget_of_choices_within_choices_is_refused(sections: Sections) -> None:
    with pytest.raises(ValueError, match=r"budget: the choice bends/0/\S+ is within a candidate of bends/0"):
        datanas.search(Nested(), quiet=True, **sections(budget={"macs": 1900}))


def test_parameters_are_counted_whatever_costs_were_said() -> None:
    with given(nn.Sequential(Choice({"a": nn.Linear(4, 4), "b": nn.Identity()}, name="mix", costs={"a": 1, "b": 2}))):
        costs = make_space().costs(nn.Identity(), torch.zeros(1, 4))
    assert costs["mix"].parameters.tolist() == [[20.0, 0.0]]


def make_space() -> ModuleSpace:
    make: Any = spaces[MODULE]
    space: ModuleSpace = make(make.Config())
    return space


def test_costs_are_those_of_every_place_where_a_choice_stands() -> None:
    block = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="mix")
    module = nn.Sequential(block, block, Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="mix"))
    with given(module):
        costs = make_space().costs(nn.Identity(), torch.zeros(1, 4))
    assert costs["mix"].parameters.tolist() == [[40.0, 0.0]]
    assert costs["mix"].macs.tolist() == [[3 * 16.0, 0.0]]


def test_what_has_no_parameters_anywhere_is_not_held_against_it() -> None:
    with given(Net()):
        space = make_space()
        assert space.parameter_free("mix") == {"skip"}
        assert space.identities("mix") == {"skip"}
        assert space.parameter_free("bends/0") == frozenset()


def test_a_plugin_s_architecture_is_built_and_trained(sections: Sections) -> None:
    with spaces.lent("made_up_net", NetSpace):
        found = datanas.search({**sections("s"), "space": "made_up_net"}, quiet=True)
        more = {"train": {"epochs": 1, "batch_size": 16}, "task": {"train_augment": {"cutout": 2}}}
        trained = datanas.train(found.architecture, {**sections("t", **more), "space": "made_up_net"}, quiet=True)
        network: Any = datanas.build_network(found.architecture)
    assert trained.path.is_dir()
    assert type(network.body.module) is Net
    assert not any(isinstance(part, Choice) for part in network.modules())
    kept = found.architecture.cells["mix"].code.sum()
    assert isinstance(network.body.module.mix, Kept) == (kept > 1)


def test_an_architecture_of_another_space_is_refused() -> None:
    with spaces.lent("made_up_net", NetSpace):
        found = Search(nn.Sequential(Choice({"a": nn.Identity()}))).derive()
        other = datanas.Architecture(found.cells, space="made_up_net")
        with pytest.raises(ArchitectureError, match="the module chooses mix"):
            datanas.build_network(other)


class Checkpointed(Net):
    """Its activations are computed a second time in backward."""

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = checkpoint(super().forward, x, use_reentrant=False)
        return scores


class Nested(Net):
    """Choices within candidates of others."""

    def __init__(self) -> None:
        super().__init__()
        for place in range(2):
            inner = Choice({"tanh": nn.Tanh(), "relu": nn.ReLU()}, samples=1)
            self.bends[place] = Choice({"deep": nn.Sequential(nn.Tanh(), inner), "relu": torch.relu}, samples=1)


@pytest.mark.parametrize("kind", [Checkpointed, Nested])
def test_what_runs_in_backward_knows_its_child(sections: Sections, kind: type[Net]) -> None:
    torch.manual_seed(0)
    module = kind()
    found = datanas.search(module, quiet=True, **sections())
    assert isinstance(datanas.resolve(module, found.architecture), kind)


def test_a_checkpointed_module_is_searched_as_it_would_be_without(sections: Sections) -> None:
    kinds = {"plain": Net(), "checkpointed": Checkpointed()}
    found = [datanas.search(module, quiet=True, **sections(name)).history[-1] for name, module in kinds.items()]
    assert found[0]["probs/mix"][0] == pytest.approx(found[1]["probs/mix"][0])


def test_a_forward_pass_that_fails_leaves_no_child_behind() -> None:
    body = ModuleBody(nn.Sequential(Choice({"a": nn.Identity(), "b": nn.Tanh()}, name="mix"), nn.Linear(2, 2)))
    gates = {"mix": Gates.of(torch.tensor([[1.0, 0.0]]))}
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        body(torch.ones(1, 3), gates)
    assert body.module[0].gates is None  # type: ignore[index]
    body(torch.ones(1, 2), gates)
    with pytest.raises(RuntimeError, match="nothing is chosen"):
        body(torch.ones(1, 2))


class Shared(nn.Module):
    """Depths and widths share their weights."""

    def __init__(self) -> None:
        super().__init__()
        perceptron = nn.Sequential(nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.width = datanas.ChoiceWidth(perceptron, (4, 8))
        self.depth = datanas.ChoiceRepeat([nn.Linear(3, 3), nn.Linear(3, 3)], (0, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.depth(self.width(x.flatten(1)))
        return scores


def test_weights_that_candidates_share_outlive_a_checkpoint(sections: Sections) -> None:
    torch.manual_seed(0)
    module = Shared()
    whole = datanas.search(module, quiet=True, **sections("whole", epochs=2))
    begun = datanas.search(module, quiet=True, **sections(epochs=1))
    more = datanas.search(module, quiet=True, **sections(epochs=2))
    assert more.path == begun.path
    assert len(more.history) == len(whole.history) == 2
    assert isinstance(datanas.resolve(module, more.architecture), Shared)
