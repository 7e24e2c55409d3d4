"""`datanas predict`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datanas.cli.options import Flag

if TYPE_CHECKING:
    from datanas.deploy.predictions import ClassPredictions
    from datanas.deploy.predictor import Predictor


def run(
    path: Annotated[
        Path, Parameter(name="RUN", help="Run folder of a finished training or fit, or a folder of datanas export.")
    ],
    /,
    *inputs: Annotated[Path, Parameter(name="INPUT", help="Images, folders of images, .npy or .npz files of arrays.")],
    top: Annotated[int, Parameter(help="Likeliest classes that are shown.")] = 3,
    table: Annotated[Path | None, Parameter(name="--csv", help="Write them into a file too, a line an input.")] = None,
    batch_size: Annotated[int, Parameter(help="Images that pass the network together.")] = 250,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, ...")] = "auto",
    skip_broken: Annotated[Flag, Parameter(help="Leave out what cannot be read, with a warning.")] = False,
    white_level: Annotated[
        float | None,
        Parameter(help="The value that is white in images of more than 8 bits, of a network that has seen none."),
    ] = None,
) -> None:
    """Tell what a trained network says of images: the likeliest classes of each, with their probabilities.

    datanas predict runs/mine photo.jpg holiday/ --csv found.csv
    """
    from datanas.core.errors import ConfigError
    from datanas.deploy.predict import load

    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    if not inputs:
        raise ConfigError(f"INPUT: nothing is given to predict; say what: datanas predict {path} photo.jpg")
    predictor = load(path, device, white_level=white_level)
    print_classes(predictor, inputs, top, table, batch_size=batch_size, skip_broken=skip_broken)


def print_classes(
    predictor: Predictor[Any], inputs: Any, top: int, table: Path | None, *, batch_size: int, skip_broken: bool
) -> None:
    """A line an input as soon as it is known; the table at the end, whole."""
    from datanas.core.atomic import write_atomic
    from datanas.deploy.classes import ClassPredictor

    assert isinstance(predictor, ClassPredictor)
    rows: list[list[str]] = []
    for found in predictor.predict_batches(inputs, batch_size=batch_size, skip_broken=skip_broken):
        for name, best in zip(found.names, found.top(top), strict=True):
            print("  ".join([name, *(f"{label} {share:.2f}" for label, share in best)]))
        if table is not None:
            rows += _rows(found, top)
    if table is not None:
        shown = min(top, len(predictor.classes))
        header = ["input", *(f"{what}_{place}" for place in range(1, shown + 1) for what in ("class", "probability"))]
        write_atomic(table, csv_text([header, *rows]).encode(errors="surrogateescape"))


def _rows(found: ClassPredictions, top: int) -> list[list[str]]:
    pairs = zip(found.names, found.top(top), strict=True)
    return [[name, *(text for label, share in best for text in (label, f"{share:.6f}"))] for name, best in pairs]


def csv_text(rows: list[list[str]]) -> str:
    """A table with commas, quoted where it is needed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
