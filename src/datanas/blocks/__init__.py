"""Choice blocks: what a user's own module leaves open, and the plain module that is left once it is chosen."""
