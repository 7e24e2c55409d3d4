"""Every registered search method keeps to the contract of methods. A new one is tested by existing."""

from __future__ import annotations

from datanas.samplers import samplers
from datanas.testing import SamplerContract


class TestSamplers(SamplerContract):
    names = sorted(samplers)
