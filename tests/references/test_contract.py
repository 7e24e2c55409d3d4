"""Every registered reference keeps to the contract of references. A new one is tested by existing."""

from __future__ import annotations

from datanas.references import references
from datanas.testing import ReferenceContract


class TestReferences(ReferenceContract):
    names = sorted(references)
