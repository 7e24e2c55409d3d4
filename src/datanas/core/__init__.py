"""What everything stands on: errors, settings, the registry, keyed random numbers, files that are whole, processes."""
