"""Uniform cells and their mutations, and the two methods that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers.base import Draw, Update
from datanas.samplers.evolution import Evolution
from datanas.samplers.random import RandomSearch
from datanas.samplers.uniform import mutated, random_codes

EDGES = ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
OPS = ("skip_connect", "none", "sep_conv_3x3")
NORMAL = ChoiceGroup("normal", EDGES, OPS, outputs=(2, 3), inputs=2)
REDUCE = ChoiceGroup("reduce", EDGES[:1], ("skip_connect", "sep_conv_3x3"), outputs=(2,), inputs=2)
SINGLE = ChoiceGroup("cell", ((0, 1), (0, 2)), OPS, outputs=(2,), inputs=1, single=True)
GROUPS = {"normal": NORMAL, "reduce": REDUCE}
Key = tuple[tuple[int, int], ...]
"""The places of a code that are 1."""


def key(code: Any) -> Key:
    return tuple((int(edge), int(op)) for edge, op in torch.tensor(code.tolist()).nonzero())


def all_codes(group: ChoiceGroup) -> list[Key]:
    """Every code that may be drawn, from the definition."""
    ops = [op for op, name in enumerate(group.primitives) if group.single or name != "none"]
    if group.single:
        return [tuple(enumerate(chosen)) for chosen in product(ops, repeat=len(group.edges))]
    nodes = []
    for target in dict.fromkeys(target for _, target in group.edges):
        incoming = [edge for edge, (_, to) in enumerate(group.edges) if to == target]
        nodes.append(
            [
                tuple(zip(edges, chosen, strict=True))
                for edges in combinations(incoming, min(group.fan_in, len(incoming)))
                for chosen in product(ops, repeat=len(edges))
            ]
        )
    return [tuple(sorted(place for node in cell for place in node)) for cell in product(*nodes)]


@pytest.mark.parametrize("group", [NORMAL, REDUCE, SINGLE], ids=["normal", "reduce", "single"])
def test_random_codes_are_uniform(group: ChoiceGroup) -> None:
    generator, codes = torch.Generator().manual_seed(0), all_codes(group)
    assert len(codes) == len(set(codes)) == {"normal": 48, "reduce": 2, "cell": 9}[group.name]
    found = Counter(key(random_codes({"a": group}, generator)["a"]) for _ in range(40 * len(codes)))
    assert set(found) <= set(codes)
    assert chisquare([found[code] for code in codes]).pvalue > 1e-3


def test_mutations_of_one_code_are_not_uniform() -> None:
    """Negative control of the test above."""
    generator, codes, group = torch.Generator().manual_seed(0), all_codes(NORMAL), NORMAL
    start = random_codes({"a": group}, generator)
    near = Counter(key(mutated(start, {"a": group}, generator)["a"]) for _ in range(40 * len(codes)))
    assert chisquare([near[code] for code in codes]).pvalue < 1e-6


def neighbours(code: Key, group: ChoiceGroup) -> tuple[set[Key], set[Key]]:
    """The codes with one other operation, and those with one other input: by going through all codes."""
    other, moved = set(), set()
    for candidate in all_codes(group):
        gone, come = set(code) - set(candidate), set(candidate) - set(code)
        if len(gone) == len(come) == 1:
            ((edge, op),), ((to, new),) = gone, come
            if edge == to:
                other.add(candidate)
            elif op == new:
                moved.add(candidate)
    return other, moved


@pytest.mark.parametrize("group", [NORMAL, SINGLE], ids=["normal", "single"])
def test_a_mutation_changes_one_operation_or_one_input(group: ChoiceGroup) -> None:
    """Everything that is one change away is found, each about as often as others of its kind, and nothing else."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        start = random_codes({"a": group}, generator)
        before = start["a"].clone()
        other, moved = neighbours(key(start["a"]), group)
        assert bool(moved) != group.single
        found = Counter(key(mutated(start, {"a": group}, generator)["a"]) for _ in range(600))
        assert torch.equal(start["a"], before)
        assert set(found) == other | moved
        if not group.single:
            assert 240 < sum(found[code] for code in moved) < 360
        for kind in filter(None, (other, moved)):
            assert chisquare([found[code] for code in kind]).pvalue > 1e-3


