"""`datanas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

from cyclopts import Parameter

from datanas.cli.parameters import Flag, Overrides
from datanas.core.errors import ConfigError
from datanas.core.settings import parse_overrides

_FILES: dict[str, Literal["onnx", "torch"]] = {".onnx": "onnx", ".pt2": "torch"}


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a finished training.")],
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where to write; a new or an empty folder, or a new file.")],
    /,
    *overrides: Overrides,
    to: Annotated[
        Literal["folder", "timm", "hub", "onnx", "torch"] | None,
        Parameter(
            help="A folder that datanas loads, and timm where it can; one that timm loads, or a refusal; one whose "
            "card says how it is loaded from a model hub; or one file: ONNX, or of torch.export (.pt2). By default as "
            "the name ends, .onnx or .pt2; else a folder."
        ),
    ] = None,
    licence: Annotated[
        str | None, Parameter(name="--license", help="For the model card, as hubs abbreviate it, such as apache-2.0.")
    ] = None,
    check: Annotated[
        Path | None, Parameter(help="Images by which the file is checked against the network; by default noise.")
    ] = None,
    int8: Annotated[
        Flag, Parameter(help="ONNX of 8-bit numbers, whose ranges are those of the images of --check.")
    ] = False,
) -> None:
    """Write a trained network with its model card into a folder that datanas and timm load, or as one file."""
    to = to or _FILES.get(folder.suffix.lower(), "folder")
    if int8 and (to != "onnx" or check is None):
        raise ConfigError("--int8: needs --to onnx, and with --check images such as the network will see")
    if to in ("onnx", "torch"):
        if overrides:
            raise ConfigError(f"--to {to}: takes no settings, got {' '.join(overrides)}")
        if licence is not None:
            raise ConfigError("--license: is for the card of a folder; a file has none")
        if int8:
            from datanas.deploy.int8_file import export_int8

            assert check is not None
            print(f"written to {folder}: takes images in 0..1; {export_int8(path, folder, check).text()}")
            return
        if to == "onnx":
            from datanas.deploy.onnx_file import export_onnx as write
        else:
            from datanas.deploy.torch_file import export_torch as write
        error = write(path, folder, check)
        print(f"written to {folder}: takes images in 0..1; differs from the network by {error:.1e} at most")
        return
    if check is not None:
        raise ConfigError("--check: is for files; a folder is checked when it is loaded")
    from datanas.deploy.export import export
    from datanas.deploy.load import CONFIG_FILE, WEIGHTS_FILE

    form = cast(Literal["folder", "timm", "hub"], to)
    export(path, folder, parse_overrides(overrides), to=form, licence=licence)
    print(f"written to {folder}: {WEIGHTS_FILE}, {CONFIG_FILE}, README.md")
    if to == "hub":
        print(f"upload it: hf upload USER/{folder.resolve().name} {folder} .")
        if licence is None:
            print("no licence is chosen: --license apache-2.0, or write it into README.md")
    if to == "timm":
        print(
            f'load it: import datanas.deploy.timm_models, then timm.create_model("local-dir:{folder}", pretrained=True)'
        )
