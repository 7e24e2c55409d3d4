"""`ChoiceRepeat`: how many of the layers in a row are run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from datanas.blocks.choice import Choice
from datanas.core.errors import ConfigError


class ChoiceRepeat(Choice):
    """Depth as a choice: the first so many of layers in a row. One depth is kept.

    Args:
        layers: the layers, each of which takes what the one before it gives. All depths share them.
        counts: the depths to choose among, rising; by default every one from 1 to all. With 0 none may be run.
        name: as for `Choice`.

    Raises:
        ConfigError: no layers, or counts that are not rising or not among 0 to all.

    Example:
        >>> import datanas, torch
        >>> depth = datanas.ChoiceRepeat([torch.nn.Linear(3, 3) for _ in range(4)], counts=(1, 2, 4))
        >>> [depth.cost_of(candidate) for candidate in depth.primitives]
        [12.0, 24.0, 48.0]
    """

    def __init__(
        self, layers: Sequence[nn.Module], counts: Sequence[int] | None = None, *, name: str | None = None
    ) -> None:
        whole = len(layers)
        counts = tuple(range(1, whole + 1)) if counts is None else tuple(counts)
        if not counts or list(counts) != sorted(set(counts)) or counts[0] < 0 or counts[-1] > whole:
            raise ConfigError(f"counts must be rising numbers of the {whole} layers, such as 1, 2; got {counts}")
        # A sequence in a sequence would be listed as one layer.
        candidates = {f"repeat{count}": nn.Sequential(*list(layers)[:count]) for count in counts}
        super().__init__(candidates, samples=1, name=name)