def test_a_mutation_changes_one_cell_at_random() -> None:
    generator = torch.Generator().manual_seed(2)
    start, changed = random_codes(GROUPS, generator), Counter[str]()
    for _ in range(400):
        found = mutated(start, GROUPS, generator)
        assert list(found) == list(GROUPS)
        differ = [name for name in GROUPS if not torch.equal(found[name], start[name])]
        assert len(differ) <= 1
        changed.update(differ)
    # The reduction cell has no free edge: half of its mutations move nothing.
    assert 150 < changed["normal"] < 250
    assert 60 < changed["reduce"] < 140


def test_many_mutations_keep_the_shape() -> None:
    """Two inputs a node, one operation each, never `none`; where an edge holds one operation, `none` is one."""
    generator = torch.Generator().manual_seed(3)
    codes = random_codes({**GROUPS, "cell": SINGLE}, generator)
    seen = torch.zeros(SINGLE.shape)
    for _ in range(300):
        codes = mutated(codes, {**GROUPS, "cell": SINGLE}, generator)
        assert key(codes["normal"]) in set(all_codes(NORMAL))
        assert key(codes["reduce"]) in set(all_codes(REDUCE))
        assert (codes["cell"].sum(dim=1) == 1).all()
        seen += codes["cell"]
    assert (seen > 0).all()


def test_without_another_operation_nothing_changes() -> None:
    alone = {"a": ChoiceGroup("a", ((0, 2), (1, 2)), ("none", "skip_connect"), outputs=(2,), inputs=2)}
    generator = torch.Generator().manual_seed(0)
    start = random_codes(alone, generator)
    assert all(torch.equal(mutated(start, alone, generator)["a"], start["a"]) for _ in range(20))


@pytest.mark.parametrize("group", [NORMAL, REDUCE, SINGLE], ids=["normal", "reduce", "single"])
def test_random_probabilities_are_the_mean_over_all_codes(group: ChoiceGroup) -> None:
    """With `none` on an edge that is not used; random search shows them, and evolution before its first cell."""
    mean = torch.zeros(group.shape, dtype=torch.double)
    for code in all_codes(group):
        for edge, op in code:
            mean[edge, op] += 1 / len(all_codes(group))
    if group.null is not None:
        mean[:, group.null] += 1 - mean.sum(dim=1)
    config = validate(RandomSearch.Config, {"name": "random"}, "sampler")
    for made in (RandomSearch(config, {"a": group}, "conv_cell"), evolution(groups={"a": group})):
        torch.testing.assert_close(made.probabilities()["a"], mean)


def test_random_search_keeps_a_uniform_cell_unseen_that_its_state_holds() -> None:
    config = validate(RandomSearch.Config, {"name": "random", "weight_sharing": False}, "sampler")
    torch.manual_seed(0)
    made = [RandomSearch(config, {"cell": SINGLE}, "nasbench201") for _ in range(360)]
    assert made[0].rule == "likeliest"
    found = Counter(tuple(map(tuple, sampler.derive().architecture.code["cell"].tolist())) for sampler in made)
    assert len(found) == 9
    assert chisquare(list(found.values())).pvalue > 1e-3
    other = next(o for o in made if o.derive().architecture != made[0].derive().architecture)
    other.load_state_dict(made[0].state_dict())
    assert other.derive().architecture == made[0].derive().architecture


def evolution(population: int = 4, tournament: int = 2, groups: Mapping[str, ChoiceGroup] = GROUPS) -> Evolution:
    options = {"name": "evolution", "population": population, "tournament": tournament}
    return Evolution(validate(Evolution.Config, options, "sampler"), groups, "conv_cell")


def different(count: int) -> list[dict[str, Tensor]]:
    """Cells no two of which are one change apart."""
    generator = torch.Generator().manual_seed(5)
    found: list[dict[str, Tensor]] = []
    while len(found) < count:
        code = random_codes(GROUPS, generator)
        if all(distance(code, other) > 2 for other in found):
            found.append(code)
    return found


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> int:
    return int(sum((first[name] != second[name]).sum() for name in first))


def after_alpha_step(made: Evolution, codes: Mapping[str, Tensor], loss: float) -> None:
    made.after_alpha_step(Update(Draw(codes, {}, codes), loss, {}, 0.1))


