"""What somebody's data are, and which task they are for, from what lies at a path."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from datanas.core.errors import ConfigError, DataError, nearest
from datanas.core.paths import folder_entries, shown
from datanas.core.settings import validate
from datanas.data import datasets
from datanas.data.base import ImageData
from datanas.data.decode.image_list import SUFFIXES, ImageList, class_folders, is_hidden
from datanas.data.decode.parts import part_of
from datanas.data.sets.idx import is_idx
from datanas.data.types.class_splits import ClassSplitData
from datanas.data.types.corpus import TextData
from datanas.data.types.file_set import ImageFileData
from datanas.data.types.masks import SegmentationData
from datanas.tasks import tasks

_NETWORKS = frozenset({".safetensors", ".pt", ".pth", ".onnx", ".ckpt", ".h5", ".pkl", ".joblib", ".tflite"})
_TABLES = frozenset({".csv", ".tsv"})
_TEXTS = frozenset({".txt", ".tokens"})
_VOLUMES = frozenset({".nii", ".dcm", ".mha", ".mhd", ".nrrd"})
_NUMBERS = frozenset({".parquet", ".xlsx", ".xls", ".arff", ".feather", ".json", ".jsonl", ".sqlite", ".db"})
_ARRAYS = frozenset({".npy", ".mat", ".hdf5"})
_PACKED = frozenset({".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar"})
_TASKS: Mapping[type, str] = {
    ImageData: "classification",
    ImageFileData: "classification",
    SegmentationData: "segmentation",
    TextData: "language",
    ClassSplitData: "fewshot",
}
"""The task of each kind of data, where nothing is said."""
MASKS = frozenset({"mask", "masks", "annotations", "labels", "gtfine"})


def recognise(data: str | Path, task: str | None = None, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The sections `data` and `task` of a recipe for what lies at a path, or for the data set of that name.

    A folder of class folders (or of `train` and `test` with these), of images and masks, of three texts; an .npz of
    arrays, a .csv of paths and classes, a .txt or a .zip of texts.

    Args:
        task: what is to be done with it; None for what such data are usually for.
        own: settings of the data set that were given, such as where one of this name lies, or its columns.

    Raises:
        DataError: there is nothing, or nothing that can be searched on; the message says what can.
        ConfigError: no such data set.
    """
    path, own = Path(data), own or {}
    if not path.exists() or (own.get("root") is not None and str(data) in datasets):
        if path.suffix or len(path.parts) > 1:
            raise DataError(f"{shown(data)}: no such file or folder")
        if str(data) not in datasets:
            raise ConfigError(f"DATA: {shown(data)} is neither a path nor a data set; {nearest(str(data), datasets)}")
        section: dict[str, Any] = {"name": str(data)}
    else:
        section = {"name": _of_folder(path) if path.is_dir() else _of_file(path), "root": str(path.absolute())}
    if task is not None and (kind := tasks[task].target_kind) and "targets" in _settings(section["name"]):
        section["targets"] = kind
    if task is None:
        task = "clustering" if section["name"] == "folder" and _is_unlabelled(path) else _usual_task(section, own)
    return {"data": section, "task": {"name": task}}


def tell(recognised: Mapping[str, Any]) -> str:
    """What was recognised, in a line for people."""
    data, task = recognised["data"], recognised["task"]["name"]
    root = f" {data['root']}" if "root" in data else ""
    return f"data: {data['name']}{root}; task: {task} (--task says otherwise)"


def _settings(name: str) -> Collection[str]:
    """What can be set of a data set."""
    return datasets[name].Config.model_fields


