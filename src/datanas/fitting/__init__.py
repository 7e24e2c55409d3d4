"""From data to a network that one can use: recognised, planned, searched, raced, trained, measured, exported."""
