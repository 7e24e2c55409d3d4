"""Search methods and controls side by side: the same data, budget and seeds for each, and what that shows."""
