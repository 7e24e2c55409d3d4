"""What the suites share: the names that they run over, and what holds for the settings of any component."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from datanas.core.errors import ConfigError
from datanas.core.registry import Registry
from datanas.core.settings import ComponentConfig, validate


class Contract:
    """A suite over what is registered of one kind, to inherit from.

    Attributes:
        names: what is to be tested is registered as; every test runs for each of them.
    """

    names: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if not self.names or isinstance(self.names, str):
            raise pytest.UsageError(
                f"{type(self).__name__}.names: must list the names that are to be tested, got {self.names!r}"
            )
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names, scope="class")

    @classmethod
    def names_left(cls, registry: Iterable[str]) -> list[str]:
        """The names of a registry that no class on this suite has been written for so far."""
        taken = {name for each in _below(cls) for name in each.names}
        return [name for name in registry if name not in taken]


def _below(cls: type[Contract]) -> Iterator[type[Contract]]:
    for each in cls.__subclasses__():
        yield each
        yield from _below(each)


class ComponentContract(Contract):
    """A suite over components that have settings, `Config`.

    Attributes:
        settings: what they cannot do without, or what makes them quick, as in a recipe.
    """

    registry: ClassVar[Registry[Any]]
    section: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}

    def configure(self, name: str, **settings: Any) -> ComponentConfig:
        """The checked settings of a component, these and those of the class; the test fails where it needs others."""
        try:
            config: ComponentConfig = validate(
                self.registry[name].Config, {"name": name, **self.settings, **settings}, self.section
            )
        except ConfigError as error:
            pytest.fail(f"{type(self).__name__} must say by which settings {name} is tested: {error}", pytrace=False)
        return config

    @pytest.fixture
    def config(self, name: str) -> ComponentConfig:
        return self.configure(name)

    def test_its_settings_are_a_component_of_its_name(self, name: str, config: ComponentConfig) -> None:
        assert isinstance(config, ComponentConfig)
        assert config.name == name
        assert type(config).model_fields["name"].default == name, "the default of its `name` must be what it is called"

    def test_its_settings_survive_being_written(self, config: ComponentConfig) -> None:
        assert validate(type(config), config.model_dump(mode="json"), self.section) == config

    def test_unknown_settings_are_refused(self, config: ComponentConfig) -> None:
        settings = config.model_dump() | {"no_such_setting": 1}
        with pytest.raises(ConfigError, match=rf"{self.section}\.no_such_setting: unknown key"):
            validate(type(config), settings, self.section)
