"""Encoded images that lie end to end in one array of an .npz file, with the places where they end."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.decode.archive import Archive
from datanas.data.decode.memory import require_memory


def encoded_images(archive: Archive, content: str, offsets: str, where: str) -> list[bytes]:
    """The files in the array `content`: file i is content[offsets[i] : offsets[i + 1]].

    Args:
        where: the data set and its file, to begin a message with.

    Raises:
        DataError: an array is missing, or they are no bytes and ascending places in them.
    """
    data, ends = archive[content], archive[offsets]
    if data.dtype != np.uint8 or data.ndim != 1:
        raise DataError(f"{where}: {content} must be bytes (n,), got {data.dtype} {data.shape}")
    if ends.dtype.kind not in "iu" or ends.ndim != 1 or len(ends) < 2:
        raise DataError(f"{where}: {offsets} must be whole numbers (images + 1,), got {ends.dtype} {ends.shape}")
    bounds = ends.tolist()
    if bounds != sorted(bounds) or bounds[0] < 0 or bounds[-1] > len(data):
        raise DataError(f"{where}: {offsets} must ascend from 0 to at most {len(data)}, the length of {content}")
    return [data[start:stop].tobytes() for start, stop in pairwise(bounds)]


def decode_encoded(
    files: Sequence[bytes], shape: tuple[int, int, int], where: str, remedy: str
) -> UInt8[Tensor, "n c h w"]:
    """The pixels of encoded images, as colour.

    Args:
        shape: (c, h, w) that each must have.
        where: the data set, its file and the part of it, to begin a message with.
        remedy: what to do where they do not fit into memory.

    Raises:
        DataError: an image is broken or of another size; the message counts from 0.
        OutOfMemoryError: they will not fit.
    """
    require_memory(len(files) * math.prod(shape), f"{where}: {len(files)} images", remedy)
    images = np.empty((len(files), *shape), np.uint8)

    def decode_image(index: int) -> None:
        try:
            with Image.open(io.BytesIO(files[index])) as image:
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except Exception as error:  # each decoder has errors of its own for damaged files
            raise DataError(f"{where} image {index} is broken ({type(error).__name__}: {error})") from None
        if pixels.shape != shape:
            size, wanted = (f"{width}x{height}" for _, height, width in (pixels.shape, shape))
            raise DataError(f"{where} image {index} is {size}; it must be {wanted}")
        images[index] = pixels

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode_image, range(len(files))))
    return torch.from_numpy(images)
