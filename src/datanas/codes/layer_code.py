"""NAS-Bench-Macro's text of a network (Su et al., CVPR 2021): a digit for each layer, such as `12012010`.

0 stands for the identity, 1 for an inverted residual of kernel 3 and expansion 3, 2 for one of kernel 5 and expansion
6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened

import numpy as np

from datanas.codes.cell import Cell
from datanas.codes.text_form import Form
from datanas.core.errors import ArchitectureError

IDENTITY = "identity"
MACRO_PRIMITIVES = (IDENTITY, "mb3_k3", "mb6_k5")
MACRO_STAGES = (2, 3, 3)
MACRO_LAYERS = sum(MACRO_STAGES)
MACRO_GROUP = "layers"
_CODE = re.compile(r"\s*[0-9]+\s*")


def is_layer_code(text: str) -> bool:
    """Whether a text is nothing but digits, be they a code or not."""
    return _CODE.fullmatch(text) is not None


def chain_edges(layers: int) -> tuple[tuple[int, int], ...]:
    """(source, target) of layers in a row."""
    return tuple((layer, layer + 1) for layer in range(layers))


def read_layer_code(text: str) -> Cell:
    """The layers of a code.

    Raises:
        ArchitectureError: it has other digits, or is of another length.
    """
    digits = text.strip()
    if len(digits) != MACRO_LAYERS or not set(digits) <= set("012"):
        wanted = ", ".join(f"{number} for {name}" for number, name in enumerate(MACRO_PRIMITIVES))
        raise ArchitectureError(
            f"code: must be {MACRO_LAYERS} digits, one a layer ({wanted}), got {shortened(digits)} of {len(digits)}"
        )
    code = np.eye(len(MACRO_PRIMITIVES), dtype=np.uint8)[[int(digit) for digit in digits]]
    return Cell(MACRO_PRIMITIVES, chain_edges(MACRO_LAYERS), (MACRO_LAYERS,), code, 1)


def print_layer_code(cell: Cell) -> str:
    """The code of layers; `read_layer_code` gives them back.

    Raises:
        ArchitectureError: they are others, or one has not just one operation.
    """
    if (cell.primitives, cell.edges) != (MACRO_PRIMITIVES, chain_edges(MACRO_LAYERS)):
        raise ArchitectureError(
            f"NAS-Bench-Macro's code is of {MACRO_LAYERS} layers in a row of {', '.join(MACRO_PRIMITIVES)}"
        )
    for layer, row in enumerate(cell.code.tolist(), start=1):
        if sum(row) != 1:
            raise ArchitectureError(f"NAS-Bench-Macro's code has one operation a layer; layer {layer} has {sum(row)}")
    return "".join(str(digit) for digit in cell.code.argmax(axis=1))


class LayerForm(Form):
    """All layers of a network of the space `macro`."""

    def holds(self, text: str) -> bool:
        return is_layer_code(text)

    def fits(self, groups: frozenset[str]) -> bool:
        return groups == {MACRO_GROUP}

    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        return "macro", {MACRO_GROUP: read_layer_code(text)}

    def print(self, cells: Mapping[str, Cell]) -> str:
        return print_layer_code(cells[MACRO_GROUP])
