"""What networks cost, and what they may cost."""
