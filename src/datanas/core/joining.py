"""How the processes of a run come together: started here, or by torchrun or Slurm.

Lightning Fabric starts them and joins them; it is imported here alone, and only where there is more than one process.
"""

from __future__ import annotations

import atexit
import builtins
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch import distributed as dist

from datanas.core.console import say
from datanas.core.errors import ConfigError, ProcessLostError
from datanas.core.processes import ALONE, Processes, ProcessGroup

_joined: ProcessGroup | None = None


def join(accelerator: str, devices: int, num_nodes: int, timeout: float) -> Processes:
    """Start the other processes of this run, or join those that torchrun or Slurm has started.

    Where it starts them, each runs this process's command from its beginning and arrives here too. A second call gives
    the same processes again.

    Args:
        accelerator: cpu, cuda or mps.
        devices: processes on this machine, one a device.
        num_nodes: machines.
        timeout: seconds after which a process that does not answer is lost.

    Raises:
        ConfigError: the numbers do not fit the machine, or what started this process.
        ProcessLostError: another process does not come.
    """
    global _joined
    is_elastic = dist.is_available() and dist.is_torchelastic_launched()
    if is_elastic:
        started, here = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if devices * num_nodes not in (1, started):
            raise ConfigError(f"devices: {devices} on {num_nodes} machines, but torchrun has started {started}")
        devices, num_nodes = here, started // here
    if _joined is not None:
        if (_joined.size, _joined.device.type) != (devices * num_nodes, accelerator):
            raise ConfigError(
                f"devices: this program runs as {_joined.size} processes on {_joined.device.type} already"
            )
        return _joined
    if devices * num_nodes == 1:
        return ALONE
    if num_nodes > 1 and not is_elastic and "SLURM_NTASKS" not in os.environ:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
        if missing:
            raise ConfigError(f"num_nodes: {num_nodes} machines need {' and '.join(missing)} set on each, or torchrun")
    are_there = is_elastic or "SLURM_NTASKS" in os.environ or "LOCAL_RANK" in os.environ
    if devices > 1 and not are_there and (what := _what_cannot_be_run_again()):
        raise ConfigError(
            f"devices: {devices} processes need this program to run {devices} times, which cannot be done with {what}; "
            f"put it into a script file, use the command line (datanas search --devices {devices}) or take devices=1"
        )
    with _environment_restored():
        _joined = _start(accelerator, devices, num_nodes, timeout)
    return _joined


def _what_cannot_be_run_again() -> str | None:
    """What started this program, where starting it again by its file or module would not do the same; else None."""
    main = sys.modules["__main__"]
    specification = getattr(main, "__spec__", None)
    if getattr(sys, "frozen", False):
        return "a frozen executable"
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "get_ipython"):
        return "a notebook or an interactive session"
    if multiprocessing.parent_process() is not None:
        return "a process that multiprocessing has started"
    if specification is not None:
        return "a folder or an archive that is run" if specification.name == "__main__" else None
    if not getattr(main, "__file__", None):
        return "python -c, standard input or an embedded Python"
    if not os.path.isfile(sys.argv[0]):
        return f"a script that is no longer found ({sys.argv[0]!r})"
    return None


_SET_BY_FABRIC = (
    *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS"),
    *("PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR"),  # by being imported
)


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Run a block that starts processes, and take back what it sets for them in the environment and in loggers."""
    variables = {name: os.environ.get(name) for name in _SET_BY_FABRIC}
    loggers = [logging.getLogger(name) for name in ("lightning.fabric", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _start(accelerator: str, devices: int, num_nodes: int, timeout: float) -> ProcessGroup:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.launchers import subprocess_script
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    for name in ("lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    observer = logging.getLogger(subprocess_script.__name__)
    observer.setLevel(logging.INFO)
    observer.addHandler(_Observer())
    observer.propagate = False
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=DDPStrategy(timeout=timedelta(seconds=timeout)),
        )
        fabric.launch()
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise ProcessLostError(f"not all of {devices} x {num_nodes} processes have come: {reason}") from None
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"devices: {devices} x {accelerator} on {num_nodes} machines: {reason}") from None
    atexit.register(dist.destroy_process_group)
    return ProcessGroup(fabric.device)


class _Observer(logging.Handler):
    """Fabric kills all that is left once a process that it started has failed, and says so to its log alone."""

    def emit(self, record: logging.LogRecord) -> None:
        if "terminated" in record.getMessage():
            say("error: a process of this run has failed, all end; go on with --resume")


def was_started_here() -> bool:
    """Whether the first process of this machine has started this one, and kills all where it fails."""
    is_local = _joined is not None and not dist.is_torchelastic_launched() and "SLURM_NTASKS" not in os.environ
    return is_local and os.environ.get("LOCAL_RANK", "0") != "0"


def rank() -> int:
    """The place of this process among those of its run."""
    return 0 if _joined is None else _joined.rank


def is_first() -> bool:
    """Whether this process is the one that speaks: alone, or the first of its run."""
    return rank() == 0
