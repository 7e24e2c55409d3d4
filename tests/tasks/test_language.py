"""Language modelling: what is carried, dropped, tied and measured."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.core.processes import Processes
from datanas.core.settings import validate
from datanas.data.types.corpus import TextData
from datanas.engine.config import resolve
from datanas.network import Network, builder_of, network_config, rebuild_network
from datanas.tasks.language import Language
from datanas.tasks.perplexity import perplexity
from datanas.tasks.word_model import Predictions, WordStem

CPU = torch.device("cpu")
WORDS, UNITS = 12, 6
KEPT = {"words": 0.0, "embedding": 0.0, "input": 0.0, "hidden": 0.0, "output": 0.0}


def text(seed: int = 0, words: int = WORDS) -> TextData:
    generator = torch.Generator().manual_seed(seed)

    def part(count: int) -> Tensor:
        return torch.randint(words, (count,), generator=generator)

    names = ("<eos>", *(f"w{index}" for index in range(1, words)))
    return TextData(part(500), part(90), part(101), names, {})


def make(data: TextData | None = None, seed: int = 0, **settings: Any) -> Language:
    config = validate(Language.Config, {"name": "language", "sequence": 5, "dropout": KEPT, **settings}, "task")
    return Language(config, text() if data is None else data, CPU, seed)


def network(task: Language, name: str = "darts_v1_rnn") -> Network:
    torch.manual_seed(0)
    stem = task.make_stem(UNITS)
    cell = datanas.architecture(name)
    settings = network_config(builder_of(cell), {"channels": UNITS})
    found = rebuild_network(cell, stem, lambda widths: task.make_head(widths, stem), settings)
    return found.double()


def ready(**settings: Any) -> tuple[Language, Network]:
    task = make(**settings)
    task.split_train(0.0, 4)
    return task, network(task)


class Watching:
    """A model that notes the states it is given."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.states: list[Tensor | None] = []

    def __call__(self, x: tuple[Tensor, Tensor | None]) -> Predictions:
        self.states.append(x[1])
        return self.model(x)


def test_a_state_is_carried_from_batch_to_batch_and_dropped_at_the_beginning() -> None:
    task, model = ready(varied=False)
    watching = Watching(model)
    task.loss(watching, task.batch("train", 0))
    after = model((task.batch("train", 0).tokens, None)).state
    task.loss(watching, task.batch("train", 1))
    assert watching.states[0] is None
    torch.testing.assert_close(watching.states[1], after)
    assert not watching.states[1].requires_grad
    task.loss(watching, task.batch("train", task.steps_per_epoch("train")))
    assert watching.states[2] is None


def test_the_same_batch_again_goes_on_from_the_same_state() -> None:
    task, model = ready(varied=False)
    task.loss(model, task.batch("train", 0))
    first = task.loss(model, task.batch("train", 1))
    assert torch.equal(first, task.loss(model, task.batch("train", 1)))


def test_parts_carry_states_of_their_own() -> None:
    task = make(varied=False)
    task.split_search("1:1", 4, None)
    model = network(task)
    task.loss(model, task.batch("weights", 0))
    watching = Watching(model)
    task.loss(watching, task.batch("alpha", 0))
    task.loss(watching, task.batch("weights", 1))
    assert watching.states[0] is None
    assert watching.states[1] is not None


def test_carried_states_come_back() -> None:
    task, model = ready(varied=False)
    task.loss(model, task.batch("train", 0))
    state = deepcopy(task.state_dict())
    wanted = task.loss(model, task.batch("train", 1))
    other, _ = ready(varied=False)
    other.load_state_dict(state)
    assert torch.equal(other.loss(model, other.batch("train", 1)), wanted)
    fresh, _ = ready(varied=False)
    assert not torch.equal(fresh.loss(model, fresh.batch("train", 1)), wanted)


class OneOfTwo(Processes):
    """The second of two processes; the first has zeros."""

    size, rank = 2, 1

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.stack((torch.zeros_like(tensor), tensor))


def test_every_process_gets_its_columns_back() -> None:
    task, model = ready(varied=False)
    task.processes = OneOfTwo()
    task.loss(model, task.batch("train", 0))
    state = task.state_dict()
    carried = state["carried"]["train"]["state"]
    assert carried.shape == (4, UNITS)
    assert not carried[:2].any()
    own = task._carried["train"][1]
    task.load_state_dict(state)
    assert torch.equal(task._carried["train"][1], own)
    assert own.shape == (2, UNITS)


def test_the_search_splits_the_text_where_the_ratio_says() -> None:
    task = make()
    task.split_search("3:1", 4, 400)
    assert torch.equal(task._texts["weights"], text().train[:300])
    assert torch.equal(task._texts["alpha"], text().train[300:400])


