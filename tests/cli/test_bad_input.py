"""Whatever is wrong with what a user gives: one clear message, the exit code, and no run begun."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas import architecture


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--sampler.sampels", "5"], "sampler.sampels: unknown key; did you mean 'samples'?"),
        (["--serach.epochs", "5"], "serach: unknown key; did you mean 'search'?"),
        (["--resum", "runs/first"], "resum: unknown key; did you mean --resume?"),
        (["--devic", "cpu"], "devic: unknown key; did you mean 'device'?"),
        (["--print_confg", "1"], "print_confg: unknown key; did you mean --print-config?"),
        (["--xyz", "1"], "xyz: unknown key; known: budget, "),
        (["--search.weights.leraning_rate", "1"], "search.weights.leraning_rate: unknown key; "),
        (["--sampler.constraint.gama", "1"], "sampler.constraint.gama: unknown key; did you mean 'gamma'?"),
        (["--sampler.samples", "0"], "sampler.samples: must be at least 1, got 0"),
        (["--sampler.tau.start", "0"], "sampler.tau.start: must be greater than 0.0, got 0"),
        (["--sampler.name", "ges"], "sampler.name: unknown sampler 'ges'; did you mean 'egs'?"),
        (["--search.epochs", "many"], "search.epochs: must be a"),
        (["--search.split", "1:0"], "search.split: a ratio must be two positive numbers m:n"),
        (["--search.precision", "float16"], "search.precision: must be 'float32' or 'bfloat16', got 'float16'"),
        (["--space.primitives", "[none, sep_conv]"], "space.primitives: unknown operation 'sep_conv'"),
        (["--run.name", "a/b"], "run.name: must be the name of one folder"),
        (["--device", "toaster"], "device: 'toaster' cannot be used here"),
        (["--seed", "x"], "--seed: unable to convert"),
        (["--sampler.samples"], "--sampler.samples: a value must follow"),
        (["surplus"], "unexpected argument 'surplus'; settings are given as --section.key value"),
        (["-c", "no-such-file.yaml"], "no-such-file.yaml: No such file or directory"),
        (["--plugin", "no-such-file.py"], "no-such-file.py: no such file"),
    ],
)
def test_bad_settings(given: list[str], message: str, settings: list[str], refused: Callable[..., None]) -> None:
    refused(2, message, "search", *settings, *given)


def test_every_fault_is_told_in_a_line_of_its_own(settings: list[str], runs: Path, cli: Callable[..., Any]) -> None:
    faults = ["--sampler.samples", "0", "--space.cells", "1", "--search.epochs", "0", "--task.stme", "cifar"]
    code, out, err = cli("search", *settings, *faults)
    assert (code, out) == (2, "")
    assert sorted(line.split(": ")[1] for line in err.splitlines()) == [
        "sampler.samples",
        "search.epochs",
        "space.cells",
        "task.stme",
    ]
    assert not runs.exists()


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_a_recipe_that_is_no_recipe(text: str, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    refused(2, "bad.yaml: ", "search", "-c", tmp_path / "bad.yaml")


LABELS = np.arange(24) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)


def with_nan() -> np.ndarray:
    pixels = (PIXELS / 255).astype(np.float32)
    pixels[3, 2, 2, 1] = np.nan
    return pixels


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"classes": np.array(["a", "b", "c", "d"])}, "class 'd' has no training image; each class needs at least one"),
        ({"train_y": 0 * LABELS, "test_y": 0 * LABELS}, "only one class; at least two are needed"),
        ({"train_x": np.array([{"a": 1}] * 24)}, "train_x holds pickled objects; store plain arrays"),
        ({"train_x": PIXELS.astype(np.int64)}, "train_x must be uint8 in 0..255 or floating in 0..1, got int64"),
        ({"train_x": PIXELS.astype(np.float32)}, "train image 0 has pixels outside 0..1"),
        ({"train_x": PIXELS[:, :, :, :2]}, "train and test images differ"),
        ({"train_x": PIXELS[:5]}, "train_x holds 5 images but train_y 24 labels"),
        ({"test_x": PIXELS[:, :4]}, "train and test images differ"),
        ({"train_y": LABELS - 1}, "train image 0 has the label -1; labels must be in 0..2"),
        ({"train_y": 10_000 * LABELS}, "a label is 20000 but there are only"),
        ({"train_y": LABELS, "classes": np.array(["a", "b"])}, "train image 2 has the label 2; labels must be in 0..1"),
        ({"train_x": with_nan(), "test_x": (PIXELS / 255).astype(np.float32)}, "train image 3 has NaN"),
        ({"train_x": PIXELS[:0], "train_y": LABELS[:0]}, "train holds no images"),
    ],
)
def test_bad_arrays(
    arrays: dict[str, Any], message: str, tmp_path: Path, settings: list[str], refused: Callable[..., None]
) -> None:
    whole = {"train_x": PIXELS, "train_y": LABELS, "test_x": PIXELS, "test_y": LABELS}
    np.savez(tmp_path / "bad.npz", **{**whole, **arrays})
    refused(8, message, "search", *settings, "--data.root", tmp_path / "bad.npz")


def test_labels_that_are_numbers_are_for_another_task(
    tmp_path: Path, settings: list[str], refused: Callable[..., None]
) -> None:
    np.savez(tmp_path / "bad.npz", train_x=PIXELS, train_y=LABELS / 2, test_x=PIXELS[::-1], test_y=LABELS[::-1] / 2)
    refused(
        2,
        "these have numbers, for which there is --task.name regression",
        "search",
        *settings,
        "--data.root",
        tmp_path / "bad.npz",
    )


@pytest.mark.parametrize("command", [["search"], ["train", "darts_v2"]])
def test_missing_data(command: list[str], tmp_path: Path, settings: list[str], refused: Callable[..., None]) -> None:
    refused(8, "gone.npz: no such file", *command, *settings, "--data.root", tmp_path / "gone.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_an_archive_that_is_none(
    content: bytes, tmp_path: Path, settings: list[str], refused: Callable[..., None]
) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    refused(8, "bad.npz", "search", *settings, "--data.root", tmp_path / "bad.npz")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A sound folder of images."""
    root = tmp_path / "images"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(PIXELS[number]).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def folder_settings(
    images: Path, tiny_config: dict[str, Any], options: Callable[[dict[str, Any]], list[str]]
) -> list[str]:
    return options({**tiny_config, "data": {"name": "folder", "root": str(images)}})