def lives(made: Evolution) -> list[tuple[tuple[Key, ...], float]]:
    """The cells that live with their fitness, best first."""
    found = made.derive(100).ranking
    return [(tuple(key(code) for code in a.code.values()), round(fitness, 4)) for a, fitness in found]


LOSSES = (0.5, 0.1, 0.9, 0.7, 0.3, 0.2, 0.8)


def test_the_oldest_is_forgotten_and_fitness_is_minus_the_loss() -> None:
    made, cells = evolution(), different(7)
    for count, (cell, loss) in enumerate(zip(cells, LOSSES, strict=True), start=1):
        after_alpha_step(made, cell, loss)
        living = list(zip(cells, LOSSES, strict=True))[max(0, count - 4) : count]
        best_first = sorted(living, key=lambda pair: pair[1])
        assert lives(made) == [(tuple(key(c[name]) for name in GROUPS), -loss) for c, loss in best_first]
        assert made.derive().ranking[0][1] == pytest.approx(-min(loss for _, loss in living))


def test_what_a_draw_shows_of_the_population_is_how_often_it_lives() -> None:
    made, cells = evolution(), different(4)
    for cell in cells[:3]:
        after_alpha_step(made, cell, 1.0)
    mean = torch.stack([cell["normal"] for cell in cells[:3]]).double().mean(dim=0)
    mean[:, 1] = 1 - mean.sum(dim=1)
    torch.testing.assert_close(made.probabilities()["normal"], mean)


@pytest.mark.parametrize(
    ("tournament", "parents"), [(4, {1}), (9, {1}), (3, {1, 0}), (2, {1, 0, 3}), (1, {0, 1, 2, 3})]
)
def test_the_parent_is_the_best_of_a_tournament(tournament: int, parents: set[int]) -> None:
    """Of losses 0.5, 0.1, 0.9 and 0.7 the second is best; a tournament of m never takes the m - 1 worst."""
    made, cells, generator = evolution(tournament=tournament), different(4), torch.Generator().manual_seed(0)
    for cell, loss in zip(cells, LOSSES, strict=False):
        after_alpha_step(made, cell, loss)
    found = Counter[int]()
    for _ in range(120):
        child = made.draw_for_alpha(0.5, generator).codes
        distances = [distance(child, cell) for cell in cells]
        if min(distances) == 2 and distances.count(2) > 1:
            continue
        assert min(distances) <= 2
        found[distances.index(min(distances))] += 1
    assert set(found) == parents
    if tournament in (2, 3):
        assert found[1] == max(found.values())


def test_the_first_cells_are_random_until_the_population_is_full() -> None:
    made, cells = evolution(), different(5)
    for cell, loss in zip(cells[:3], LOSSES, strict=False):
        after_alpha_step(made, cell, loss)
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    proposed, uniform = made.draw_for_alpha(0.5, generators[0]).codes, random_codes(GROUPS, generators[1])
    assert all(torch.equal(proposed[name], uniform[name]) for name in GROUPS)
    after_alpha_step(made, cells[3], LOSSES[3])
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    proposed, uniform = made.draw_for_alpha(0.5, generators[0]).codes, random_codes(GROUPS, generators[1])
    assert any(not torch.equal(proposed[name], uniform[name]) for name in GROUPS)


def test_a_state_holds_the_population_its_fitness_and_its_age() -> None:
    made, cells = evolution(), different(7)
    for cell, loss in zip(cells[:6], LOSSES, strict=False):
        after_alpha_step(made, cell, loss)
    other = evolution()
    other.load_state_dict(made.state_dict())
    assert lives(other) == lives(made)
    for sampler in (made, other):
        after_alpha_step(sampler, cells[6], 0.6)
    assert lives(other) == lives(made)
    for seed in range(5):
        first, second = (s.draw_for_alpha(0.5, torch.Generator().manual_seed(seed)).codes for s in (made, other))
        assert all(torch.equal(first[name], second[name]) for name in GROUPS)


def test_proposing_changes_no_cell_that_lives() -> None:
    made, cells, generator = evolution(), different(4), torch.Generator().manual_seed(0)
    for cell, loss in zip(cells, LOSSES, strict=False):
        after_alpha_step(made, cell, loss)
    before = lives(made)
    for _ in range(30):
        made.draw_for_alpha(0.5, generator)
    assert lives(made) == before
