"""Functions that settings name: found from anywhere, named from Python, refused with the way out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from datanas.core.errors import ConfigError
from datanas.core.own_function import code_folder, find_function, function_name
from datanas.engine.config import resolve

SOURCE = """
from functools import partial

def double(x):
    return 2 * x

def make(factor):
    return lambda x: factor * x

triple = make(3)
half = partial(int, base=2)
nothing = 5

class Kind:
    def __call__(self, x):
        return x
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module `own_home`, which is the current one; Python forgets it afterwards."""
    (tmp_path / "own_home.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import own_missing_part\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_a_module_of_the_current_folder_is_found(home: Path) -> None:
    assert find_function("own_home:double")(4) == 8
    assert code_folder("own_home:double") == home


def test_what_python_finds_everywhere_has_no_folder() -> None:
    assert find_function("torch.nn.functional:mse_loss") is not None
    assert code_folder("torch.nn.functional:mse_loss") is None
    assert code_folder("math:sqrt") is None


def test_a_noted_folder_counts_more_than_the_current_one(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "own_home.py").write_text("def double(x):\n    return -x\n")
    assert find_function("own_home:double", [other])(4) == -4


def test_a_module_is_not_taken_for_another_one_of_its_name(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "own_home.py").write_text("def double(x):\n    return -x\n")
    assert find_function("own_home:double")(4) == 8
    assert find_function("own_home:double", [home])(4) == 8
    with pytest.raises(ConfigError, match=r"other/own_home\.py is meant, and .*own_home\.py is imported already"):
        find_function("own_home:double", [other])


def test_a_folder_that_is_gone_is_passed_over(home: Path) -> None:
    assert find_function("own_home:double", [home / "gone"])(4) == 8


def test_looking_for_a_module_leaves_the_path_of_python_but_for_its_folder(home: Path) -> None:
    before = [*sys.path]
    find_function("own_home:double")
    assert sys.path in (before, [*before, str(home)])
    with pytest.raises(ConfigError):
        find_function("own_nowhere:double")
    assert sys.path in (before, [*before, str(home)])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_nowhere:f", "no module 'own_nowhere' is in the current folder"),
        ("own_home:doubel", "did you mean 'double'?"),
        ("own_home:nothing", "is int, and a function is needed"),
        ("own_home:Kind", "is a class"),
        ("own_broken:f", "cannot be imported: ModuleNotFoundError: No module named 'own_missing_part'"),
    ],
)
def test_what_cannot_be_called_is_refused_with_the_reason(home: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_function(name)
    assert words in str(error.value)


def test_functions_of_a_module_have_a_name(home: Path) -> None:
    double = find_function("own_home:double")
    assert function_name(double, "loss") == "own_home:double"
    assert function_name("own_home:double", "loss") == "own_home:double"


@pytest.mark.parametrize("label", ["triple", "half"])
def test_what_a_module_holds_has_a_name_though_it_has_none_of_its_own(home: Path, label: str) -> None:
    assert function_name(find_function(f"own_home:{label}"), "loss") == f"own_home:{label}"


def test_what_no_module_holds_is_refused_with_the_way_out() -> None:
    def local(x: float) -> float:
        return x

    for function, because in (
        (lambda x: x, "has no name"),
        (local, "is defined inside another function"),
        (partial(int, base=2), "stands at the top of no module"),
    ):
        with pytest.raises(ConfigError, match=because) as error:
            function_name(function, "loss")
        assert "write it at the top of a file of its own" in str(error.value)


def test_a_function_of_the_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def focal(x: float) -> float:
        return x

    focal.__module__, focal.__qualname__ = "__main__", "focal"
    monkeypatch.setattr(sys.modules["__main__"], "focal", focal, raising=False)
    with pytest.raises(ConfigError, match="transform: focal is defined in __main__"):
        function_name(focal, "transform")


def test_a_class_is_no_function() -> None:
    with pytest.raises(ConfigError, match="got the class Path"):
        function_name(Path, "loss")


def test_a_configuration_notes_the_folder_and_is_read_from_another_one(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve({"task": {"loss": "own_home:double"}})
    assert config.code_folders == (home,)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(home)])
    forget()
    again = resolve(yaml.safe_load(config.to_yaml()))
    assert again == config
    assert sys.modules["own_home"].__file__ == str(home / "own_home.py")


def test_a_configuration_without_functions_notes_none() -> None:
    assert resolve({}).code_folders == ()
    assert resolve({}, [("task.loss", "null")]).model_dump()["task"]["loss"] is None


@pytest.mark.parametrize("given", ["own_home", "own_home.double", "own home:double", ":double", "own_home:", 3])
def test_a_setting_that_names_no_function_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"task\.loss: must name a function that can be imported, as "):
        resolve({"task": {"loss": given}})


def test_every_function_that_is_missing_is_told_by_its_setting(home: Path) -> None:
    with pytest.raises(ConfigError) as error:
        resolve({"task": {"loss": "own_home:no", "train_augment": {"transform": "own_nowhere:f"}}})
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "task.train_augment.transform",
        "task.loss",
    ]