def test_lengths_vary_while_training_only_and_scale_the_learning_rate() -> None:
    task = make(sequence=20)
    task.split_search("1:1", 2, None)
    task.split_train(0.0, 2)
    assert [len(task.batch("weights", step).tokens) for step in range(5)] == [20] * 5
    lengths = [len(task.batch("train", step).tokens) for step in range(8)]
    assert len(set(lengths)) > 1
    assert [task.lr_scale(task.batch("train", step)) for step in range(8)] == [length / 20 for length in lengths]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_perplexity_is_that_of_the_whole_text_in_one_sequence(part: str) -> None:
    task, model = ready()
    ids = text().valid if part == "validation" else text().test
    before = torch.cat((torch.zeros(1, dtype=torch.int64), ids[:-1]))
    logits = model.eval()(before[:, None]).logits[:, 0]
    loss = float(F.cross_entropy(logits, ids).detach())
    found = task.evaluate(model, part)  # type: ignore[arg-type]
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)


def test_perplexity_does_not_depend_on_batch_size_or_sequence() -> None:
    task, model = ready()
    found = task.evaluate(model.eval(), "test")
    other = make(sequence=9)
    other.split_train(0.0, 11)
    assert other.evaluate(model, "test") == found
    assert task.monitor(model, "test") != found


def test_a_limited_evaluation_reads_so_many_words() -> None:
    task, model = ready()
    watching = Watching(model.eval())
    count = 0

    def counting(x: tuple[Tensor, Tensor | None]) -> Predictions:
        nonlocal count
        count += x[0].numel()
        return watching(x)

    task.evaluate(counting, "test", 40)
    assert 30 <= count <= 40


def test_a_tied_decoder_is_the_embedding() -> None:
    _, model = ready()
    assert model((torch.zeros(2, 1, dtype=torch.int64), None)).weight is model.stem.embedding.weight
    names = [name for name, _ in model.named_parameters()]
    assert len([name for name in names if name.startswith("head.")]) == 1
    copy = deepcopy(model)
    assert copy((torch.zeros(2, 1, dtype=torch.int64), None)).weight is copy.stem.embedding.weight


def test_an_untied_decoder_is_its_own_and_takes_any_embedding() -> None:
    task = make(tied=False, embedding=3)
    model = network(task)
    found = model(torch.zeros(2, 1, dtype=torch.int64))
    assert found.weight.shape == (WORDS, UNITS)
    assert model.stem.embedding.weight.shape == (WORDS, 3)


def test_a_tied_embedding_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.tied: an embedding of 12 words and width 3 cannot decode 6 units"):
        network(make(embedding=3))


@pytest.mark.parametrize("name", KEPT)
def test_each_dropout_acts_while_training_only(name: str) -> None:
    task = make(dropout={**KEPT, name: 0.5})
    task.split_train(0.0, 4)
    model = network(task)
    batch = task.batch("train", 0)

    def loss() -> Tensor:
        torch.manual_seed(0)
        return model((batch.tokens, None)).cross_entropy(batch.targets)

    trained = loss()
    model.eval()
    assert not torch.equal(trained, loss())
    torch.testing.assert_close(loss(), network(make()).eval()((batch.tokens, None)).cross_entropy(batch.targets))


def test_masks_stay_the_same_through_a_sequence() -> None:
    config = validate(Language.Config, {"name": "language", "dropout": {**KEPT, "input": 0.5}}, "task")
    stem = Language.stem(config, WORDS, UNITS)
    nn.init.ones_(stem.embedding.weight)
    found = stem(torch.zeros(7, 3, dtype=torch.int64))
    assert torch.equal(found.inputs, found.inputs[:1].expand_as(found.inputs))
    assert set(found.inputs.unique().tolist()) == {0.0, 2.0}


def test_a_dropped_word_is_dropped_everywhere() -> None:
    config = validate(Language.Config, {"name": "language", "dropout": {**KEPT, "words": 0.5}}, "task")
    stem = Language.stem(config, WORDS, UNITS)
    nn.init.ones_(stem.embedding.weight)
    tokens = torch.arange(WORDS).repeat(3)[:, None]
    kept = stem(tokens).inputs[:, 0, 0].view(3, WORDS)
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert set(kept.unique().tolist()) == {0.0, 2.0}


def test_regularisers_of_activations_are_added_where_weights_are_trained() -> None:
    plain, _ = ready(temporal_activation=0.0)
    task, model = ready(activation=2.0, temporal_activation=3.0)
    batch = task.batch("train", 0)
    outputs = model((batch.tokens, None)).outputs
    extra = 2 * outputs.square().mean() + 3 * (outputs[1:] - outputs[:-1]).square().mean()
    torch.testing.assert_close(task.loss(model, batch), plain.loss(model, batch) + extra)
    task.split_search("1:1", 4, None)
    plain.split_search("1:1", 4, None)
    batch = task.batch("alpha", 0)
    torch.testing.assert_close(task.loss(model, batch), plain.loss(model, batch))


