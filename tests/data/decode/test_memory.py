from __future__ import annotations

import pytest

from datanas.core.errors import OutOfMemoryError
from datanas.data.decode import memory


def test_what_does_not_fit_is_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    with pytest.raises(OutOfMemoryError, match=r"^9 images need 3\.0 GiB of memory, 1\.0 GiB are available; resize$"):
        memory.require_memory(3 * 2**30, "9 images", "resize")


def test_what_fits_passes() -> None:
    memory.require_memory(1, "a pixel", "none")


def test_an_unknown_amount_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.require_memory(2**60, "all images", "none")


def test_the_smaller_of_host_and_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_host_memory", lambda: 8)
    monkeypatch.setattr(memory, "_container_limit", lambda: 5)
    assert memory.available_memory() == 5
