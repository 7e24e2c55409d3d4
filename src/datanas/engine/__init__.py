"""The loops: search, train, evaluate. They know spaces, samplers, supernets and tasks by their interfaces only."""
