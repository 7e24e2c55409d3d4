"""What a run leaves on disk and shows while it works. Nothing here imports torch, save `checkpoint` and its `state`."""

from __future__ import annotations

from datanas.runs.folder import RunFolder
from datanas.runs.metrics import Metrics, read_metrics
from datanas.runs.progress import Progress
from datanas.runs.signals import StopRequest

__all__ = ["Metrics", "Progress", "RunFolder", "StopRequest", "read_metrics"]
