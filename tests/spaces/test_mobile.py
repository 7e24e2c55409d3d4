"""Stages of inverted residuals: shapes, texts, what is refused, and sparse execution against dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.stage_code import Stage, groups_of, stages_of
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.network import build_network
from datanas.spaces.layered import LayeredConfig
from datanas.spaces.mobile import MobileSpace
from datanas.tasks.stems import CifarStem

SMALL: dict[str, Any] = {"channels": 4, "layers": (2, 3), "widths": (1, 1.5), "strides": (1, 2), "features": 8}
TEXT = "mobile: w100 mb3_k3 identity | w150/2 mb6_k5 identity mb3_k7"


def space(**settings: Any) -> MobileSpace:
    return MobileSpace(MobileSpace.Config(**{**SMALL, **settings}))


def test_the_identity_is_offered_where_the_shape_stays() -> None:
    groups = space().groups()
    assert {name: group.shape for name, group in groups.items()} == {
        "stage1_layers_w100": (2, 7),
        "stage2_entry_w150_s2": (1, 6),
        "stage2_layers_w150": (2, 7),
    }
    assert {name: space().identities(name) for name in groups} == {
        "stage1_layers_w100": {"identity"},
        "stage2_entry_w150_s2": set(),
        "stage2_layers_w150": {"identity"},
    }


def test_a_group_stands_at_the_mean_place_of_its_layers() -> None:
    depths = {name: group.depth for name, group in space().groups().items()}
    assert depths == {"stage1_layers_w100": 0.125, "stage2_entry_w150_s2": 0.5, "stage2_layers_w150": 0.875}


def test_the_default_stages_are_those_of_proxylessnas() -> None:
    layers = MobileSpace(MobileSpace.Config()).layers()
    assert len(layers) == 21
    assert [layer.out_channels for layer in layers if not layer.settings().keeps_shape] == [24, 40, 80, 96, 192, 320]


@pytest.mark.parametrize(
    ("channels", "widths"), [(4, [4, 4, 4, 6, 6, 6]), (1, [1, 1, 1, 2, 2, 2]), (7, [7, 7, 7, 11, 11, 11])]
)
def test_a_network_is_rebuilt_at_any_width(channels: int, widths: list[int]) -> None:
    layers = MobileSpace.network_layers(Architecture.from_genotype(TEXT), channels)
    assert [layers[0].channels, *(layer.out_channels for layer in layers)] == widths
    assert build_network(TEXT, channels=channels)(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_stages_survive_their_groups_in_any_order() -> None:
    stages = [Stage(100, 1, 1), Stage(100, 1, 2), Stage(250, 2, 1), Stage(250, 2, 3)]
    cells = {
        group.name: replace(
            Architecture.from_genotype("mobile: w100" + group.layers * " mb3_k3").cells["stage1_layers_w100"]
        )
        for group in reversed(groups_of(stages))
    }
    assert stages_of(cells) == stages


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mobile: w100", "stage 1: must read w250 or w250/2 and an operation for each layer"),
        ("mobile: w100 mb3_k3 | 150 mb3_k3", "stage 2: must read"),
        ("mobile: w100/3 mb3_k3", "stage 1: must read"),
        ("mobile: w200 identity", "stage1_entry_w200_s1: 'identity' cannot be chosen; its shape changes there"),
    ],
)
def test_other_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        Architecture.from_genotype(text)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"cells\.stage1_layers_w100: unknown operation 'mb3_k4'; .*mb3_k"):
        build_network("mobile: w100 mb3_k4", channels=4)
    with pytest.raises(ArchitectureError, match="stage1_layers_w100: 'mb6_k3' cannot be chosen"):
        Architecture.from_genotype("mobile: w100 mb6_k3", primitives=["mb3_k3", "mb6_k5"])


def test_an_identity_where_shapes_differ_is_refused() -> None:
    kept = Architecture.from_genotype(TEXT)
    entry = kept.cells["stage2_entry_w150_s2"]
    wrong = replace(entry, primitives=("identity", *entry.primitives[1:]), code=np.eye(1, 6, dtype=np.uint8))
    with pytest.raises(ArchitectureError, match=r"identity cannot bring 16 channels to 24 at stride 2"):
        build_network(replace(kept, cells={**kept.cells, "stage2_entry_w150_s2": wrong}), channels=16)


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ({"stage2_layers_w150": "stage2_layers_w160"}, "stages in a row would be"),
        ({"stage2_entry_w150_s2": "stage3_entry_w150_s2"}, "stages in a row would be"),
        ({"stage2_layers_w150": "other"}, "'other' is no group of a stage, such as"),
    ],
)
def test_groups_that_are_no_stages_are_refused(rename: dict[str, str], said: str) -> None:
    kept = Architecture.from_genotype(TEXT)
    cells = {rename.get(name, name): cell for name, cell in kept.cells.items()}
    with pytest.raises(ArchitectureError, match=said):
        build_network(replace(kept, cells=cells), channels=4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"widths": [1]}, "widths: must be one for each of the 2 stages that layers says, got 1"),
        ({"strides": [1, 2, 2]}, "strides: must be one for each of the 2 stages"),
        ({"strides": [1, 3]}, "strides"),
        ({"layers": [2, 0]}, "layers"),
        ({"layers": []}, "layers"),
        ({"primitives": ["identity", "mb3_k3"]}, "at least two operations that change the shape"),
        ({"primitives": ["mb3_k3", "sep_conv_3x3"]}, "sep_conv_3x3 cannot change the channels"),
        ({"primitives": ["mb3_k3", "none"]}, "none cannot change the channels"),
        ({"primitives": ["mb3_k3", "mb3_k6"]}, "unknown operation 'mb3_k6'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(MobileSpace.Config, {**SMALL, **settings}, "space")


def run(make: Callable[[Tensor], Gates], tables: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    torch.manual_seed(1)
    stem = CifarStem(3, 4, multiplier=1).double()
    body = space().supernet_body(stem).double().to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 8, 8, dtype=torch.double).to(memory_format=torch.channels_last)
    values = {name: table.clone().requires_grad_() for name, table in tables.items()}
    (found,) = body(stem(x), {name: make(each) for name, each in values.items()})
    (found * torch.randn_like(found)).sum().backward()
    weights = [torch.zeros_like(each) if each.grad is None else each.grad for each in body.parameters()]
    return found.detach(), {name: each.grad for name, each in values.items() if each.grad is not None}, weights


@pytest.mark.parametrize("samples", [1, 3])
def test_sparse_execution_has_the_gradients_of_dense(samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    tables = {}
    for name, group in space().groups().items():
        draws = torch.rand(*group.shape, generator=generator, dtype=torch.double).argsort(dim=1) < samples
        tables[name] = draws.double() / samples
    sparse = run(lambda each: replace(Gates.of(each), values=each), tables)
    dense = run(lambda each: replace(Gates.of(each), values=each, dense=True), tables)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    assert all(bool((gradient != 0).all()) for gradient in sparse[1].values())


def test_costs_add_up_to_those_of_a_network() -> None:
    stem = CifarStem(3, 4, multiplier=1)
    costs = space().costs(stem, torch.zeros(1, 3, 8, 8))
    rest = set()
    texts = (TEXT, TEXT.replace("identity", "mb6_k7"), TEXT.replace("mb6_k5", "mb3_k3"))
    for text in texts:
        architecture = Architecture.from_genotype(text)
        body = MobileSpace.network_body(architecture, stem, LayeredConfig(channels=4, features=8))
        chosen = {name: code.astype(bool) for name, code in architecture.code.items()}
        parameters = sum(costs[name].parameters[each].sum() for name, each in chosen.items())
        macs = sum(costs[name].macs[each].sum() for name, each in chosen.items())
        counted = count_macs(nn.Sequential(stem, body), torch.zeros(1, 3, 8, 8))
        rest.add((count_parameters(body) - parameters, counted - macs))
    assert len(rest) == 1


def test_the_depth_of_a_stage_is_a_choice() -> None:
    primitives = ("mb6_k3", "mb6_k3_x2", "mb6_k3_x4")
    depths = space(layers=(1, 1), widths=(1, 2), strides=(1, 2), primitives=primitives)
    assert [group.shape for group in depths.groups().values()] == [(1, 3), (1, 3)]
    stem = CifarStem(3, 4, multiplier=1)
    found = []
    for first, second in (("mb6_k3", "mb6_k3_x4"), ("mb6_k3_x2", "mb6_k3")):
        kept = Architecture.from_genotype(f"mobile: w100 {first} | w200/2 {second}", primitives=primitives)
        body = MobileSpace.network_body(kept, stem, LayeredConfig(channels=4, features=8))
        found.append(sum(part.kernel_size == (3, 3) for part in body.modules() if isinstance(part, nn.Conv2d)))
    assert found == [5, 3]


@pytest.mark.parametrize("text", [f"mobile: w{'9' * 5000} mb3_k3", f"mobile: w{'9' * 400} mb3_k3"])
def test_a_width_beyond_any_network_is_no_text(text: str) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_genotype(text)
