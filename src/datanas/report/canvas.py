"""How a picture becomes a file: matplotlib without windows, whatever the caller has set it to."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datanas.core.atomic import write_atomic
from datanas.core.errors import StorageError
from datanas.report.layout import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}},
}
_BACKEND = "MPLBACKEND"
_one_at_a_time = threading.RLock()
"""matplotlib's settings are those of the whole process."""


def save_picture(
    draw: Callable[[], Figure], path: str | os.PathLike[str], format: str | None = None, dpi: float | None = None
) -> None:
    """Write the figure that `draw` makes, in our style on top of matplotlib's own defaults.

    Neither a display nor a backend is needed, and the caller's settings of matplotlib neither count nor change.

    Args:
        format: "svg" or "png"; by default what the name of the file says.
        dpi: points an inch of a PNG.

    Raises:
        ValueError: neither of the two.
        StorageError: the file cannot be written.
    """
    kind = format or Path(path).suffix.lower().removeprefix(".")
    if kind not in _FORMATS:
        raise ValueError(f"{path}: a picture's name must end in .{' or .'.join(_FORMATS)}")
    import_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    picture = BytesIO()
    with _one_at_a_time, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = draw()
        canvas = FigureCanvasSVG(figure) if kind == "svg" else FigureCanvasAgg(figure)
        options = {**_FORMATS[kind], "dpi": dpi} if kind == "png" else _FORMATS[kind]
        canvas.print_figure(picture, format=kind, **options)
    write_atomic(Path(path), picture.getvalue())


def import_matplotlib() -> None:
    """Import matplotlib where MPLBACKEND names a backend that is not installed here, as in a notebook's shell."""
    if "matplotlib" in sys.modules or _BACKEND not in os.environ:
        return
    backend = os.environ.pop(_BACKEND)
    try:
        import matplotlib
    finally:
        os.environ[_BACKEND] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend


def draw_all(
    pictures: Mapping[Path, Callable[[Path], None]], *, require_storage: bool = False
) -> tuple[list[str], list[str]]:
    """Draw what can be drawn: the names of the files that were written, and a line for each that was not.

    Pictures show what is saved elsewhere, so no finished run fails for one.

    Args:
        require_storage: for a command that is run for its files: one that cannot be written is an error.

    Raises:
        StorageError: a file cannot be written, where that is required.
    """
    written, failed = [], []
    for path, draw in pictures.items():
        try:
            draw(path)
        except Exception as error:
            if require_storage and isinstance(error, StorageError):
                raise
            failed.append(f"{path} was not drawn: {str(error) or type(error).__name__}")
        else:
            written.append(path.name)
    return written, failed
