"""What every data set keeps to: its settings, what it loads, and what it says of a path that is of no use."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.core.errors import DataError
from datanas.core.settings import ComponentConfig
from datanas.data import datasets
from datanas.data.base import Dataset
from datanas.data.types.corpus import TextData
from datanas.testing.chance import leaving_torch_alone
from datanas.testing.contract import ComponentContract
from datanas.testing.sound_data import CHECKS


def plain(value: Any) -> Any:
    """Nested data as values that `==` compares."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def copied(dataset: Dataset[Any], folder: Path) -> Dataset[Any]:
    """The same data set on a copy of its folder; the test is skipped where it has none."""
    root = getattr(dataset.config, "root", None)
    if root is None or not root.is_dir():
        pytest.skip(f"{dataset.config.name} reads no folder")
    return type(dataset)(dataset.config.model_copy(update={"root": Path(shutil.copytree(root, folder / "copy"))}))


class DatasetContract(ComponentContract):
    """The suite of data sets. One that reads files writes tiny ones in `settings_in`."""

    registry = datasets
    section = "data"

    def settings_in(self, folder: Path) -> Mapping[str, Any]:
        """Write what the data set reads into an empty folder, and say with which settings it is read from there."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, name: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset[Any]:
        suite = cls()
        return datasets[name](suite.configure(name, **suite.settings_in(tmp_path_factory.mktemp(name))))

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, dataset: Dataset[Any]) -> Any:
        return dataset.load()

    @pytest.fixture
    def config(self, dataset: Dataset[Any]) -> ComponentConfig:
        return dataset.config

    def test_loading_again_gives_the_same(self, dataset: Dataset[Any], data: Any) -> None:
        if not is_dataclass(data):
            pytest.skip(f"{type(data).__name__} is no dataclass, so its parts are not known")
        with leaving_torch_alone():
            again = type(dataset)(dataset.config).load()
        assert type(again) is type(data)
        for field in fields(data):
            one, two = plain(getattr(data, field.name)), plain(getattr(again, field.name))
            assert one == two, f"{field.name} is another each time; let the settings alone decide it"

    def test_what_is_loaded_is_sound(self, data: Any) -> None:
        if type(data) not in CHECKS:
            pytest.skip(f"what {type(data).__name__} owes is not known")
        CHECKS[type(data)](data)

    @pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "._"])
    def test_what_tools_leave_in_folders_changes_nothing(
        self, dataset: Dataset[Any], tmp_path: Path, hidden: str
    ) -> None:
        other = copied(dataset, tmp_path)
        before = plain(other.load())
        folders = [tmp_path / "copy", *(path for path in (tmp_path / "copy").rglob("*") if path.is_dir())]
        for folder in folders:
            files = sorted(path for path in folder.iterdir() if path.is_file())[:2]
            if hidden == "._":
                for file in files:
                    file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
                continue
            (folder / hidden).mkdir()
            for file in files:
                shutil.copy(file, folder / hidden / f"{file.stem}-checkpoint{file.suffix}")
        assert plain(other.load()) == before

    def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(
        self, dataset: Dataset[Any], tmp_path: Path
    ) -> None:
        other = copied(dataset, tmp_path)
        before = plain(other.load())
        texts = [*(tmp_path / "copy").rglob("*.txt"), *(tmp_path / "copy").rglob("*.csv")]
        if not texts:
            pytest.skip(f"{dataset.config.name} reads no text here")
        for file in texts:
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
        assert plain(other.load()) == before

    @pytest.mark.parametrize("suffix", ["", ".npz"])
    def test_a_path_that_leads_to_nothing_of_use_is_bad_data_and_named(
        self, name: str, suffix: str, tmp_path: Path
    ) -> None:
        if "root" not in datasets[name].Config.model_fields:
            pytest.skip(f"{name} reads from no path")
        (tmp_path / "sound").mkdir()
        settings = self.settings_in(tmp_path / "sound")
        (tmp_path / f"file{suffix}").write_bytes(b"no data")
        (tmp_path / f"folder{suffix}").mkdir()
        (tmp_path / f"round{suffix}").symlink_to(tmp_path / f"round{suffix}")
        (tmp_path / f"gone{suffix}").symlink_to(tmp_path / "nowhere")
        for path, reason in {
            f"{'x' * 300}{suffix}": "File name too long",
            f"round{suffix}": "Too many levels of symbolic links",
            f"gone{suffix}": "",
            f"missing{suffix}": "",
            f"file{suffix}": "",
            f"folder{suffix}": "",
            f"file{suffix}/below": "",
        }.items():
            config = self.configure(name, **{**settings, "root": tmp_path / path})
            with pytest.raises(DataError, match=reason or None) as caught:
                datasets[name](config).load()
            assert path[:20] in str(caught.value)

    def test_whether_mirrored_images_are_as_good_is_said(self, data: Any) -> None:
        if isinstance(data, TextData):
            pytest.skip("a text is not mirrored")
        assert isinstance(data.bears_mirroring, bool)
