"""What networks may cost: bounds, cost models, and how a search heeds them."""