def test_weights_of_another_vocabulary_are_refused() -> None:
    model = network(make())
    assert isinstance(model.stem, WordStem)
    network(make()).load_state_dict(model.state_dict())
    other = TextData(text().train, text().valid, text().test, tuple(reversed(text().vocabulary)), {})
    with pytest.raises(RuntimeError, match="another vocabulary"):
        network(make(other)).load_state_dict(model.state_dict())
    unnamed = datanas.build_network(datanas.architecture("darts_v1_rnn"), num_classes=WORDS, channels=UNITS)
    unnamed.load_state_dict(model.state_dict())


def test_a_text_shorter_than_one_batch_is_refused() -> None:
    with pytest.raises(DataError, match=r"500 words for the part 'train' are too few for a batch of 250 columns"):
        make().split_train(0.0, 250)


def test_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.name: task language takes texts"):
        make(object())  # type: ignore[arg-type]


def test_the_task_alone_names_space_data_and_settings() -> None:
    config = resolve({"task": {"name": "language"}})
    assert (config.space.name, config.data.name, config.sampler.name) == ("recurrent_cell", "manual", "egs")
    assert (dict(config.train)["channels"], config.train.average_after) == (850, 5)
    assert config.search.weights.lr == 20.0
    assert resolve(config.model_dump(mode="json")) == config


def test_nothing_of_it_reaches_a_search_on_images() -> None:
    config = resolve({})
    assert (dict(config.train)["channels"], dict(config.train)["cells"], config.train.average_after) == (36, 20, None)


def test_the_decoder_may_begin_with_what_is_frequent() -> None:
    """An untrained network whose features are zero then predicts each word by its share."""
    task = make(bias="frequencies")
    stem = task.make_stem(4)
    head = task.make_head((4,), stem)
    counts = torch.bincount(task.data.train, minlength=task.num_classes).double() + 1
    torch.testing.assert_close(head.bias.detach().double().exp(), counts / counts.sum())
    assert not make().make_head((4,), stem).bias.any()


@pytest.mark.parametrize(
    ("loss", "value"), [(0.0, 1.0), (2.0, math.exp(2.0)), (800.0, math.inf), (math.inf, math.inf), (math.nan, math.inf)]
)
def test_a_state_that_ran_away_has_infinite_perplexity(loss: float, value: float) -> None:
    found = perplexity(loss)
    assert found["perplexity"] == value
    assert Language.metric.oriented(value) == -value
    assert not math.isnan(found["loss"])


def test_the_loss_of_some_words_is_near_that_of_all_and_learning_alone_uses_it() -> None:
    exact, network_of_all = ready(varied=False)
    sampled, _ = ready(varied=False, sampled_words=exact.num_classes - 1)
    batch = exact.batch("train", 0)
    network_of_all.eval()
    with torch.no_grad():
        values = [float(task.loss(network_of_all, batch)) for task in (exact, sampled)]
    assert values[0] != values[1]
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert exact.evaluate(network_of_all, "test") == sampled.evaluate(network_of_all, "test")


def test_as_many_words_as_there_are_make_the_exact_loss() -> None:
    exact, net = ready(varied=False)
    all_of_them, _ = ready(varied=False, sampled_words=exact.num_classes)
    net.eval()
    batch = exact.batch("train", 0)
    with torch.no_grad():
        assert float(exact.loss(net, batch)) == float(all_of_them.loss(net, batch))


def test_a_training_may_read_the_first_words_of_the_text_alone() -> None:
    task = make()
    whole = task.sum_of_examples()
    task.limit(100)
    task.split_train(0.0, 4)
    assert torch.equal(task.chosen()["train"], task.data.train[:100])
    assert task.sum_of_examples() == whole


def test_a_lighter_search_has_fewer_columns_than_the_usual_one() -> None:
    few = text()
    task = make(replace(few, train=few.train.repeat(120)))
    usual = task.suited_settings()["search"]["batch_size"]
    counts = [settings["search"]["batch_size"] for settings in task.lighter_settings()]
    assert usual == 32
    assert counts == [16, 8]
    assert make(few).lighter_settings() == []


def test_the_lightest_search_of_a_long_text_has_fewer_words_too() -> None:
    long = replace(text(), train=torch.zeros(130_000, dtype=torch.int64))
    *usual, lightest = make(long).lighter_settings()
    assert all("examples" not in each["search"] for each in usual)
    assert lightest["search"] == {**usual[-1]["search"], "examples": 120_000}
