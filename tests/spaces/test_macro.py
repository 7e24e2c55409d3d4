"""The space of NAS-Bench-Macro: its networks, written once more in plain torch, and its codes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.lookup import find_architecture
from datanas.network import build_network
from datanas.ops.identity import Zero
from datanas.samplers import samplers
from datanas.samplers.derivation import assemble
from datanas.spaces.macro import MacroSpace
from datanas.tasks.stems import CifarStem

CODES = ["00000000", "22222222", "12012010", "21002211"]


def space(**settings: Any) -> MacroSpace:
    return MacroSpace(MacroSpace.Config(**{"channels": 4, "features": 8, **settings}))


class Plain(nn.Module):
    """A network of the benchmark by its description: stem, layers, last convolution, classifier."""

    def __init__(self, code: str, width: int, features: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.layers = nn.ModuleList()
        self.adds: list[bool] = []
        for place, digit in enumerate(code):
            is_first = place in (0, 2, 5)
            out, stride = (2 * width, 2) if is_first else (width, 1)
            self.adds.append(digit != "0" and not is_first)
            self.layers.append(self.layer(int(digit), width, out, stride))
            width = out
        self.last = nn.Sequential(nn.Conv2d(width, features, 1, bias=False), nn.BatchNorm2d(features))
        self.classifier = nn.Linear(features, classes)

    @staticmethod
    def layer(digit: int, width: int, out: int, stride: int) -> nn.Module:
        if digit == 0:
            if stride == 1:
                return nn.Sequential()
            return nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        inner, kernel = ((3 * width, 3), (6 * width, 5))[digit - 1]
        depthwise = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)
        return nn.Sequential(
            *(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(depthwise, nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for adds, layer in zip(self.adds, self.layers, strict=True):
            x = x + layer(x) if adds else layer(x)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.last(x).relu(), 1).flatten(1))
        return logits


def tensors(module: nn.Module) -> list[Tensor]:
    return [each for each in module.state_dict().values() if each.ndim > 0]


@pytest.mark.parametrize("code", CODES)
def test_a_network_is_the_benchmark_s(code: str) -> None:
    settings = MacroSpace.Network(channels=4, features=8)
    torch.manual_seed(0)
    network = build_network(code, channels=4, num_classes=10).double()
    assert network.body.out_channels == (1280,)
    plain = Plain(code, 4, 1280, 10).double()
    own, other = tensors(network), tensors(plain)
    assert [each.shape for each in own] == [each.shape for each in other]
    for source, target in zip(own, other, strict=True):
        target.copy_(source)
    x = torch.randn(3, 3, 16, 16, dtype=torch.double)
    torch.testing.assert_close(network(x), plain(x), rtol=1e-9, atol=1e-9)
    assert settings.text() == "4 channels in the stem"


def test_the_smallest_is_as_large_as_its_layers() -> None:
    """By hand: stem, three 1x1 convolutions of stride 2, the last one, the classifier, and their batch norms."""
    with torch.device("meta"):
        least = build_network("00000000")
        macs = count_macs(least, torch.empty(1, 3, 32, 32))
    layers = [(32, 64, 256), (64, 128, 64), (128, 256, 16)]
    parameters = 864 + 64 + sum(a * b + 2 * b for a, b, _ in layers) + 256 * 1280 + 2 * 1280 + 1280 * 10 + 10
    assert count_parameters(least) == parameters
    assert macs == 864 * 1024 + sum(a * b * pixels for a, b, pixels in layers) + 256 * 1280 * 16 + 12800


def run(gates: Gates, features: int = 8) -> list[Tensor]:
    torch.manual_seed(1)
    stem = CifarStem(3, 4, multiplier=1).double()
    body = space().supernet_body(stem).double().to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 16, 16, dtype=torch.double).to(memory_format=torch.channels_last)
    (found,) = body(stem(x), {"layers": gates})
    assert found.shape == (4, features, 2, 2)
    loss = (found * torch.randn_like(found)).sum()
    weights = [each for each in body.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(loss, [gates.values, *weights], allow_unused=True)
    return [found, *(found.new_zeros(()) if each is None else each for each in gradients)]


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_sparse_and_dense_execution_agree(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(8, 3, dtype=torch.double)
    values[torch.arange(8), torch.randint(3, (8,), generator=generator)] = 1.0
    values[torch.arange(8), torch.randint(3, (8,), generator=generator)] = 0.5
    gates = Gates.of(values)
    sparse, dense = (
        run(replace(gates, values=values.clone().requires_grad_(), dense=is_dense)) for is_dense in (False, True)
    )
    assert bool((sparse[1] != 0).all())  # of closed gates too
    for own, other in zip(sparse, dense, strict=True):
        torch.testing.assert_close(own.expand_as(other), other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_read_and_printed(code: str) -> None:
    architecture = Architecture.from_genotype(code)
    assert (architecture.space, architecture.to_genotype()) == ("macro", code)
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert find_architecture(code) == Architecture.from_text(f"{code}\n") == architecture


@pytest.mark.parametrize("code", ["1201201", "120120100", "12012013", "0"])
def test_other_codes_are_refused(code: str) -> None:
    with pytest.raises(
        ArchitectureError, match=rf"^code: must be 8 digits, one a layer .* got '{code}' of {len(code)}"
    ):
        find_architecture(code)


def test_codes_are_as_many_networks_as_the_benchmark_says() -> None:
    """By brute force, with the twins found otherwise: identities behind the first layer of a stage moved to its end."""

    def sorted_stages(code: str) -> str:
        stages = (code[:2], code[2:5], code[5:])
        return "".join(stage[0] + stage[1:].replace("0", "").ljust(len(stage) - 1, "0") for stage in stages)

    codes = ["".join(digits) for digits in product("012", repeat=8)]
    keys = {code: MacroSpace.network_key(Architecture.from_genotype(code)) for code in codes}
    assert len(set(keys.values())) == 3969
    assert all(key == keys[sorted_stages(code)] for code, key in keys.items())


def test_an_identity_beside_another_operation_stays_in_the_key() -> None:
    code = torch.tensor([[0.0, 1.0, 0.0]] * 8)
    added = code.clone()
    added[1, 0] = 1
    one, other = (assemble({"layers": each}, space(several=True).groups(), space="macro") for each in (code, added))
    assert MacroSpace.network_key(one) != MacroSpace.network_key(other)


def test_a_folder_called_by_digits_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("12012010").mkdir()
    Architecture.from_genotype("00000000").save(Path("12012010/architecture.json"))
    assert find_architecture("12012010").to_genotype() == "00000000"


def test_several_operations_a_layer_have_no_code() -> None:
    groups = space(several=True).groups()
    assert not groups["layers"].single
    code = torch.zeros(8, 3)
    code[:, 1] = code[2, 0] = 1.0
    both = assemble({"layers": code}, groups, space="macro")
    with pytest.raises(ArchitectureError, match="one operation a layer; layer 3 has 2"):
        both.to_genotype()
    network = build_network(both, channels=4)
    assert [len(layer.ops) for layer in network.body.layers] == [1, 1, 2, 1, 1, 1, 1, 1]
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_costs_add_up_to_those_of_a_network() -> None:
    settings = MacroSpace.Network(channels=4, features=8)
    stem = CifarStem(3, 4, multiplier=1)
    costs = space().costs(stem, torch.zeros(1, 3, 16, 16))["layers"]
    found = {}
    for code in CODES:
        architecture = Architecture.from_genotype(code)
        body = MacroSpace.network_body(architecture, stem, settings)
        chosen = architecture.code["layers"].astype(bool)
        macs = count_macs(nn.Sequential(stem, body), torch.zeros(1, 3, 16, 16))
        found[code] = count_parameters(body) - costs.parameters[chosen].sum(), macs - costs.macs[chosen].sum()
    assert len(set(found.values())) == 1  # what is left is the same for all: stem and last convolution


def test_operations_are_known_at_their_shapes() -> None:
    (cell,) = space().work(CifarStem(3, 4, multiplier=1), torch.zeros(1, 3, 16, 16))
    assert str(cell.table[2][1]) == "mb3_k3 of 8 to 16 channels at 8x8, stride 2"
    assert [row[0].channels for row in cell.table] == [4, 8, 8, 16, 16, 16, 32, 32]
    load = cell.table[2][1]
    assert load is not None
    assert space().probe(load, 2, torch.device("cpu"))().shape == (2, 16, 4, 4)  # type: ignore[attr-defined]


def test_a_layer_without_an_operation_gives_zeros() -> None:
    assert Zero(2, 3)(torch.ones(2, 2, 5, 4)).shape == (2, 3, 3, 2)
    plain = Architecture.from_genotype("11111111")
    code = np.array(plain.code["layers"])
    code[4] = 0
    broken = Architecture({"layers": replace(plain.cells["layers"], code=code)}, space="macro")
    count = MacroSpace.count_live(broken, MacroSpace.Network())
    assert "no operation leads from the input to the output" in count.text()


def test_other_stems_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.stem: macro needs a stem of its own width, such as plain"):
        space().supernet_body(CifarStem(3, 4))


def test_other_layers_are_refused() -> None:
    plain = Architecture.from_genotype("11111111").cells["layers"]
    short = replace(plain, edges=plain.edges[:3], outputs=(3,), code=np.array(plain.code[:3]))
    with pytest.raises(ArchitectureError, match="has layers of 8; the architecture has layers of 3"):
        build_network(Architecture({"layers": short}, space="macro"))


def test_the_expected_cost_is_that_of_all_codes() -> None:
    """In closed form, and as the mean over all 6,561 networks, each as likely as its derivation weighs it."""
    sampler: Any = samplers["egs"](
        validate(samplers["egs"].Config, {"name": "egs", "samples": 3}), space().groups(), "macro"
    )
    generator = torch.Generator().manual_seed(0)
    sampler.start_from({"layers": torch.randn(8, 3, generator=generator, dtype=torch.double)})
    costs = torch.from_numpy(space().costs(CifarStem(3, 4, multiplier=1), torch.zeros(1, 3, 16, 16))["layers"].macs)
    probs = sampler.vector_probs("layers")
    expected = (sampler.inclusion_of({"layers": probs})["layers"] * costs).sum()
    codes = torch.cartesian_prod(*[torch.arange(3)] * 8)
    layers = torch.arange(8)
    likely = (probs.double() ** 3)[layers, codes].prod(dim=1)
    brute = (likely * costs[layers, codes].sum(dim=1)).sum() / likely.sum()
    torch.testing.assert_close(expected.double(), brute, rtol=1e-6, atol=1e-6)
