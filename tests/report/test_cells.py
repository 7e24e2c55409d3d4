from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from datanas.codes.architecture import Architecture, Cell
from datanas.core.errors import StorageError
from datanas.lookup import architecture, architectures
from datanas.report.cells import cell_text, draw_png, draw_svg

SPARSE = Architecture.from_genotype(
    "Genotype(normal=[[], [('sep_conv_3x3', 0)], [], [('odd_$op$', 3), ('skip_connect', 2)]], "
    "normal_concat=range(2, 6), reduce=[[], [], [], []], reduce_concat=[2, 3])"
)


def dense() -> Architecture:
    darts = architecture("darts_v2")
    generator = np.random.default_rng(0)
    return Architecture(
        {
            name: Cell(
                cell.primitives,
                cell.edges,
                cell.outputs,
                (generator.random(cell.code.shape) < 0.6).astype(np.uint8),
                cell.inputs,
            )
            for name, cell in darts.cells.items()
        }
    )


def chosen(architecture: Architecture) -> list[str]:
    return sorted(name for cell in architecture.cells.values() for name, _, _ in cell.operations())


def labels(architecture: Architecture, path: Path) -> list[tuple[str, float, float]]:
    """The operations' labels in the drawing and their centres, in points."""
    draw_svg(architecture, path)
    primitives = {name for cell in architecture.cells.values() for name in cell.primitives}
    texts = [t for t in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text") if "middle" in str(t.attrib)]
    return [(t.text, float(t.attrib["x"]), float(t.attrib["y"])) for t in texts if t.text in primitives]


class TestText:
    @pytest.mark.parametrize("name", architectures())
    def test_names_every_operation_as_often_as_it_is_chosen(self, name: str) -> None:
        published = architecture(name)
        lines = [line for line in cell_text(published).splitlines() if line.startswith("  ")]
        words = [word for line in lines for word in line.split()]
        assert sorted(word for word in words if word in set(chosen(published))) == chosen(published)

    def test_shows_the_operations_of_each_edge(self) -> None:
        lines = cell_text(architecture("data_m7")).splitlines()
        assert lines[0].startswith("data_m7: Architecture(conv_cell, edge, sum, normal: 13, reduce: 13 operations, ")
        assert lines[2] == "normal: 13 operations, output: 2 3 4 5"
        assert lines[3] == "  node 2  <- c_{k-2}  skip_connect + sep_conv_3x3"
        assert lines[4] == "             c_{k-1}  skip_connect + sep_conv_3x3"

    @pytest.mark.parametrize(
        ("posterior", "line"),
        [
            ({"score": -1.25, "measure": "fitness (minus loss)"}, "fitness (minus loss) -1.25\n"),
            ({"score": 0.4, "candidates": 100}, "score 0.4\n"),  # of files that do not say what their score is
        ],
    )
    def test_a_score_is_named_and_is_no_probability(self, posterior: dict[str, Any], line: str) -> None:
        text = cell_text(replace(architecture("darts"), posterior=posterior))
        assert text.splitlines(keepends=True)[1] == line
        assert "probability" not in text

    def test_shows_the_posterior_where_there_is_one(self) -> None:
        posterior = {"log_prob": np.log(0.25), "margin": 1.5, "samples": 7}
        text = cell_text(replace(architecture("darts"), posterior=posterior))
        assert "posterior probability 0.25 (log -1.386), margin over the next 1.5, M = 7\n" in text
        assert "posterior" not in cell_text(architecture("darts"))

    def test_leaves_out_numbers_that_are_missing(self) -> None:
        text = cell_text(replace(architecture("darts"), posterior={"log_prob": -1000.0, "margin": None}))
        assert "posterior probability 0 (log -1000)\n" in text

    def test_says_where_nothing_is_chosen(self) -> None:
        lines = cell_text(SPARSE).splitlines()
        assert "  node 2  <- nothing" in lines
        assert lines[-4:] == [f"  node {node}  <- nothing" for node in range(2, 6)]

    def test_keeps_to_a_hundred_columns(self) -> None:
        names = tuple(f"operation_{i}" for i in range(40))
        cell = Cell(names, ((0, 1),), (1,), np.ones((1, 40), np.uint8), 1)
        text = cell_text(Architecture({f"block{i}": cell for i in range(30)}, source={"name": "x" * 30}))
        assert max(map(len, text.splitlines())) <= 100
        assert all(name in text for name in names)


class TestPicture:
    @pytest.mark.parametrize("name", architectures())
    def test_svg_labels_every_operation(self, name: str, tmp_path: Path) -> None:
        published = architecture(name)
        assert sorted(label for label, _, _ in labels(published, tmp_path / "a.svg")) == chosen(published)
        text = (tmp_path / "a.svg").read_text()
        assert f">{name}</text>" in text
        for group in published.cells:
            assert f">{group}: " in text

    @pytest.mark.parametrize("drawn", [architecture("data_m7"), architecture("nasnet_a"), dense()])
    def test_labels_stay_apart(self, drawn: Architecture, tmp_path: Path) -> None:
        places = labels(drawn, tmp_path / "a.svg")
        for i, (_, x, y) in enumerate(places):
            for _, other_x, other_y in places[:i]:
                assert abs(y - other_y) > 20 or abs(x - other_x) > 80

    def test_png_is_written_and_grows_with_the_cell(self, tmp_path: Path) -> None:
        sizes = []
        for i, drawn in enumerate((architecture("darts_v2"), dense())):
            draw_png(drawn, tmp_path / f"{i}.png", dpi=50)
            content = (tmp_path / f"{i}.png").read_bytes()
            assert content.startswith(b"\x89PNG")
            sizes.append(int.from_bytes(content[20:24], "big"))
        assert sizes[1] > 2 * sizes[0]

    def test_equal_architectures_give_equal_bytes(self, tmp_path: Path) -> None:
        drawn = architecture("data_m7")
        again = Architecture.from_json(drawn.to_json())
        for draw in (draw_svg, draw_png):
            draw(drawn, tmp_path / "a")
            draw(again, tmp_path / "b")
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
            draw(architecture("data_m4"), tmp_path / "b")
            assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()

    def test_svg_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        draw_svg(architecture("darts"), tmp_path / "a.svg")
        program = (
            "import sys; from datanas.lookup import architecture; from datanas.report.cells import draw_svg;"
            "draw_svg(architecture('darts'), sys.argv[1])"
        )
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / "b.svg"], check=True, env={"PYTHONPATH": ":".join(sys.path)}
        )
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    def test_draws_nodes_without_operations_dashed(self, tmp_path: Path) -> None:
        names = [label for label, _, _ in labels(SPARSE, tmp_path / "a.svg")]
        assert sorted(names) == ["odd_$op$", "sep_conv_3x3", "skip_connect"]
        dashed = (tmp_path / "a.svg").read_text().count("stroke-dasharray")
        draw_svg(architecture("darts"), tmp_path / "b.svg")
        assert dashed == 6
        assert "stroke-dasharray" not in (tmp_path / "b.svg").read_text()

    def test_shows_the_posterior(self, tmp_path: Path) -> None:
        draw_svg(replace(SPARSE, posterior={"log_prob": 0.0, "margin": 2.0}), tmp_path / "a.svg")
        assert ">posterior probability 1 (log 0), margin over the next 2</text>" in (tmp_path / "a.svg").read_text()

    def test_colours_families_and_names_those_that_occur(self, tmp_path: Path) -> None:
        draw_svg(architecture("darts"), tmp_path / "a.svg")
        text = (tmp_path / "a.svg").read_text()
        assert all(f">{name}</text>" in text for name in ("separable convolution", "pooling", "identity"))
        assert ">activation</text>" not in text

    def test_draws_many_groups_in_rows(self, tmp_path: Path) -> None:
        cell = Cell(("none", "mbconv_3", "mbconv_6"), ((0, 1),), (1,), np.array([[0, 1, 1]]), 1)
        drawn = Architecture({f"block{i}": cell for i in range(9)}, space="network")
        places = labels(drawn, tmp_path / "a.svg")
        assert len(places) == 18
        assert len({round(x) for _, x, _ in places}) < 9

    def test_follows_no_settings_of_the_user(self, tmp_path: Path) -> None:
        from matplotlib import rc_context

        draw_svg(architecture("darts"), tmp_path / "a.svg")
        with rc_context({"svg.fonttype": "path", "text.usetex": True, "font.family": "serif"}):
            draw_svg(architecture("darts"), tmp_path / "b.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    def test_names_the_file_that_it_cannot_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match=r"file/a\.svg: cannot be written: File exists"):
            draw_svg(SPARSE, tmp_path / "file" / "a.svg")

    def test_makes_its_folder(self, tmp_path: Path) -> None:
        draw_svg(SPARSE, tmp_path / "a.svg")
        draw_svg(SPARSE, tmp_path / "deep" / "down" / "a.svg")
        assert (tmp_path / "deep" / "down" / "a.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()


def test_imports_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys; import datanas.lookup, datanas.report.cells;"
        "sys.exit(not {'torch', 'matplotlib'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
