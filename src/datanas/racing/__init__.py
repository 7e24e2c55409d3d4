"""A choice among trained candidates: successive halving on examples that no search has seen."""
