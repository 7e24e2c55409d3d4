"""A file of torch.export computes what the network says of images in 0..1, without datanas."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import datanas
from datanas.cli import main
from datanas.core.errors import CheckpointError, ConfigError
from datanas.deploy import torch_file
from datanas.deploy.torch_file import DETAILS, export_torch

ALONE = """
import sys
import numpy as np, torch
images = torch.from_numpy(np.load(sys.argv[2]))
(scores,) = torch.export.load(sys.argv[1]).module()(images)
assert "datanas" not in sys.modules
np.save(sys.argv[3], scores.detach().softmax(dim=1).numpy())
"""


@pytest.fixture(scope="module")
def run(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datanas.train("gdas", make_config(tmp_path_factory.mktemp("torch")), quiet=True).path


def test_it_gives_the_probabilities_of_predictions_without_datanas(
    run: Path, tmp_path: Path, tiny_images: Path
) -> None:
    file, given, found = (tmp_path / name for name in ("net.pt2", "images.npy", "found.npy"))
    assert export_torch(run, file, tiny_images) <= 1e-5
    pixels = np.load(tiny_images)["test_x"]
    np.save(given, pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    subprocess.run([sys.executable, "-c", ALONE, str(file), str(given), str(found)], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(found), datanas.load(run).predict_proba(pixels), atol=1e-5)


def test_it_says_what_its_outputs_stand_for_and_takes_one_image(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "net.pt2"), "--to", "torch"]) == 0
    extra = {DETAILS: ""}
    module = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(extra[DETAILS]) == {"classes": ["0", "1", "2"], "task": "classification"}
    (one,) = module(torch.rand(1, 3, 8, 8))
    assert one.shape == (1, 3)


def test_a_file_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(ConfigError, match=r"net\.pt2: exists"):
        export_torch(run, tmp_path / "net.pt2")


def test_another_result_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "relative_difference", lambda *_: 1e-3)
    with pytest.raises(CheckpointError, match="computes something else"):
        export_torch(run, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
