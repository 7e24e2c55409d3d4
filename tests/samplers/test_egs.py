"""EGS: what it draws, what its loss adds, and what its presets stand for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.constraint import constraint
from datanas.core.settings import merge, validate
from datanas.posterior import inclusion_probs
from datanas.samplers.base import Draw, Tau
from datanas.samplers.egs import EGS

OPS = ("none", "skip_connect", "sep_conv_3x3")
NORMAL = ChoiceGroup("normal", ((0, 2), (1, 2), (0, 3)), OPS, outputs=(2, 3), inputs=2)
REDUCE = ChoiceGroup("reduce", ((0, 2), (1, 2)), OPS[1:], outputs=(2,), inputs=2)
BOTH = {"normal": NORMAL, "reduce": REDUCE}


def sampler(groups: dict[str, ChoiceGroup] = BOTH, *, alphas: int | None = 0, **settings: Any) -> EGS:
    """An EGS whose alphas are random with the seed `alphas`, or as it makes them where that is None.

    Without a preset it is M = 4, the plain sum and the L1 distance to the code, save what `settings` say.
    """
    usual = {"samples": 4, "normalise": "sum", "constraint": {"kind": "l1"}}
    plain = {} if "preset" in settings else usual
    made = EGS(validate(EGS.Config, merge({"name": "egs", **plain}, settings)), groups, "conv_cell")
    if alphas is not None:
        noise = torch.Generator().manual_seed(alphas)
        with torch.no_grad():
            for alpha in made.alpha.values():
                alpha.add_(torch.randn(alpha.shape, generator=noise))
    return made


def draw(made: EGS, seed: int = 0, progress: float = 0.0, *, uniform: bool = False) -> Draw:
    return made.draw(progress, torch.Generator().manual_seed(seed), uniform=uniform)


SETTINGS = [
    {"scope": scope, "normalise": normalise, "probs": probs}
    for scope in ("edge", "node")
    for normalise in ("sum", "mean")
    for probs in ("softmax", "relu")
]


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(settings.values()))
def any_sampler(request: pytest.FixtureRequest) -> EGS:
    return sampler(**request.param)


def test_a_draw_is_a_function_of_its_generator(any_sampler: EGS) -> None:
    first, again = draw(any_sampler, 1), draw(any_sampler, 1)
    others = [draw(any_sampler, seed) for seed in range(2, 6)]
    for name in BOTH:
        assert torch.equal(first.gates[name], again.gates[name])
    assert any(not torch.equal(first.gates["normal"], other.gates["normal"]) for other in others)


def test_a_draw_leaves_the_global_generator_alone(any_sampler: EGS) -> None:
    state = torch.get_rng_state()
    draw(any_sampler)
    assert torch.equal(torch.get_rng_state(), state)


def test_codes_hold_between_one_and_m_ones(any_sampler: EGS) -> None:
    for seed in range(20):
        for name, code in draw(any_sampler, seed).codes.items():
            assert set(code.unique().tolist()) <= {0.0, 1.0}
            assert (code.sum(dim=1) >= 1).all()
            assert (code.sum(dim=1) <= 4).all()
            assert (code[~any_sampler.vectors[name].mask] == 0).all()


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_summed_gates_are_the_code(scope: str) -> None:
    made = sampler(scope=scope, normalise="sum")
    for seed in range(20):
        found = draw(made, seed)
        for name, gates in found.gates.items():
            layout = made.vectors[name]
            assert set(gates.unique().tolist()) <= {0.0, 1.0}
            assert torch.equal(gates, layout.to_edges(layout.operations(found.codes[name])))


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_mean_gates_sum_to_one_over_a_vector_unless_it_is_empty(scope: str) -> None:
    made = sampler(scope=scope, normalise="mean", samples=2)
    sums: set[float] = set()
    for seed in range(40):
        for name, gates in draw(made, seed).gates.items():
            for members in made.vectors[name].members:
                part = gates[list(members)].detach()
                assert part[part > 0].unique().numel() <= 1
                sums.add(round(float(part.sum()), 6))
    assert sums == {0.0, 1.0}


def test_gates_never_open_none(any_sampler: EGS) -> None:
    drawn = [draw(any_sampler, seed) for seed in range(20)]
    assert all((found.gates["normal"][:, 0] == 0).all() for found in drawn)
    assert any(found.codes["normal"][:, any_sampler.vectors["normal"].null].any() for found in drawn)


def test_probs_of_a_draw_are_those_of_alpha(any_sampler: EGS) -> None:
    for name, probs in draw(any_sampler).probs.items():
        layout = any_sampler.vectors[name]
        torch.testing.assert_close(
            layout.shares(probs.detach()).double(), any_sampler.probabilities()[name], rtol=1e-5, atol=1e-7
        )


def test_probs_from_relu_are_the_share_of_the_positive_part() -> None:
    made = sampler({"reduce": REDUCE}, alphas=None, probs="relu", scope="edge")
    with torch.no_grad():
        made.alpha["reduce"].copy_(torch.tensor([[1.0, 3.0], [-2.0, 0.5]]))
    expected = torch.tensor([[0.25, 0.75], [0.0, 1.0]], dtype=torch.double)
    torch.testing.assert_close(made.probabilities()["reduce"], expected, rtol=0, atol=1e-7)


def test_alphas_that_relu_cuts_off_leave_a_flat_vector_and_no_nan() -> None:
    made = sampler({"reduce": REDUCE}, alphas=None, probs="relu", scope="edge")
    with torch.no_grad():
        made.alpha["reduce"].fill_(-1.0)
    torch.testing.assert_close(made.probabilities()["reduce"], torch.full((2, 2), 0.5, dtype=torch.double))
    found = draw(made)
    found.gates["reduce"].sum().backward()
    assert made.alpha["reduce"].grad.isfinite().all()


@pytest.mark.parametrize(("probs", "start"), [("softmax", 0.0), ("relu", 1.0)])
def test_alphas_start_flat(probs: str, start: float) -> None:
    for alpha in sampler(alphas=None, probs=probs).alpha.values():
        assert torch.equal(alpha, torch.full_like(alpha, start))


def test_alphas_start_with_the_deviation_that_is_asked_for() -> None:
    wide = {"normal": ChoiceGroup("normal", tuple((0, n) for n in range(2, 202)), OPS, outputs=(2,), inputs=2)}
    alpha = sampler(wide, alphas=None, init_std=0.1).alpha["normal"]
    # The deviation of 600 numbers is known to 3 %; this is four times that.
    assert float(alpha.detach().std()) == pytest.approx(0.1, rel=0.12)


@pytest.mark.parametrize(("progress", "tau"), [(-1.0, 5.0), (0.0, 5.0), (0.25, 4.0), (1.0, 1.0), (2.0, 1.0)])
def test_the_temperature_falls_linearly(progress: float, tau: float) -> None:
    assert Tau(start=5.0, end=1.0).at(progress) == tau


def test_the_temperature_scales_the_gradient_and_not_the_draw() -> None:
    gates, gradients = [], []
    for progress in (0.0, 1.0):
        made = sampler({"normal": NORMAL}, tau={"start": 1e4, "end": 1.0}, scope="edge")
        found = draw(made, progress=progress)
        (found.gates["normal"] * torch.arange(9.0).reshape(3, 3)).sum().backward()
        gates.append(found.gates["normal"])
        gradients.append(made.alpha["normal"].grad.norm())
    assert torch.equal(*gates)
    assert 0 < gradients[0] < 1e-3 * gradients[1]


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_operations_are_drawn_as_often_as_their_inclusion_probability_says(scope: str) -> None:
    made = sampler({"normal": NORMAL}, scope=scope, samples=3)
    count, generator = 3000, torch.Generator().manual_seed(0)
    with torch.no_grad():
        total = sum(made.draw(0.0, generator).codes["normal"] for _ in range(count))
    expected = inclusion_probs(made.vector_probs("normal"), 3)
    deviation = (expected * (1 - expected) / count).sqrt()
    assert (((total / count) - expected).abs() <= 4 * deviation).all()
    # The vectors themselves, which would be the frequencies of a single draw, are far off.
    assert (((total / count) - made.vector_probs("normal")).abs() > 4 * deviation).any()


def test_inclusion_is_that_of_what_the_network_sees(any_sampler: EGS) -> None:
    samples = any_sampler.config.samples
    for name, found in any_sampler.inclusion().items():
        layout = any_sampler.vectors[name]
        assert found.shape == BOTH[name].shape
        assert (found >= 0).all()
        assert (found <= 1 + 1e-12).all()
        expected = layout.to_edges(1 - (1 - any_sampler.vector_probs(name)) ** samples)
        torch.testing.assert_close(found, expected)


def test_flatness_is_one_at_the_start_and_falls() -> None:
    assert sampler(alphas=None).flatness() == pytest.approx({"normal": 1.0, "reduce": 1.0})
    assert max(sampler().flatness().values()) < 1


def test_a_uniform_draw_ignores_alpha(any_sampler: EGS) -> None:
    before = draw(any_sampler, uniform=True)
    by_alpha = [draw(any_sampler, seed).codes["normal"] for seed in range(5)]
    with torch.no_grad():
        for alpha in any_sampler.alpha.values():
            alpha.copy_(torch.linspace(3.0, -3.0, alpha.numel()).reshape(alpha.shape).exp())
    after = draw(any_sampler, uniform=True)
    for name in BOTH:
        assert torch.equal(before.gates[name], after.gates[name])
        assert torch.equal(before.probs[name], after.probs[name])
    # Negative control: without `uniform` the same generators give other codes.
    assert any(not torch.equal(code, draw(any_sampler, seed).codes["normal"]) for seed, code in enumerate(by_alpha))


def test_the_task_s_gradient_raises_what_lowers_the_loss() -> None:
    """Eq. 9: with a loss of -gate the gradient is negative at that operation and positive at its rivals."""
    made = sampler({"normal": NORMAL}, scope="edge")
    for seed in range(10):
        made.zero_grad()
        found = draw(made, seed)
        made.loss(-found.gates["normal"][1, 2], found, 0.0).backward()
        gradient = made.alpha["normal"].grad
        assert gradient[1, 2] < 0
        assert (gradient[1, :2] > 0).all()


def loss_of(made: EGS, seed: int = 0, progress: float = 1.0) -> tuple[float, Draw, dict[str, Tensor]]:
    """What the loss adds to a task loss of nothing, with the gradients that it gives the alphas."""
    made.zero_grad()
    found = draw(made, seed)
    added = made.loss(torch.zeros(()), found, progress)
    if added.requires_grad:
        added.backward()
    plain = ({name: value.detach() for name, value in part.items()} for part in (found.gates, found.probs, found.codes))
    return float(added.detach()), Draw(*plain), {name: alpha.grad for name, alpha in made.alpha.items()}


@pytest.mark.parametrize("kind", ["l1", "l2", "kl", "entropy", "power"])
def test_the_constraint_is_added_with_its_weight(kind: str) -> None:
    power = 1.5 if kind == "power" else 1.0
    made = sampler(constraint={"kind": kind, "gamma": 0.3, "power": power})
    added, found, _ = loss_of(made)
    expected = sum(
        float(constraint(found.probs[n], found.codes[n], kind, power, mask=made.vectors[n].mask).detach()) for n in BOTH
    )
    assert added == pytest.approx(0.3 * expected)


def test_the_entropy_s_gradient_is_the_one_derived_by_hand() -> None:
    """Of H = -sum p log p with p = softmax(alpha): dH / d alpha_k = -p_k (log p_k + H)."""
    made = sampler({"normal": NORMAL}, scope="edge", constraint={"kind": "entropy", "gamma": 2.0})
    _, _, gradients = loss_of(made)
    p = made.vector_probs("normal")
    entropy = -(p * p.log()).sum(dim=1, keepdim=True)
    torch.testing.assert_close(gradients["normal"].double(), -2.0 * p * (p.log() + entropy), rtol=1e-4, atol=1e-6)


def test_the_constraint_s_gradient_stops_at_the_code_unless_it_is_let_through() -> None:
    """Of sum |p - f| with f constant: sum_j sign(p_j - f_j) dp_j / d alpha_k, dp_j / d alpha_k = p_j (1[j=k] - p_k)."""
    detached, through = (
        sampler({"normal": NORMAL}, scope="edge", constraint={"gamma": 1.0, "through_gates": let})
        for let in (False, True)
    )
    added, found, gradients = loss_of(detached)
    p = detached.vector_probs("normal")
    sign = (p - found.codes["normal"]).sign().double()
    expected = p * (sign - (sign * p).sum(dim=1, keepdim=True))
    torch.testing.assert_close(gradients["normal"].double(), expected, rtol=1e-4, atol=1e-6)
    other, _, other_gradients = loss_of(through)
    assert other == added
    assert (other_gradients["normal"] - gradients["normal"]).abs().max() > 1e-3


def test_the_target_is_the_code_or_the_code_over_its_sum() -> None:
    made = {t: sampler({"normal": NORMAL}, constraint={"gamma": 1.0, "target": t}) for t in ("code", "normalised")}
    code, found, _ = loss_of(made["code"])
    normalised, _, _ = loss_of(made["normalised"])
    probs, codes = found.probs["normal"].detach(), found.codes["normal"].detach()
    assert (codes.sum(dim=1) > 1).any()
    assert code == pytest.approx(float((probs - codes).abs().sum()))
    assert normalised == pytest.approx(float((probs - codes / codes.sum(dim=1, keepdim=True)).abs().sum()))
    assert code != pytest.approx(normalised)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0)])
def test_the_constraint_warms_up(progress: float, share: float) -> None:
    made = sampler(constraint={"gamma": 0.5, "warm_up": 0.4})
    full, _, _ = loss_of(made, progress=1.0)
    assert loss_of(made, progress=progress)[0] == pytest.approx(share * full)


def test_without_warm_up_the_constraint_is_there_from_the_start() -> None:
    made = sampler(constraint={"gamma": 0.5})
    assert loss_of(made, progress=0.0)[0] == loss_of(made, progress=1.0)[0] > 0


@pytest.mark.parametrize("settings", [{"kind": "none", "gamma": 1.0}, {"gamma": 0.0}])
def test_no_constraint_leaves_the_task_s_loss(settings: dict[str, Any]) -> None:
    made = sampler(constraint=settings)
    loss = torch.tensor(1.25)
    assert made.loss(loss, draw(made), 1.0) is loss


def test_padding_does_not_count_in_the_constraint() -> None:
    """With the mean over entries a padded vector would be too small."""
    made = sampler({"normal": NORMAL}, scope="node", constraint={"gamma": 1.0, "reduction": "mean"})
    assert made.vectors["normal"].mask.sum() == 5 + 3
    added, found, _ = loss_of(made)
    distance = (found.probs["normal"] - found.codes["normal"]).abs().sum().detach()
    assert added == pytest.approx(float(distance) / 8)


def test_the_official_preset_is_a_tenth_of_the_mean_distance_to_the_normalised_code() -> None:
    """The authors' program: relu(alpha) / sum, tau from 5 to 1, alpha near 1, values that are means."""
    made = sampler({"normal": NORMAL}, alphas=None, preset="official")
    assert float((made.alpha["normal"].detach() - 1).abs().max()) < 0.01
    assert float((made.alpha["normal"].detach() - 1).abs().max()) > 0
    added, found, _ = loss_of(made, progress=0.0)
    alpha, code = made.alpha["normal"].detach().relu(), found.codes["normal"].detach()
    distance = (alpha / alpha.sum(dim=1, keepdim=True) - code / code.sum(dim=1, keepdim=True)).abs()
    assert added == pytest.approx(0.1 * float(distance.mean()), rel=1e-5)
    assert [made.config.tau.at(progress) for progress in (0.0, 0.5, 1.0)] == [5.0, 3.0, 1.0]
    assert float(found.gates["normal"].detach().sum(dim=1).max()) == pytest.approx(1.0)


