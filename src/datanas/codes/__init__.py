"""What a search keeps, as plain data without torch: cells, architectures, their texts and files, published ones."""