def test_sound_images_are_taken(folder_settings: list[str], cli: Callable[..., Any]) -> None:
    """Negative control: what the tests below spoil is searched on as it stands."""
    assert cli("search", *folder_settings, "--search.epochs", 1, "--quiet").code == 0


def test_images_of_mixed_sizes(images: Path, folder_settings: list[str], runs: Path, cli: Any, refused: Any) -> None:
    Image.fromarray(PIXELS[0, :6]).save(images / "bee" / "9.png")
    refused(8, "9.png is 8x6; choose one with --data.resize N", "search", *folder_settings)
    resized = ["--data.resize", 8, "--search.epochs", 1, "--quiet"]
    assert cli("search", *folder_settings, *resized).code == 0


def test_a_broken_image(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    file = images / "ant" / "3.png"
    file.write_bytes(file.read_bytes()[:60])
    refused(8, f"{file} is broken", "search", *folder_settings)


def test_a_file_that_is_no_image(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    (images / "ant" / "3.png").write_text("an essay on ants")
    refused(8, "3.png is broken (not an image)", "search", *folder_settings)


def test_a_folder_without_images(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    for file in (images / "bee").iterdir():
        file.unlink()
    refused(8, f"{images / 'bee'} holds no images", "search", *folder_settings)


def test_a_folder_without_classes(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    for file in images.rglob("*.png"):
        file.unlink()
    for folder in list(images.iterdir()):
        folder.rmdir()
    refused(8, "holds no class folders", "search", *folder_settings)


def test_a_folder_of_one_class(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    for file in (images / "bee").iterdir():
        file.unlink()
    (images / "bee").rmdir()
    refused(8, "only one class; at least two are needed", "search", *folder_settings)


def test_a_class_of_one_image(images: Path, folder_settings: list[str], refused: Callable[..., None]) -> None:
    for number in range(1, 8):
        (images / "bee" / f"{number}.png").unlink()
    refused(8, "class 'bee' has 1 readable images; a split needs two or more", "search", *folder_settings)


def document() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(architecture("darts_v2").to_json())
    return plain


def unknown_operation(plain: dict[str, Any]) -> None:
    names = plain["cells"]["normal"]["primitives"]
    names[names.index("sep_conv_3x3")] = "sep_conf_3x3"


def wrong_length(plain: dict[str, Any]) -> None:
    plain["cells"]["normal"]["code"][3] = "0001"


def missing_input(plain: dict[str, Any]) -> None:
    plain["cells"]["reduce"]["edges"][0] = [7, 2]


def future_version(plain: dict[str, Any]) -> None:
    plain["version"] = 99


def missing_cell(plain: dict[str, Any]) -> None:
    del plain["cells"]["reduce"]


def unknown_space(plain: dict[str, Any]) -> None:
    plain["space"] = "hyperbolic"


@pytest.mark.parametrize("command", ["train", "profile"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unknown_operation, "cells.normal: unknown operation 'sep_conf_3x3'; did you mean 'sep_conv_3x3'?"),
        (wrong_length, "cells.normal.code[3]: must be text of 8 digits, one a primitive, got '0001'"),
        (missing_input, "cells.reduce.edges[0]: source 7 must be lower than target 2"),
        (future_version, "version: written by a newer datanas: schema version 99, this one reads up to 1"),
        (missing_cell, "cells: reduce is missing; a conv_cell network needs both"),
        (unknown_space, "space: no space 'hyperbolic' is known here; known: conv4, conv_cell"),
    ],
)
def test_bad_architecture_files(
    spoil: Callable[[Any], None],
    message: str,
    command: str,
    tmp_path: Path,
    settings: list[str],
    refused: Callable[..., None],
) -> None:
    plain = document()
    spoil(plain)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(plain))
    refused(3, message, command, file, *(settings if command == "train" else []))


@pytest.mark.parametrize("command", ["train", "profile"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80\x04\x95 a pickle", random.Random(0).randbytes(500)])
def test_architecture_files_of_any_bytes(
    content: bytes, command: str, tmp_path: Path, settings: list[str], refused: Callable[..., None]
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    refused(3, f"{file}: ", command, file, *(settings if command == "train" else []))


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ([], 2, "train needs an architecture: a file, a search's run folder or a published name"),
        (["darts_v3"], 2, "unknown architecture 'darts_v3'; did you mean 'darts_v2'?"),
        (["gone.json"], 2, "architecture gone.json: no such file"),
        (["."], 2, "architecture .: a folder without architecture.json"),
        (
            ["darts_v2_rnn"],
            2,
            "task.name: darts_v2_rnn of space recurrent_cell cannot be trained on task classification",
        ),
    ],
)
def test_an_architecture_that_cannot_be_had(
    given: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    settings: list[str],
    refused: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(code, message, "train", *given, *settings)