def test_the_paper_preset_is_the_plain_l1_distance_to_the_code() -> None:
    made = sampler({"normal": NORMAL}, preset="paper", constraint={"gamma": 1.0})
    added, found, _ = loss_of(made, progress=0.0)
    assert added == pytest.approx(float((found.probs["normal"] - found.codes["normal"]).abs().sum()))
    assert made.vectors["normal"].shape == NORMAL.shape


def test_more_samples_keep_more_of_a_flat_vector() -> None:
    """PAPER.md: with flat P the mode keeps 3 operations at M = 4 and 5 at M = 7."""
    eight = ChoiceGroup("normal", ((0, 2),), tuple(f"op{n}" for n in range(8)), outputs=(2,), inputs=2)
    for samples, size in ((1, 1), (4, 3), (7, 5)):
        kept = sampler({"normal": eight}, alphas=None, samples=samples).derive().architecture
        assert kept.code["normal"].sum() == size


def test_what_is_kept_is_what_is_drawn_most_often() -> None:
    """The closed form against the sampler itself."""
    made = sampler({"normal": NORMAL}, scope="edge", samples=2)
    derivation = made.derive(n=1)
    count, generator = 3000, torch.Generator().manual_seed(1)
    wanted = torch.tensor(derivation.architecture.code["normal"].tolist(), dtype=torch.float32)
    with torch.no_grad():
        hits = sum(torch.equal(made.draw(0.0, generator).gates["normal"], wanted) for _ in range(count))
    p = math.exp(derivation.ranking[0][1])
    assert abs(hits / count - p) <= 4 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize(("options", "share"), [({}, 1 / 5), ({"preset": "official", "scope": "node"}, 2 / 6)])
def test_the_official_preset_sums_the_none_of_a_node_s_edges(options: dict[str, Any], share: float) -> None:
    """Two edges of `none` and two operations, alphas alike: 1 of 1 + 4, or 2 of 2 + 4."""
    group = ChoiceGroup("normal", ((0, 2), (1, 2)), ("none", "skip_connect", "max_pool_3x3"), outputs=(2,), inputs=2)
    made = sampler({"normal": group}, alphas=None, **options, init_std=0.0)
    assert float(made.vector_probs("normal")[0, 0]) == pytest.approx(share)
