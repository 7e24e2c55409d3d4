"""Every registered space keeps to the contract of spaces. A new one is tested by existing."""

from __future__ import annotations

from datanas.spaces import spaces
from datanas.testing import SpaceContract


class TestSpaces(SpaceContract):
    names = sorted(spaces)
