"""What a run shows: text, pictures and pages, made from its folder. Never imports torch."""
