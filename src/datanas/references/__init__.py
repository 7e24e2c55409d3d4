"""Networks in which nothing is chosen, to compare searched ones with. One file a network."""
