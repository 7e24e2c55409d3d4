"""Every registered operation keeps to the contract of operations."""

from __future__ import annotations

from datanas.ops import operations
from datanas.testing import OperationContract


class TestOperations(OperationContract):
    names = sorted(operations)
