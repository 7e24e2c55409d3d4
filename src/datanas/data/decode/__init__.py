"""From files to tensors: what a folder holds, how an image is opened, and what is suspicious about it."""
