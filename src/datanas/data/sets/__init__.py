"""Data sets. One file a data set; `@register_dataset(name)` enters its class."""
