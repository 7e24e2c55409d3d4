"""The architectures of NAS-Bench-Graph, and the numbers by which its table knows them.

An architecture is a list of links, for each of four nodes the tensor that it reads (0 the input, 1 to 4 the nodes), and
an operation on each. Several describe one network: nodes may be renumbered, and a skip connection passes on what it
reads. The table holds one of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

LINKS = (
    (0, 0, 0, 0),
    (0, 0, 0, 1),
    (0, 0, 1, 1),
    (0, 0, 1, 2),
    (0, 0, 1, 3),
    (0, 1, 1, 1),
    (0, 1, 1, 2),
    (0, 1, 2, 2),
    (0, 1, 2, 3),
)
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
NODES = 4

Links = tuple[int, ...]
Operations = tuple[str, ...]


def canonical(links: Sequence[int], operations: Sequence[str]) -> tuple[Links, Operations]:
    """The links and operations under which the table has a network.

    A skip connection is moved where others read it, where it alone reads its tensor, and where it would give the input
    itself to the output. Any other gives a node's tensor to the output once more, and stays. Those that are moved stand
    in a row before the rest. Of the ways to number the nodes so that the links are among the nine lists, the one counts
    whose operations come first.

    Args:
        links: node i reads a tensor below i.
        operations: names.

    Raises:
        ValueError: links or operations that are none.
    """
    _check(links, operations)
    reads = dict(enumerate(links, 1))
    for node in range(1, NODES + 1):
        if operations[node - 1] != "skip":
            continue
        is_read = node in reads.values()
        is_alone = sum(source == reads[node] for source in reads.values()) == 1
        if is_read or is_alone or reads[node] == 0:
            source = reads.pop(node)
            reads = {other: source if read == node else read for other, read in reads.items()}
    moved = NODES - len(reads)
    found = []
    for order in permutations(reads):
        place = {0: moved, **{node: moved + at for at, node in enumerate(order, 1)}}
        renumbered = (*range(moved), *(place[reads[node]] for node in order))
        if renumbered in LINKS and all(place[reads[node]] < place[node] for node in order):
            names = ("skip",) * moved + tuple(operations[node - 1] for node in order)
            found.append((tuple(map(OPERATIONS.index, names)), renumbered, names))
    _, new_links, names = min(found)
    return new_links, names


def number(links: Sequence[int], operations: Sequence[str]) -> int:
    """The number of an architecture in the table: the digits of its canonical links and operations.

    Raises:
        ValueError: as for `canonical`.
    """
    new_links, names = canonical(links, operations)
    digits = [LINKS.index(new_links), *map(OPERATIONS.index, names)]
    return int("".join(map(str, digits)))


def every() -> Iterator[tuple[Links, Operations]]:
    """The nine lists of links with all operations: most networks several times."""
    return product(LINKS, product(OPERATIONS, repeat=NODES))


def _check(links: Sequence[int], operations: Sequence[str]) -> None:
    if len(links) != NODES or not all(0 <= source < node for node, source in enumerate(links, 1)):
        raise ValueError(f"links must be {NODES} numbers, the i-th of them in 0..i-1, got {list(links)}")
    if len(operations) != NODES or not set(operations) <= set(OPERATIONS):
        raise ValueError(f"operations must be {NODES} of {', '.join(OPERATIONS)}, got {list(operations)}")