def _usual_task(section: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    name = section["name"]
    settings = {**{key: value for key, value in own.items() if key in _settings(name)}, **section}
    if "targets" in _settings(name) and "root" in settings and Path(settings["root"]).is_file():
        kind = datasets[name](validate(datasets[name].Config, settings, "data")).target_kind()
        if kind is not None:
            return next(each for each in tasks if tasks[each].target_kind == kind)
    for base in getattr(datasets[name], "__orig_bases__", ()):
        for of in get_args(base):
            for each in (of, *get_args(of)):
                if each in _TASKS:
                    return _TASKS[each]
    raise ConfigError(f"task: data set {name} is of a kind of its own; say what to do with it: --task NAME")


def _of_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _NETWORKS:
        raise DataError(f"{shown(path)}: is a network, and data are needed; what it predicts says datanas predict")
    if suffix in _VOLUMES or path.name.lower().endswith(".nii.gz"):
        raise DataError(f"{shown(path)}: volumes are not searched on; give their slices as images in class folders")
    if suffix in _NUMBERS:
        raise DataError(
            f"{shown(path)}: tables of numbers are not searched on; of images give a .csv of their paths and classes"
        )
    if suffix in _ARRAYS:
        raise DataError(f"{shown(path)}: store images and labels together: numpy.savez('mine.npz', x=images, y=labels)")
    if suffix in _PACKED:
        raise DataError(f"{shown(path)}: an archive; unpack it, and give the folder")
    if suffix in _TABLES:
        return "csv"
    if suffix in _TEXTS:
        return "text"
    if suffix == ".npz":
        return _of_archive(path)
    if suffix == ".zip":
        return _of_zip(path)
    if suffix in SUFFIXES:
        raise DataError(f"{shown(path)}: is one image; give the folder of its class folders")
    raise DataError(f"{shown(path)}: of an unknown kind; give a folder, or a file .npz, .csv, .txt or .zip of texts")


def _of_archive(path: Path) -> str:
    """The data set that is packed in such arrays; plain arrays of images are `npz`."""
    from datanas.data.decode.archive import Archive, encoded_arrays, find_arrays

    where = f"npz {shown(path)}"
    names = Archive(path, where).names
    packed = [name for name in datasets if datasets[name].packed_arrays and datasets[name].packed_arrays <= {*names}]
    if len(packed) == 1:
        return packed[0]
    if not encoded_arrays(names) and find_arrays(names, where):
        return "npz"
    stem = path.stem.lower()
    return stem if stem in datasets else "npz"


def _of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{shown(path)}: not a .zip archive ({error})") from None
    if any(Path(name).suffix.lower() in SUFFIXES for name in names):
        raise DataError(f"{shown(path)}: images are read from folders; unpack it, and give the folder")
    return "text"


def _of_folder(path: Path) -> str:
    entries = [entry for entry in folder_entries(path, DataError) if not is_hidden(entry.name)]
    folders = [entry for entry in entries if entry.is_dir()]
    if _has_masks(folders):
        return "mask_folder"
    if not folders and any(entry.suffix.lower() in _TEXTS and part_of(entry.stem.split(".")[-1]) for entry in entries):
        return "text"
    if any(is_idx(entry.name) for entry in entries):
        return "idx"
    if not folders and not any(entry.suffix.lower() in SUFFIXES for entry in entries):
        tables = [entry for entry in entries if entry.suffix.lower() in _TABLES | {".npz"}]
        if len(tables) == 1:
            raise DataError(f"{shown(path)}: holds no images but {tables[0].name}; give that file")
        raise DataError(
            f"{shown(path)}: holds neither images nor texts; expected {path / 'CLASS' / 'image.png'}, or train.txt, "
            "valid.txt and test.txt"
        )
    return "folder"


def _has_masks(folders: list[Path]) -> bool:
    inside = [folder for folder in folders if part_of(folder.name) == "train"]
    return any(each.name.lower() in MASKS for folder in inside for each in class_folders(folder))


def _is_unlabelled(path: Path) -> bool:
    parts = [folder for folder in class_folders(path) if part_of(folder.name) == "train"]
    return not class_folders(parts[0] if parts else path) and bool(
        ImageList(str(path)).inside(parts[0] if parts else path)
    )
