"""`datanas predict`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from datanas.cli.parameters import Flag

if TYPE_CHECKING:
    from datanas.deploy.masks import MaskPredictor
    from datanas.deploy.rows import ClassPredictor, LabelPredictor, NumberPredictor
    from datanas.deploy.words import TextPredictor

Row = tuple[str, Sequence[object]]
"""A line for people, and the cells of the table."""


class _Options(NamedTuple):
    inputs: tuple[Path, ...]
    top: int
    folder: Path | None
    batch_size: int
    skip_broken: bool


def run(
    path: Annotated[
        Path, Parameter(name="RUN", help="Run of a finished training or fit, or what datanas export wrote.")
    ],
    /,
    *inputs: Annotated[
        Path, Parameter(name="INPUT", help="Images, folders of them, .npy or .npz files of arrays; files of text.")
    ],
    top: Annotated[int, Parameter(help="Likeliest classes that are shown.")] = 3,
    table: Annotated[Path | None, Parameter(name="--csv", help="Write them into a file too, a line an input.")] = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="New folder for masks, of a network that tells pixels.")
    ] = None,
    support: Annotated[
        Path | None, Parameter(help="Folder of class folders of examples, of a network that tells classes by these.")
    ] = None,
    batch_size: Annotated[int, Parameter(help="Images that pass the network together.")] = 250,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, ...")] = "auto",
    skip_broken: Annotated[Flag, Parameter(help="Leave out what cannot be read, with a warning.")] = False,
    white_level: Annotated[
        float | None,
        Parameter(help="The value that is white in images of more than 8 bits, of a network that has seen none."),
    ] = None,
    continued: Annotated[
        str | None, Parameter(name="--continue", help="Words that a network of words is to go on with.")
    ] = None,
    words: Annotated[int, Parameter(help="How many words follow those.")] = 20,
    seed: Annotated[int | None, Parameter(help="Draw these words by chance; by default the likeliest follow.")] = None,
) -> None:
    """Tell what a trained network says of inputs: of images the likeliest classes, of texts how well it foretells them.

    datanas predict runs/mine photo.jpg holiday/ --csv found.csv
    """
    from datanas.core.errors import ConfigError
    from datanas.deploy.examples import ExamplePredictor
    from datanas.deploy.masks import MaskPredictor
    from datanas.deploy.predict import load
    from datanas.deploy.rows import LabelPredictor, NumberPredictor
    from datanas.deploy.words import TextPredictor

    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    if not inputs and continued is None:
        raise ConfigError(f"INPUT: nothing is given to predict; say what: datanas predict {path} photo.jpg")
    predictor: Any = load(path, device, white_level=white_level)
    for option, value, kind in (
        ("--continue", continued, TextPredictor),
        ("--output", output, MaskPredictor),
        ("--support", support, ExamplePredictor),
    ):
        if value is not None and not isinstance(predictor, kind):
            raise ConfigError(f"{option}: is of no use for the network of {path}, whose task is {predictor.task}")
    if support is not None:
        predictor = predictor.with_examples(support)
    options = _Options(inputs, top, output, batch_size, skip_broken)
    if continued is not None:
        print(" ".join([continued.strip(), predictor.continue_text(continued, words, seed=seed)]).strip())
    elif isinstance(predictor, TextPredictor):
        _print(("input", "perplexity", "words", "unknown"), _texts(predictor, options), table)
    elif isinstance(predictor, MaskPredictor):
        names = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "share")]
        _print(("input", "mask", *names), _masks(predictor, options), table)
    elif isinstance(predictor, LabelPredictor):
        _print(("input", "labels", *predictor.classes), _labels(predictor, options), table)
    elif isinstance(predictor, NumberPredictor):
        _print(("input", *predictor.classes), _numbers(predictor, options), table)
    else:
        count = min(top, len(predictor.classes))
        names = [f"{what}_{rank}" for rank in range(1, count + 1) for what in ("class", "probability")]
        _print(("input", *names), _classes(predictor, options), table)


def _print(header: Sequence[str], rows: Iterator[Row], table: Path | None) -> None:
    """A line an input as soon as it is known; the table at the end, whole."""
    from datanas.core.atomic import write_atomic

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for line, cells in rows:
        print(line)
        if table is not None:
            writer.writerow(cells)
    if table is not None:
        write_atomic(table, text.getvalue().encode(errors="surrogateescape"))


def _classes(predictor: ClassPredictor, options: _Options) -> Iterator[Row]:
    batches = predictor.predict_batches(options.inputs, batch_size=options.batch_size, skip_broken=options.skip_broken)
    for batch in batches:
        for name, best in zip(batch.names, batch.top(options.top), strict=True):
            line = "  ".join([name, *(f"{label} {share:.2f}" for label, share in best)])
            yield line, [name, *(cell for label, share in best for cell in (label, f"{share:.6f}"))]


def _labels(predictor: LabelPredictor, options: _Options) -> Iterator[Row]:
    """All labels that hold, and otherwise the likeliest."""
    batches = predictor.predict_batches(options.inputs, batch_size=options.batch_size, skip_broken=options.skip_broken)
    for batch in batches:
        rows = zip(batch.names, batch.above(), batch.above(0.0), batch.probabilities, strict=True)
        for name, held, best, probabilities in rows:
            said = [f"{label} {share:.2f}" for label, share in held]
            said = said or [f"none (likeliest: {best[0][0]} {best[0][1]:.2f})"]
            labels = ";".join(label for label, _ in held)
            yield "  ".join([name, *said]), [name, labels, *(f"{share:.6f}" for share in probabilities.tolist())]


def _numbers(predictor: NumberPredictor, options: _Options) -> Iterator[Row]:
    batches = predictor.predict_batches(options.inputs, batch_size=options.batch_size, skip_broken=options.skip_broken)
    for batch in batches:
        for name, row in zip(batch.names, batch.values.tolist(), strict=True):
            said = [f"{column} {value:.4g}" for column, value in zip(batch.classes, row, strict=True)]
            yield "  ".join([name, *said]), [name, *(f"{value:.7g}" for value in row)]


def _masks(predictor: MaskPredictor, options: _Options) -> Iterator[Row]:
    from datanas.deploy.masks import MaskFolder

    folder = None if options.folder is None else MaskFolder(options.folder, predictor.classes)
    batches = predictor.predict_batches(options.inputs, batch_size=options.batch_size, skip_broken=options.skip_broken)
    for batch in batches:
        for name, mask, shares in zip(batch.names, batch.masks, batch.shares(), strict=True):
            file = "" if folder is None else str(folder.add(name, mask))
            best = [*shares.items()][: options.top]
            line = "  ".join([name, *filter(None, [file]), *(f"{label} {share:.2f}" for label, share in best)])
            yield line, [name, file, *(cell for label, share in best for cell in (label, f"{share:.6f}"))]


def _texts(predictor: TextPredictor, options: _Options) -> Iterator[Row]:
    for path in options.inputs:
        for each in predictor.predict(path):
            counts = f"{each.words:,} words, {each.unknown:,} of them unknown"
            yield (
                f"{each.name}  perplexity {each.perplexity:.2f}  ({counts})",
                [
                    each.name,
                    f"{each.perplexity:.4f}",
                    each.words,
                    each.unknown,
                ],
            )
