"""What terms mean, in plain words, each told where it first stands on a page."""

from __future__ import annotations

_TERMS = {
    "P": "P is what a search learns: for every candidate operation the probability that one draw picks it. It begins "
    "even. Where a search has decided, nearly all of P is on few operations; where it has not, chance chose among "
    "them.",
    "flatness": "The entropy of P, divided by its largest possible value: 1 where P is even and nothing is decided, 0 "
    "where it has settled on single operations.",
    "gap": "The gap is how much worse the child that would be kept scores than the supernet that it is cut from, both "
    "with the weights of the search. Where it is small, the supernet judges its children fairly. It is negative where "
    "the child is the better one. What the cell reaches when it is trained from scratch is another number.",
    "interval": "A 95 % interval is a range that, by the count of examples alone, holds the true value in 95 of 100 "
    "such measurements. It does not cover what another seed or other training data would change.",
    "seeds": "The interval of a mean says how far it may move with other seeds, as well as so few seeds can tell; it "
    "does not cover other data or settings.",
    "macs": "A multiply-add is one multiplication with the addition behind it; a network's number of them for one "
    "example says how much it computes, on whatever machine.",
    "confusion": "Each row is a true class, each column what the network took its images for. On the diagonal it is "
    "right.",
    "rung": "A race trains its candidates from scratch in rungs: after each, the worse ones leave and the rest train "
    "longer. They are judged on examples that no search has seen.",
    "front": "The front, marked by a star and drawn as steps, is made of the networks that no other one beats at a "
    "lower or equal cost.",
    "bounds": "At each bound the searched network is compared with the mean of the others that were trained within it; "
    "the interval is over the bounds of this one search, and says nothing of another search.",
    "paired": "A difference is paired by seed: both rows had the same data, order and initialisation. Where its "
    "interval holds 0, no difference is shown.",
    "size": "Per cents are shares of the whole network.",
}


class Terms:
    """Knows what it has told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, *names: str) -> tuple[str, ...]:
        """The meanings of those terms that have not been told yet."""
        new = [name for name in names if name not in self._told]
        self._told.update(new)
        return tuple(_TERMS[name] for name in new)
