"""What every search method keeps to: its draws, its loss, its state and what it derives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.network import Supernet, build_network
from datanas.samplers import samplers
from datanas.samplers.derivation import LOG_P
from datanas.samplers.interface import BaseSampler, Draw, Update
from datanas.spaces import spaces
from datanas.spaces.base import Space
from datanas.tasks import tasks
from datanas.testing.chance import leaving_torch_alone
from datanas.testing.contract import ComponentContract

_CELLS: Any = spaces["conv_cell"]
SPACE: Space = _CELLS(_CELLS.Config(cells=3, channels=2, nodes=5))
GROUPS = SPACE.groups()


def draw(sampler: BaseSampler, seed: int = 0, progress: float = 0.5, *, uniform: bool = False) -> Draw:
    """A draw that a seed decides."""
    return sampler.draw(progress, torch.Generator().manual_seed(seed), uniform=uniform)


def same(first: Draw, second: Draw) -> bool:
    """Whether two draws open the same operations by the same factors."""
    return all(torch.equal(first.gates[name], second.gates[name]) for name in GROUPS)


class SamplerContract(ComponentContract):
    """The suite of search methods, in a space of convolutional cells and in one of one operation an edge."""

    registry = samplers
    section = "sampler"

    def make(self, name: str, seed: int = 0) -> BaseSampler:
        """The method with alphas that prefer something, and a few steps behind it."""
        torch.manual_seed(seed)
        entry = samplers[name]
        sampler = entry(self.configure(name), GROUPS, "conv_cell")
        with torch.no_grad():
            for parameter in sampler.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape))
        for step in range(3):
            before = {key: value.detach().clone() for key, value in sampler.named_parameters()}
            proposed = sampler.draw_for_alpha(0.1, torch.Generator().manual_seed(10 * seed + step))
            sampler.after_alpha_step(Update(proposed, 1.0 + step / 10, before, lr=1e-3))
        return sampler

    @pytest.fixture
    def sampler(self, name: str) -> BaseSampler:
        return self.make(name)

    def test_gates_are_finite_numbers_on_the_host(self, sampler: BaseSampler) -> None:
        for progress in (0.0, 0.5, 1.0):
            drawn = draw(sampler, progress=progress)
            assert set(drawn.gates) == set(drawn.probs) == set(drawn.codes) == set(GROUPS)
            for name, group in GROUPS.items():
                gates = drawn.gates[name]
                assert gates.shape == group.shape
                assert gates.device.type == "cpu"
                assert gates.is_floating_point()
                assert gates.isfinite().all()
                assert drawn.probs[name].shape == drawn.codes[name].shape

    def test_probability_vectors_of_a_draw_sum_to_one(self, sampler: BaseSampler) -> None:
        for probs in draw(sampler).probs.values():
            assert (probs >= 0).all()
            torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(probs), dtype=probs.dtype))

    @pytest.mark.parametrize("uniform", [False, True])
    def test_a_draw_is_a_function_of_its_generator(self, sampler: BaseSampler, uniform: bool) -> None:
        first = draw(sampler, 1, uniform=uniform)
        torch.rand(5)
        assert same(first, draw(sampler, 1, uniform=uniform)), "two draws of one seed differ"

    def test_a_draw_takes_no_chance_from_elsewhere(self, sampler: BaseSampler) -> None:
        with leaving_torch_alone():
            draw(sampler)

    def test_drawing_changes_no_parameter(self, sampler: BaseSampler) -> None:
        before = {name: value.clone() for name, value in sampler.state_dict().items()}
        draw(sampler)
        draw(sampler, uniform=True)
        assert all(torch.equal(value, before[name]) for name, value in sampler.state_dict().items())

    def test_a_uniform_draw_ignores_alpha(self, sampler: BaseSampler) -> None:
        before = draw(sampler, uniform=True)
        with torch.no_grad():
            for parameter in sampler.parameters():
                parameter.copy_(torch.rand(parameter.shape) + 0.1)
        assert same(before, draw(sampler, uniform=True))

    def test_the_loss_is_a_finite_scalar_that_reaches_every_alpha(self, sampler: BaseSampler) -> None:
        """A step of every parameter can be made from it, whatever the task's loss is; through the gates, or besides."""
        drawn = sampler.draw_for_alpha(0.5, torch.Generator().manual_seed(0))
        flat = torch.cat([gates.flatten() for gates in drawn.gates.values()])
        task_loss = (flat * torch.linspace(-1, 1, len(flat))).sum()
        assert task_loss.requires_grad == sampler.differentiable
        loss = sampler.loss(task_loss, drawn, 0.5)
        assert loss.shape == ()
        assert loss.isfinite()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        for parameter in sampler.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            assert (parameter.grad != 0).any()

    def test_a_gate_that_is_not_asked_has_no_part_in_the_gradient(self, sampler: BaseSampler) -> None:
        drawn = sampler.draw_for_alpha(0.5, torch.Generator().manual_seed(0))
        if drawn.grad_mask is None:
            return
        for name, gates in drawn.gates.items():
            unasked = (gates * ~drawn.grad_mask[name]).sum()
            gradients = torch.autograd.grad(unasked, list(sampler.parameters()), allow_unused=True, retain_graph=True)
            assert all(gradient is None or not gradient.any() for gradient in gradients)

    def test_a_step_is_settled_by_numbers_alone(self, sampler: BaseSampler) -> None:
        """Two samplers that have made the same steps are the same, and no parameter leaves the finite numbers."""
        twin = self.make(sampler.config.name)
        for name, value in sampler.state_dict().items():
            assert value.isfinite().all()
            assert torch.equal(value, twin.state_dict()[name])

    def test_a_state_gives_the_same_draws(self, sampler: BaseSampler) -> None:
        other = self.make(sampler.config.name, seed=1)
        state = other.state_dict()
        assert any(not torch.equal(value, state[name]) for name, value in sampler.state_dict().items())
        other.load_state_dict(sampler.state_dict())
        for seed in range(3):
            assert same(draw(sampler, seed), draw(other, seed))
            generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
            assert same(sampler.draw_for_alpha(0.5, generators[0]), other.draw_for_alpha(0.5, generators[1]))
        assert other.derive().architecture == sampler.derive().architecture

    def test_probabilities_cover_each_edge_or_each_node(self, sampler: BaseSampler) -> None:
        for name, table in sampler.probabilities().items():
            group = GROUPS[name]
            assert table.shape == group.shape
            assert not table.requires_grad
            assert (table >= 0).all()
            by_edge = table.sum(dim=1)
            by_node = torch.stack([table[list(part)].sum() for part in group.partition])
            assert torch.allclose(by_edge, torch.ones_like(by_edge)) or torch.allclose(
                by_node, torch.ones_like(by_node)
            )

    def test_inclusion_is_a_probability_of_each_operation(self, sampler: BaseSampler) -> None:
        for name, table in sampler.inclusion().items():
            assert table.shape == GROUPS[name].shape
            assert not table.requires_grad
            assert (table >= 0).all()
            assert (table <= 1 + 1e-12).all()

    def test_flatness_lies_between_decided_and_flat(self, sampler: BaseSampler) -> None:
        by_group = sampler.flatness()
        assert set(by_group) == set(GROUPS)
        assert all(0 <= flatness <= 1 + 1e-9 for flatness in by_group.values())

    def test_the_derived_architecture_is_one_of_its_groups(self, sampler: BaseSampler) -> None:
        derivation = sampler.derive()
        architecture = derivation.architecture
        assert isinstance(architecture, Architecture)
        assert architecture.space == "conv_cell"
        for name, group in GROUPS.items():
            cell = architecture.cells[name]
            assert (cell.edges, cell.primitives, cell.outputs) == (group.edges, group.primitives, group.outputs)
            assert (cell.code[:, group.null] == 0).all()
        assert Architecture.from_json(architecture.to_json()) == architecture

    def test_deriving_again_gives_the_same(self, sampler: BaseSampler) -> None:
        assert sampler.derive().architecture == sampler.derive(3).architecture

    def test_the_ranking_falls_and_repeats_nothing(self, sampler: BaseSampler) -> None:
        derivation = sampler.derive(5)
        architectures = [architecture for architecture, _ in derivation.ranking]
        numbers = [number for _, number in derivation.ranking]
        assert architectures[0] == derivation.architecture
        assert len(set(architectures)) == len(architectures) <= 5
        assert numbers == sorted(numbers, reverse=True)

    @pytest.mark.parametrize("rule", [None, "likeliest", "top_operations", "top_edges"])
    def test_a_ranking_says_what_its_numbers_are(self, name: str, rule: str | None) -> None:
        """log P is at most 0, and the kept architecture notes it; other numbers have other names and their own note."""
        sampler = self.make(name)
        sampler.derivation = sampler.derivation.model_copy(update={"rule": rule})
        derivation = sampler.derive(5)
        notes, numbers = derivation.architecture.posterior or {}, [number for _, number in derivation.ranking]
        if derivation.measure is None:
            assert not {"log_prob", "score"} & set(notes)
        elif derivation.measure.startswith("log P"):
            assert sampler.independent == (derivation.measure == LOG_P)
            assert all(number <= 0 for number in numbers)
            assert notes.get("log_prob", float("-inf")) == numbers[0]
        else:
            assert (notes["measure"], notes["score"]) == (derivation.measure, numbers[0])
            assert "log_prob" not in notes

    def test_the_derived_architecture_builds_and_runs(self, sampler: BaseSampler) -> None:
        network = build_network(sampler.derive().architecture, num_classes=3, channels=2, cells=2)
        assert network(torch.randn(2, 3, 8, 8)).shape == (2, 3)

    def test_the_derived_weights_fit_what_is_drawn(self, sampler: BaseSampler) -> None:
        """A supernet can run the kept child: its factors have the shape of gates and open no closed operation."""
        architecture = sampler.derive().architecture
        for name, group in GROUPS.items():
            weights = architecture.weights(name)
            assert weights.shape == group.shape
            assert np.array_equal(weights > 0, architecture.code[name] > 0)

    def test_what_is_drawn_runs_in_a_supernet(self, sampler: BaseSampler) -> None:
        task = tasks["classification"]
        config = validate(task.Config, {"name": "classification"}, "task")
        supernet = Supernet(SPACE, task.stem(config, 3, 2), lambda widths: task.head(config, widths, 5))
        gates = {name: Gates.of(values) for name, values in draw(sampler).gates.items()}
        outputs = supernet(torch.randn(2, 3, 8, 8), gates)
        assert outputs.shape == (2, 5)
        assert outputs.isfinite().all()

    def test_candidates_are_different_architectures_of_the_space(self, sampler: BaseSampler) -> None:
        candidates = sampler.candidates(8, torch.Generator().manual_seed(0))
        assert 1 <= len(candidates) == len(set(candidates)) <= 8
        assert candidates == sampler.candidates(8, torch.Generator().manual_seed(0))
        for architecture in candidates:
            assert {name: cell.edges for name, cell in architecture.cells.items()} == {
                name: group.edges for name, group in GROUPS.items()
            }

    def test_of_one_operation_an_edge_it_keeps_one(self, name: str) -> None:
        """In a space like NAS-Bench-201 what is kept, sampled or compared can be looked up."""
        torch.manual_seed(0)
        groups = {"cell": replace(GROUPS["normal"], name="cell", single=True)}
        sampler = samplers[name](self.configure(name), groups, "nasbench201")
        with torch.no_grad():
            for parameter in sampler.parameters():
                parameter.add_(torch.randn(parameter.shape))
        generator = torch.Generator().manual_seed(0)
        ranked = [derived for derived, _ in sampler.derive(3).ranking]
        for architecture in (*ranked, *sampler.candidates(5, generator)):
            assert (architecture.code["cell"].sum(axis=1) <= 1).all()
            assert (architecture.scope, architecture.aggregate) == ("edge", "sum")
        (table,) = sampler.probabilities().values()
        torch.testing.assert_close(table.sum(dim=1), torch.ones(len(table), dtype=table.dtype))

    @pytest.mark.parametrize("settings", [{"rule": "top_edges"}, {"rule": "top_operations", "operations": 2}])
    def test_a_rule_that_the_space_cannot_serve_is_refused(self, name: str, settings: dict[str, object]) -> None:
        if "derivation" not in samplers[name].Config.model_fields:
            return
        groups = {"cell": replace(GROUPS["normal"], name="cell", single=True)}
        config = self.configure(name, derivation=settings)
        with pytest.raises(ConfigError, match="does not leave one operation on each edge, as space nasbench201 needs"):
            samplers[name](config, groups, "nasbench201")
