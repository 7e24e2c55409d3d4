"""From a training to what others load: exported folders, model cards, models of timm."""
