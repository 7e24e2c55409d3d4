"""What every network to compare with keeps to: how it is found, what it is trained with, and what it computes."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.lookup import architecture
from datanas.network import Network, build_network, task_settings
from datanas.references import references
from datanas.references.base import Reference
from datanas.tasks import tasks
from datanas.testing.contract import Contract

BATCH, CLASSES = 3, 5


class ReferenceContract(Contract):
    """The suite of references, each around the stem and head of its task.

    Attributes:
        channels: how wide the network is built.
    """

    channels: ClassVar[int] = 4

    @pytest.fixture
    def reference(self, name: str) -> type[Reference]:
        return references[name]

    def build(self, reference: type[Reference]) -> Network:
        torch.manual_seed(0)
        channels = self.channels if reference.Network.has_width else None
        return build_network(reference.architecture(), num_classes=CLASSES, channels=channels)

    def example(self, reference: type[Reference]) -> Any:
        """Made-up inputs of the task that it serves."""
        task = tasks[reference.task]
        config = task_settings(reference, reference.task, {})
        generator = torch.Generator().manual_seed(0)
        x = task.example_input(config, task.inputs(CLASSES), task.default_size or 1, BATCH, torch.device("cpu"))
        if x.is_floating_point():
            return torch.randn(x.shape, generator=generator)
        return torch.randint(CLASSES, x.shape, generator=generator)

    def test_it_is_found_by_its_name(self, name: str, reference: type[Reference]) -> None:
        assert issubclass(reference, Reference)
        assert reference.name == name
        published = architecture(name)
        assert published == reference.architecture()
        assert published.space == name
        assert Architecture.from_json(published.to_json()) == published

    def test_it_says_who_published_it_and_what_it_is(self, reference: type[Reference]) -> None:
        assert reference.paper.strip()
        assert reference.note.strip()

    def test_what_it_is_trained_with_can_be_configured(self, reference: type[Reference]) -> None:
        resolve({section: dict(settings) for section, settings in reference.settings.items()})
        resolve({section: dict(settings) for section, settings in reference.defaults.items()})

    def test_there_is_nothing_to_search(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"in {name} there is nothing to choose"):
            resolve({"space": {"name": name}})

    def test_every_weight_of_its_body_learns(self, reference: type[Reference]) -> None:
        network = self.build(reference).train()
        outputs = numbers(network(self.example(reference)))
        assert outputs.isfinite().all()
        (outputs * torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape)).sum().backward()  # type: ignore[no-untyped-call]
        without = [name for name, weight in network.body.named_parameters() if weight.grad is None]
        assert not without, f"no gradient reaches {', '.join(without)}"

    def test_building_it_again_from_the_same_seed_gives_the_same(self, reference: type[Reference]) -> None:
        first, second = self.build(reference).state_dict(), self.build(reference).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())

    def test_measuring_changes_nothing_and_repeats(self, reference: type[Reference]) -> None:
        network, x = self.build(reference).eval(), self.example(reference)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        assert torch.equal(numbers(network(x)), numbers(network(x)))
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_rows_of_a_batch_do_not_mix_in_evaluation(self, reference: type[Reference]) -> None:
        network, x = self.build(reference).eval(), self.example(reference)
        axis = 0 if x.is_floating_point() else 1
        alone, together = numbers(network(x.narrow(axis, 1, 1))), numbers(network(x))
        torch.testing.assert_close(
            alone.flatten(),
            together.movedim(axis, 0)[1].flatten(),
            msg=lambda text: f"an example's output depends on the others of its batch: {text}",
        )


def numbers(outputs: Any) -> Tensor:
    """The first tensor that a network gives: logits or an embedding, not the state that is carried on."""
    first: Tensor = next(each for each in tree_leaves(outputs) if isinstance(each, Tensor))
    return first
