"""What every component of a kind keeps to, as suites for the tests of whoever adds one.

An author inherits from the suite of the kind and names what was registered:

    from datanas.core.registry import load_plugin
    from datanas.testing import SamplerContract

    load_plugin("one_an_edge.py")

    class TestOneAnEdge(SamplerContract):
        names = ("one_an_edge",)

pytest runs the rest. It is needed here alone, and nothing else of the package imports this.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ModuleNotFoundError(
        "datanas.testing needs pytest, which is not installed; pip install 'datanas[testing]'", name="pytest"
    ) from None

# So that an assertion that fails shows its values.
_SUITES = (
    "chance",
    "contract",
    "datasets",
    "operations",
    "references",
    "samplers",
    "sound_data",
    "spaces",
    "tasks",
    "task_parts",
)
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))

from datanas.testing.contract import Contract as Contract  # noqa: E402
from datanas.testing.datasets import DatasetContract as DatasetContract  # noqa: E402
from datanas.testing.operations import OperationContract as OperationContract  # noqa: E402
from datanas.testing.references import ReferenceContract as ReferenceContract  # noqa: E402
from datanas.testing.samplers import SamplerContract as SamplerContract  # noqa: E402
from datanas.testing.spaces import SpaceContract as SpaceContract  # noqa: E402
from datanas.testing.tasks import TaskContract as TaskContract  # noqa: E402

__all__ = [
    "DatasetContract",
    "OperationContract",
    "ReferenceContract",
    "SamplerContract",
    "SpaceContract",
    "TaskContract",
]
