from __future__ import annotations

import errno
from pathlib import Path

import pytest

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.lookup import architecture, architectures, find_architecture
from datanas.references import references

# Operations of each node, the first after the inputs first.
COUNTS = {
    "amoebanet_a": {"normal": [2] * 5, "reduce": [2] * 5},
    "darts_v1": {"normal": [2] * 4, "reduce": [2] * 4},
    "darts_v1_rnn": {"recurrent": [1] * 8},
    "darts_v2": {"normal": [2] * 4, "reduce": [2] * 4},
    "darts_v2_rnn": {"recurrent": [1] * 8},
    "data_m4": {"normal": [3, 3, 2, 3], "reduce": [3, 3, 2, 3]},
    "data_m7": {"normal": [4, 3, 3, 3], "reduce": [3, 3, 5, 2]},
    "enas_rnn": {"recurrent": [1] * 11},
    "gdas": {"normal": [2] * 4, "reduce": [2] * 4},
    "nasnet_a": {"normal": [2] * 5, "reduce": [2] * 5},
    "pnas": {"normal": [2] * 5, "reduce": [2] * 5},
    "snas_mild": {"normal": [2] * 4, "reduce": [2] * 4},
}


def test_names_are_sorted_and_all_counted() -> None:
    assert architectures() == sorted(COUNTS)


@pytest.mark.parametrize("name", architectures())
def test_has_the_published_number_of_operations_in_each_node(name: str) -> None:
    found = {
        group: [len(cell.node_inputs(node)) for node in range(cell.inputs, cell.nodes)]
        for group, cell in architecture(name).cells.items()
    }
    assert found == COUNTS[name]


@pytest.mark.parametrize("name", architectures())
def test_round_trips(name: str) -> None:
    published = architecture(name)
    assert Architecture.from_json(published.to_json()) == published
    assert Architecture.from_json(published.to_json()).source == published.source
    assert Architecture.from_genotype(published.to_genotype()) == published


@pytest.mark.parametrize("name", architectures())
def test_says_where_it_comes_from(name: str) -> None:
    source = architecture(name).source
    assert source is not None
    assert source["name"] == name
    assert all(source[key] for key in ("paper", "table", "origin", "note"))


@pytest.mark.parametrize("name", list(references))
def test_what_to_compare_with_is_known_by_name_but_not_listed(name: str) -> None:
    found = architecture(name.upper())
    assert (found.source or {})["name"].partition(":")[0] == name
    assert Architecture.from_json(found.to_json()) == found
    assert name not in architectures()


def test_no_two_are_the_same() -> None:
    assert len({architecture(name) for name in architectures()}) == len(COUNTS)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("DARTS", "darts_v2"),
        ("darts-V2", "darts_v2"),
        ("DARTS 1st", "darts_v1"),
        ("DATA (M=7)", "data_m7"),
        ("SNAS", "snas_mild"),
        ("GDAS_V1", "gdas"),
        ("NASNet-A", "nasnet_a"),
        ("PNASNet-5", "pnas"),
        ("darts_rnn", "darts_v2_rnn"),
    ],
)
def test_case_punctuation_and_common_names_are_known(spelling: str, name: str) -> None:
    assert architecture(spelling) == architecture(name)


@pytest.mark.parametrize("name", ["dats_v2", "DATS_V2", ""])
def test_unknown_names_get_a_hint(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown architecture '{name}'; (did you mean 'da.*\?|known: amoebanet_a)"):
        architecture(name)


def test_darts_second_order_is_the_cell_of_the_paper() -> None:
    cells = architecture("darts_v2").cells
    assert [cells["normal"].node_inputs(node) for node in range(2, 6)] == [
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("skip_connect", 0), ("sep_conv_3x3", 1)],
        [("skip_connect", 0), ("dil_conv_3x3", 2)],
    ]
    assert [cells["reduce"].node_inputs(node) for node in range(2, 6)] == [
        [("max_pool_3x3", 0), ("max_pool_3x3", 1)],
        [("max_pool_3x3", 1), ("skip_connect", 2)],
        [("max_pool_3x3", 0), ("skip_connect", 2)],
        [("max_pool_3x3", 1), ("skip_connect", 2)],
    ]


def test_data_uses_several_operations_on_an_edge() -> None:
    reduce = architecture("data_m7").cells["reduce"]
    assert [name for name, source in reduce.node_inputs(4) if source == 2] == [
        "skip_connect",
        "sep_conv_3x3",
        "dil_conv_3x3",
    ]
    normal = architecture("data_m4").cells["normal"]
    assert normal.node_inputs(4) == [("skip_connect", 3), ("sep_conv_5x5", 3)]


def test_nasnet_pools_one_input_twice() -> None:
    normal = architecture("nasnet_a").cells["normal"]
    assert normal.node_inputs(5) == [("avg_pool_3x3", 0), ("avg_pool_3x3", 0)]
    assert normal.code.max() == 2


def test_outputs_that_are_not_all_nodes_are_kept() -> None:
    assert architecture("amoebanet_a").cells["normal"].outputs == (4, 5, 6)
    assert architecture("amoebanet_a").cells["reduce"].outputs == (3, 4, 6)
    assert architecture("nasnet_a").cells["reduce"].outputs == (4, 5, 6)
    assert architecture("enas_rnn").cells["recurrent"].outputs == (2, 5, 6, 9, 10, 11)


def test_says_that_the_published_data_m4_is_not_that_of_the_table() -> None:
    source = architecture("data_m4").source
    assert source is not None
    assert "not the cell of Table 1" in source["note"]
    assert "3.894 M" in source["note"]


TEXT = architecture("darts_v2").to_genotype()


@pytest.mark.parametrize("content", [architecture("darts_v2").to_json(), TEXT, f"11:22:33 genotype = {TEXT}\r\n"])
def test_an_architecture_is_taken_from_files_folders_and_texts(content: str, tmp_path: Path) -> None:
    (tmp_path / "cell.txt").write_bytes(b"\xef\xbb\xbf" + content.encode())
    (tmp_path / "architecture.json").write_text(content)
    for given in (tmp_path / "cell.txt", str(tmp_path / "cell.txt"), tmp_path, str(tmp_path), content):
        assert find_architecture(given) == architecture("darts_v2")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("x" * 300, ConfigError, "unknown architecture 'xxx"),
        ("x" * 300 + ".json", ConfigError, "unknown architecture 'xxx"),
        ("gone/" * 2000, ConfigError, "unknown architecture 'gone"),
        ("a\0b", ConfigError, "unknown architecture"),
        ("gone.json", ConfigError, "architecture gone.json: no such file"),
        (TEXT[:200], ArchitectureError, "genotype: a bracket or quote is not closed"),
        ("{", ArchitectureError, "not JSON"),
        ("some\nlines", ArchitectureError, "neither an architecture in JSON nor a genotype"),
        (Path("x" * 300), ArchitectureError, "File name too long"),
    ],
)
def test_what_is_no_architecture_gets_a_short_answer(given: str | Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        find_architecture(given)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_that_cannot_be_looked_into_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ArchitectureError, match=r"^runs/x: Permission denied$"):
        find_architecture("runs/x")
