"""What a network of a space runs: each candidate operation at each shape, so that it can be timed by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Workload:
    """One operation at one shape; wherever a network runs it, it takes equally long.

    Attributes:
        primitive: the operation's name.
        channels: of what it reads, or units of a hidden state.
        stride: of the operation.
        size: height and width of what it reads; () where that is one vector.
        maps: feature maps an example: 4 for each reduction before it that keeps the resolution.
        out_channels: of what it gives, where it may change them; 0 for as many.
    """

    primitive: str
    channels: int
    stride: int = 1
    size: tuple[int, ...] = ()
    maps: int = 1
    out_channels: int = 0

    def __post_init__(self) -> None:
        if self.out_channels == self.channels:  # so that what is said in two ways is one workload
            object.__setattr__(self, "out_channels", 0)

    def __str__(self) -> str:
        """For messages: "sep_conv_3x3 of 32 channels at 16x16, stride 2"."""
        size = f" at {'x'.join(map(str, self.size))}" if self.size else ""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        maps = f", {self.maps} maps an example" if self.maps > 1 else ""
        into = f" to {self.out_channels}" if self.out_channels else ""
        return f"{self.primitive} of {self.channels}{into} channels{size}{stride}{maps}"


@dataclass(frozen=True)
class CellWork:
    """The candidates of one cell of a network.

    Attributes:
        group: the choice group of the cell.
        table: the workload of each (edge, operation) of the group; None for what runs nothing.
    """

    group: str
    table: tuple[tuple[Workload | None, ...], ...]
