"""A component is found by its name, from the package, from a plugin file or from an entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from datanas.core import registry
from datanas.core.errors import ConfigError
from datanas.core.registry import Registry, load_entry_points, load_plugin
from datanas.ops import operations


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that declares a registry and has two modules that fill it."""
    name = "registry_of_this_test"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from datanas.core.registry import Registry\nthings = Registry('thing', {name!r})\nimported = []\n"
    )
    for module in ("one", "two"):
        (folder / f"{module}.py").write_text(
            f"from {name} import imported, things\n"
            f"imported.append({module!r})\n"
            f"things.register('the_{module}')({module!r})\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def make() -> type:
    class Thing:
        pass

    return Thing


def empty() -> Registry[type]:
    """A registry that has nothing to import."""
    things: Registry[type] = Registry("thing", "nowhere")
    things._filled = True
    return things


def test_what_is_registered_is_found_and_returned() -> None:
    things, thing = empty(), make()
    assert things.register("a")(thing) is thing
    assert things["a"] is thing
    assert "a" in things
    assert "b" not in things


def test_names_come_sorted() -> None:
    things, thing = empty(), make()
    for name in ("b", "c", "a"):
        things.register(name)(thing)
    assert list(things) == ["a", "b", "c"]


def test_a_name_belongs_to_one_object() -> None:
    things = empty()
    things.register("a")(make())

    class Other:
        pass

    with pytest.raises(ConfigError, match=r"thing 'a' is registered twice: .*Thing and .*Other"):
        things.register("a")(Other)
    assert things["a"].__name__ == "Thing"


def test_the_same_definition_may_be_entered_again() -> None:
    """As when a module is reloaded."""
    things = empty()
    things.register("a")(make())
    again = make()
    things.register("a")(again)
    assert things["a"] is again


def test_an_unknown_name_is_shown_with_its_neighbour() -> None:
    things = empty()
    things.register("sep_conv")(make())
    with pytest.raises(ConfigError, match="unknown thing 'sep_cnov'; did you mean 'sep_conv'"):
        things["sep_cnov"]
    with pytest.raises(ConfigError, match="unknown thing 'x'; known: sep_conv"):
        things["x"]


def test_every_module_of_the_package_is_imported_on_first_use(package: str) -> None:
    module = __import__(package)
    assert module.imported == []
    assert list(module.things) == ["the_one", "the_two"]
    assert module.things["the_two"] == "two"
    assert module.imported == ["one", "two"]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Write a plugin file, and forget afterwards that it was imported."""
    before = set(sys.modules)

    def write(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("datanas_plugin_"):
            del sys.modules[name]


REGISTERS = """
from torch import nn
from datanas.ops import register_op

@register_op("twice_of_this_test")
def twice(settings):
    return nn.Identity()
"""


def test_a_plugin_file_adds_a_component(plugin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "twice_of_this_test" not in operations
    monkeypatch.setattr(operations, "_entries", dict(operations._entries))
    load_plugin(plugin(REGISTERS))
    assert "twice_of_this_test" in operations
    assert "skip_connect" in operations


def marking(path: Path) -> str:
    """A plugin that adds an x to a file."""
    return f"with open({str(path)!r}, 'a') as file:\n    file.write('x')\n"


def test_a_plugin_file_is_run_once(plugin: Callable[[str], Path], tmp_path: Path) -> None:
    path = plugin(marking(tmp_path / "runs"))
    load_plugin(path)
    load_plugin(str(path))
    assert (tmp_path / "runs").read_text() == "x"


def test_two_plugins_of_one_name_are_two(plugin: Callable[[str], Path], tmp_path: Path) -> None:
    text = marking(tmp_path / "runs")
    first = plugin(text)
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / first.name
    second.write_text(text)
    load_plugin(first)
    load_plugin(second)
    assert (tmp_path / "runs").read_text() == "xx"


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugin .*gone\.py: no such file"):
        load_plugin(tmp_path / "gone.py")


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(ConfigError, match=r"notes\.txt: not a Python file"):
        load_plugin(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("x = = 1", "SyntaxError"),
        ("from datanas.ops import register_op\nregister_op('none')(print)", "operation 'none' is registered twice"),
    ],
)
def test_a_broken_plugin_is_named_with_its_error(plugin: Callable[[str], Path], text: str, message: str) -> None:
    assert "none" in operations
    path = plugin(text)
    with pytest.raises(ConfigError) as caught:
        load_plugin(path)
    assert str(caught.value).startswith(f"plugin {path}: ")
    assert message in str(caught.value)


def test_a_broken_plugin_can_be_mended(plugin: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_plugin(plugin("1 / 0"))
    load_plugin(plugin(marking(tmp_path / "runs")))
    assert (tmp_path / "runs").exists()


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Install entry points that stand for nothing; gives the names that were loaded."""
    loaded: list[str] = []

    def install(*points: tuple[str, Exception | None]) -> list[str]:
        def load(name: str, error: Exception | None) -> None:
            loaded.append(name)
            if error is not None:
                raise error

        found = [SimpleNamespace(value=n, load=lambda n=n, e=e: load(n, e)) for n, e in points]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "datanas.plugins" else [])
        monkeypatch.setattr(registry, "_plugins_loaded", False)
        return loaded

    return install


def test_entry_points_are_loaded_once(entry_points: Callable[..., list[str]]) -> None:
    loaded = entry_points(("a.plugin", None), ("b.plugin", None))
    load_entry_points()
    load_entry_points()
    assert loaded == ["a.plugin", "b.plugin"]


def test_a_failing_entry_point_is_named(entry_points: Callable[..., list[str]]) -> None:
    entry_points(("a.plugin", KeyError("oops")))
    with pytest.raises(ConfigError, match=r"plugin a\.plugin: KeyError: 'oops'"):
        load_entry_points()


def test_a_failing_entry_point_fails_again(entry_points: Callable[..., list[str]]) -> None:
    """It is not silently absent the second time."""
    entry_points(("a.plugin", KeyError("oops")))
    for _ in range(2):
        with pytest.raises(ConfigError):
            load_entry_points()


def test_a_registry_loads_entry_points_on_first_use(package: str, entry_points: Callable[..., list[str]]) -> None:
    loaded = entry_points(("a.plugin", None))
    assert "the_one" in __import__(package).things
    assert loaded == ["a.plugin"]


def test_what_is_lent_is_there_for_a_block_and_in_no_list() -> None:
    found: Registry[object] = Registry("space", "datanas.spaces")
    lent = object()
    with found.lent("made_up", lent):
        assert found["made_up"] is lent
        assert "made_up" in found
        assert "made_up" not in list(found)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: "made_up" in found).result() is False
    assert "made_up" not in found


def test_a_name_that_is_explained_says_why_it_is_not_there() -> None:
    found: Registry[object] = Registry("space", "datanas.spaces")
    found.explain("module", "a program holds it")
    with pytest.raises(ConfigError, match="space 'module': a program holds it"):
        found["module"]
