"""The choice blocks of a module, by the names under which they choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from datanas.blocks.block import Block
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.kernels.gates import Gates

ROOT = "choice"
"""The name of a module that is a block itself."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a module.

    Attributes:
        by_name: those that choose alike, by their name.
    """

    by_name: Mapping[str, tuple[Block, ...]]

    @classmethod
    def of(cls, module: nn.Module) -> Blocks:
        """Find them.

        Raises:
            ConfigError: there are none, blocks of one name have different candidates, or a name cannot be.
        """
        by_name: dict[str, list[tuple[str, Block]]] = {}
        for path, part in module.named_modules():
            if isinstance(part, Block):
                name = part.name or path.replace(".", "/") or ROOT
                by_name.setdefault(name, []).append((path or "the module itself", part))
        if not by_name:
            raise ConfigError(
                f"{type(module).__name__} has no choice in it: put a datanas.Choice where its candidates are to be "
                "compared, as an attribute of a module or within nn.ModuleList or nn.ModuleDict"
            )
        for name, occurrences in by_name.items():
            (first, block), *others = occurrences
            _require_key(name, first, block)
            if others and (unnamed := [path for path, each in occurrences if each.name is None]):
                raise ConfigError(
                    f"the place {unnamed[0]} of a choice without a name is the name of another one; give it a name= of "
                    f"its own, or name={name!r} if they are to choose alike"
                )
            for path, other in others:
                if not block.agrees_with(other):
                    raise ConfigError(
                        f"the name {name!r} is used twice with different candidates: {first} has {_shown(block)}, "
                        f"{path} has {_shown(other)}; blocks of one name choose alike"
                    )
        return cls({name: tuple(block for _, block in each) for name, each in by_name.items()})

    def groups(self) -> dict[str, ChoiceGroup]:
        """The choice groups by name."""
        return {name: blocks[0].group(name) for name, blocks in self.by_name.items()}

    def items(self) -> Iterator[tuple[str, Block]]:
        """Every block with its name."""
        return ((name, block) for name, blocks in self.by_name.items() for block in blocks)

    def require_apart(self, why: str) -> None:
        """Refuse choices within candidates of others, whose costs count only where those are kept.

        Raises:
            ConfigError: there are some.
        """
        names = {id(block): name for name, block in self.items()}
        for outer, block in self.items():
            if inner := [names[id(part)] for part in block.modules() if part is not block and id(part) in names]:
                raise ConfigError(
                    f"{why}: the choice {inner[0]} is within a candidate of {outer}, so that what its candidates cost "
                    "does not add up; put choices side by side, or search without"
                )

    def costs(self, *, as_counted: bool = False) -> dict[str, list[float]]:
        """What the candidates of each name cost over all its blocks.

        Args:
            as_counted: what the blocks find themselves, whatever was said.
        """
        return {
            name: [
                sum(block.own_cost(each) if as_counted else block.cost_of(each) for block in blocks)
                for each in blocks[0].primitives
            ]
            for name, blocks in self.by_name.items()
        }

    @contextmanager
    def running(self, gates: Mapping[str, Gates]) -> Iterator[None]:
        """Run a block of code in which the module is the child with these gates.

        Raises:
            RuntimeError: it is one already.
        """
        with self.left_running(gates):
            yield
        self.stop()

    @contextmanager
    def left_running(self, gates: Mapping[str, Gates]) -> Iterator[None]:
        """As `running`, but unless the block of code raises the module is that child afterwards too.

        Raises:
            RuntimeError: it is one already.
        """
        if any(block.gates is not None for _, block in self.items()):
            raise RuntimeError("a child of this module is drawn already; leave its `with` block before the next one")
        try:
            for name, block in self.items():
                block.gates = gates[name]
            yield
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let the module be no child any more."""
        for _, block in self.items():
            block.gates = None


_TAKEN = nn.ParameterDict()


def _require_key(name: str, path: str, block: Block) -> None:
    """Refuse a name under which alpha cannot be kept."""
    if hasattr(_TAKEN, name):
        way = "give this choice a name=" if block.name is None else "give it another name"
        raise ConfigError(f"{path}: {name!r} cannot be what a choice is called, since modules of torch use it; {way}")


def _shown(block: Block) -> str:
    samples = "" if block.samples is None else f" (samples={block.samples})"
    return f"{type(block).__name__} of {', '.join(block.primitives)}{samples}"
