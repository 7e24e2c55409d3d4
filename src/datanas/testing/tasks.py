"""What every task keeps to: its batches, its loss, its figures, its examples and its state."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from datanas.core import seeding
from datanas.core.exhibits import exhibit_from_json, exhibit_to_json
from datanas.core.processes import Processes
from datanas.kernels.mixed import set_drop_path
from datanas.lookup import architecture
from datanas.network import Network, build_network, builder_of, network_config, rebuild_network
from datanas.runs.state import decode_state, encode_state
from datanas.spaces.base import StemShape
from datanas.spaces.sequence import SequenceShape
from datanas.tasks.base import Part, Task
from datanas.testing.chance import leaving_torch_alone
from datanas.testing.task_parts import BATCH, TaskPartsContract
from datanas.testing.two_processes import together


class TaskContract(TaskPartsContract):
    """The suite of tasks, on tiny data of the first kind that the task takes, around a published cell."""

    @pytest.fixture
    def network(self, task: Task[Any]) -> Network:
        torch.manual_seed(0)
        name, cells = cell_behind(stem := task.make_stem(2))
        published = architecture(name)
        settings = network_config(builder_of(published), {"channels": 2, "cells": cells, "auxiliary": False})
        return rebuild_network(published, stem, lambda widths: task.make_head(widths, stem), settings)

    def test_the_stem_hands_on_what_its_shape_says(self, task: Task[Any]) -> None:
        stem = task.make_stem(4)
        if isinstance(stem.shape, SequenceShape):
            inputs, state, mask = stem(torch.zeros(3, 2, dtype=torch.int64))
            assert inputs.shape == (3, 2, stem.shape.width)
            assert state is None
            assert mask is None or mask.shape == (2, stem.shape.hidden)
            return
        assert isinstance(stem.shape, StemShape)
        first, second = stem(torch.randn(2, *task.example_shape))
        assert (first.shape[1], second.shape[1]) == stem.shape.channels
        assert (first.shape[2:] != second.shape[2:]) == stem.shape.halved

    def test_the_loss_is_a_finite_scalar_that_trains(self, searching: Task[Any], network: nn.Module) -> None:
        loss = searching.loss(network, searching.batch("weights", 0))
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)

    def test_the_losses_of_two_shares_average_to_that_of_the_batch(
        self, searching: Task[Any], network: nn.Module
    ) -> None:
        network.eval()
        whole = searching.loss(network, searching.batch("weights", 1))

        def of_share(processes: Processes) -> torch.Tensor:
            one = self.make(searching.config.name)
            one.processes = processes
            one.split_search("1:1", BATCH, None)
            return one.loss(network, one.batch("weights", 1))

        shares = torch.stack(together(of_share))
        torch.testing.assert_close(
            shares.mean(), whole, rtol=1e-5, atol=1e-6, msg=lambda text: f"a loss must be the mean of its batch: {text}"
        )

    def test_its_state_comes_back(self, searching: Task[Any], network: nn.Module) -> None:
        searching.loss(network, searching.batch("weights", 0))
        structure, tensors = encode_state(searching.state_dict())
        other = self.make(searching.config.name)
        other.split_search("1:1", BATCH, None)
        other.load_state_dict(decode_state(structure, tensors))
        assert repr(other.state_dict()) == repr(searching.state_dict())

    def test_a_keyed_loss_repeats_and_leaves_the_global_generator_alone(
        self, searching: Task[Any], network: nn.Module
    ) -> None:
        """Its network asks for the random numbers that it needs, or is known to need others."""
        set_drop_path(network.train(), 0.3)
        batch, state = searching.batch("weights", 0), deepcopy(searching.state_dict())
        losses = []
        with leaving_torch_alone():
            for key in (0, 0, 1):
                searching.load_state_dict(deepcopy(state))
                with seeding.keyed(key, "weights", reach=seeding.reach_of(network, searching)):
                    losses.append(searching.loss(network, batch).item())
        assert losses[0] == losses[1], "the loss of a batch differs where its random numbers do not"

    @pytest.mark.parametrize("part", ["alpha", "test"])
    def test_an_evaluation_has_the_score_and_repeats(
        self, searching: Task[Any], network: nn.Module, part: Part
    ) -> None:
        figures = searching.evaluate(network.eval(), part)
        assert searching.metric.name in figures
        assert all(isinstance(value, float) for value in figures.values())
        assert 0 <= figures[searching.metric.name] <= (1 if searching.metric.is_share else math.inf)
        assert searching.evaluate(network, part) == figures
        if searching.metric.is_share:
            shares = figures.keys() - {"loss", *(each.name for each in searching.further)}
            assert all(-1 <= figures[name] <= 1 for name in shares)
            assert {each.name for each in searching.further} <= figures.keys()

    def test_a_limited_evaluation_repeats(self, searching: Task[Any], network: nn.Module) -> None:
        figures = searching.evaluate(network.eval(), "alpha", 12)
        assert searching.evaluate(network, "alpha", 12) == figures

    def test_evaluating_changes_no_weight_no_mode_and_no_random_number(
        self, searching: Task[Any], network: nn.Module
    ) -> None:
        network.eval()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with leaving_torch_alone():
            searching.evaluate(network, "alpha")
        assert not network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_what_it_shows_repeats_survives_a_file_and_changes_nothing(
        self, task: Task[Any], network: nn.Module
    ) -> None:
        network.eval()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with leaving_torch_alone():
            found = task.evaluate_fully(network, "test")
            shown = list(found.exhibits())
        assert found.figures == task.evaluate(network, "test")
        assert not network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        written = [exhibit_to_json(each) for each in shown]
        assert [exhibit_to_json(each) for each in found.exhibits()] == written
        read = [exhibit_from_json(json.loads(json.dumps(each))) for each in written]
        assert [json.dumps(exhibit_to_json(each)) for each in read] == [json.dumps(each) for each in written]

    def test_answers_that_are_kept_have_the_score_of_any_choice(self, task: Task[Any], network: nn.Module) -> None:
        task.split_train(0.25, BATCH)
        found = task.evaluate_fully(network.eval(), "validation")
        figures, answers = found.figures, found.answers
        assert figures == task.evaluate(network, "validation")
        assert bool(answers) == task.keeps_answers
        if task.keeps_answers:
            (count,) = {len(each) for each in answers.values()}
            assert count > 1
            whole = task.resampled_scores(answers, torch.ones(1, count, dtype=torch.float64))
            assert whole.item() == pytest.approx(figures[task.metric.name], rel=1e-5)
            doubled = task.resampled_scores(answers, torch.full((1, count), 2.0, dtype=torch.float64))
            assert doubled.item() == pytest.approx(whole.item())

    def test_the_held_out_share_is_measured(self, task: Task[Any], network: nn.Module) -> None:
        task.split_train(0.25, BATCH)
        assert task.metric.name in task.evaluate(network.eval(), "validation")

    def test_a_network_is_built_for_it_by_name(self, name: str) -> None:
        task = self.make(name)
        cell, cells = cell_behind(task.make_stem(2))
        options = {"num_classes": task.num_classes, "channels": 2, "cells": cells, **self.settings}
        network = build_network(architecture(cell), task=name, **options)
        task.split_train(0.0, BATCH)
        assert task.loss(network, task.batch("train", 0)).isfinite()


def cell_behind(stem: nn.Module) -> tuple[str, int]:
    """A published cell that can follow a stem, and how many of it."""
    return ("darts_v1_rnn", 1) if isinstance(stem.shape, SequenceShape) else ("gdas", 3)
