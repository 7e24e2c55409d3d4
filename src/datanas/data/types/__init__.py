"""What data sets return: images with classes or masks, classes apart, files, texts. Each type has its check."""
