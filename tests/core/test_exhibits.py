from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from datanas.core.exhibits import (
    Confusion,
    Exhibit,
    FigureTable,
    Passage,
    Passages,
    Picture,
    Pictures,
    exhibit_from_json,
    exhibit_to_json,
)

PNG = base64.b64encode(b"\x89PNG and the rest").decode()
ALL: list[Exhibit] = [
    Confusion(["a", "b"], [[3, 1], [0, 2]]),
    FigureTable("Each", ["class", "recall"], [["a", 0.75], ["b", None]], ["recall"], "a note"),
    Pictures("Worst", [Picture(PNG, "a, taken for b", "An image.")], "a note", [("a", "#00ff00")]),
    Passages("Texts", [Passage("the dog", "sees a cat")]),
]


@pytest.mark.parametrize("exhibit", ALL, ids=lambda each: each.kind)
def test_it_comes_back_from_a_file(exhibit: Exhibit) -> None:
    assert exhibit_from_json(json.loads(json.dumps(exhibit_to_json(exhibit)))) == exhibit


def pictures(content: str) -> dict[str, Any]:
    return {"kind": "pictures", "title": "t", "pictures": [{"content": content, "caption": "", "alt": ""}]}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ([], "no object"),
        ({"kind": "hologram"}, "does not know: 'hologram'"),
        ({"kind": "confusion", "classes": ["a"]}, "cannot be read"),
        ({"kind": "confusion", "classes": ["a"], "counts": [[1, 2]]}, "other rows or columns"),
        ({"kind": "confusion", "classes": ["a"], "counts": [[-1]]}, "no whole number"),
        ({"kind": "confusion", "classes": ["a"], "counts": [["<script>"]]}, "no whole number"),
        ({"kind": "table", "title": "t", "columns": ["a"], "rows": [["a", 1]]}, "has 2 entries"),
        ({"kind": "table", "title": "t", "columns": ["a"], "rows": [[[]]]}, "no figures"),
        (
            {"kind": "pictures", "title": "t", "pictures": [{"content": "AAAA", "caption": "", "alt": ""}]},
            "neither PNG",
        ),
        (
            {"kind": "pictures", "title": "t", "pictures": [{"content": '"><x', "caption": "", "alt": ""}]},
            "neither PNG",
        ),
        ({"kind": "passages", "title": "t", "passages": [{"given": "a"}]}, "cannot be read"),
    ],
)
def test_anything_else_is_refused(data: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        exhibit_from_json(data)


def test_pictures_know_their_format() -> None:
    assert Picture.of_file(b"\xff\xd8\xff\xe0more", "", "").format() == "jpeg"
    assert Picture(PNG, "", "").format() == "png"
