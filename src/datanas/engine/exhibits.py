"""exhibits.json of a run: what a report shows of a trained network besides its figures, and where its costs lie."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from datanas.core.errors import RunInUseError, StorageError
from datanas.core.exhibits import FigureTable, exhibit_to_json
from datanas.engine.data_record import read_data_record
from datanas.engine.part_times import INPUTS, REST, measure_parts
from datanas.kernels.hardware import macs_by_module
from datanas.kernels.mixed import MixedNode
from datanas.runs.folder import RunFolder
from datanas.runs.metrics import encode
from datanas.tasks.base import ExhibitMaker, Part, Task

EXHIBITS_FILE = "exhibits.json"
_AUXILIARY = "head.auxiliary"
_log = logging.getLogger(__name__)


def exhibits_text(network: nn.Module, task: Task[Any], part: Part, make: ExhibitMaker) -> str:
    """The file's content: what the task shows of a part, and multiply-adds, parameters and time by part and operation.

    What cannot be made costs no finished training: a warning says why.

    Args:
        network: trained, in evaluation mode.
        make: what `Task.evaluate_fully` gave.
    """
    example = task.example()
    shown = _made(f"what a report shows of task {task.config.name}", make)
    costs = _made("a report's table of times", lambda: timed_cost_tables(network, example))
    costs = costs or _made("a report's table of costs", lambda: cost_tables(network, example))
    counted = len(task.chosen()[part]) if task.metric.counts_examples else None
    document = {"part": part, "examples": counted, "exhibits": shown, "costs": costs}
    return json.dumps(encode(document), allow_nan=False) + "\n"


def _made(what: str, make: ExhibitMaker) -> list[dict[str, Any]]:
    try:
        return [exhibit_to_json(each) for each in make()]
    except Exception as error:
        _log.warning("%s could not be made: %s", what, str(error) or type(error).__name__)
        return []


def keep_exhibits(
    run: Path, network: nn.Module, task: Task[Any], part: Part, make: ExhibitMaker, *, named: bool
) -> None:
    """Write the file into a run that was just measured, where it was measured on its own data and can be written.

    Args:
        named: whether other settings than those of the run are in force.
    """
    if named and read_data_record(run).get("sum") != task.sum_of_examples():
        return
    try:
        with RunFolder.open(run) as folder:
            folder.write_text(EXHIBITS_FILE, exhibits_text(network, task, part, make))
    except (RunInUseError, StorageError) as error:
        _log.warning("what a report shows could not be kept: %s", error)


def cost_tables(network: nn.Module, example: Any) -> Sequence[FigureTable]:
    """Multiply-adds of one example and parameters, by part of the network and by operation.

    Parts are the stem, each cell, and the head; operations those of the cells' nodes, what a cell does to its inputs
    before, and the rest. The auxiliary tower, which is for training only, is left out.
    """
    macs, modules = _own_macs(macs_by_module(network, example)), dict(network.named_modules())
    operations = _operations(modules)
    cells = _cells(modules, operations)
    by_part: dict[str, list[int]] = {}
    by_operation: dict[str, list[int]] = {}
    for name, module in modules.items():
        if name.startswith(_AUXILIARY):
            continue
        own_macs, own_parameters = macs.get(name, 0), sum(each.numel() for each in module.parameters(recurse=False))
        if not own_macs and not own_parameters:
            continue
        cell = next((cell for cell in cells if f"{name}.".startswith(f"{cell}.")), None)
        operation = next((made for path, made in operations.items() if f"{name}.".startswith(f"{path}.")), None)
        part = name.partition(".")[0] if cell is None else cells[cell]
        kind = operation or (REST if cell is None else INPUTS)
        for table, key in ((by_part, part), (by_operation, kind)):
            entry = table.setdefault(key, [0, 0])
            entry[0] += own_macs
            entry[1] += own_parameters
    heads = ("multiply-adds", "parameters")
    return [
        FigureTable(title, (first, *heads), [[key, *entry] for key, entry in table.items()])
        for title, first, table in (("By part", "part", by_part), ("By operation", "operation", by_operation))
        if table.keys() != {REST}
    ]


def timed_cost_tables(network: nn.Module, example: Any) -> Sequence[FigureTable]:
    """The same tables with a column of milliseconds, and a note that says of what and how far they add up."""
    modules = dict(network.named_modules())
    operations = _operations(modules)
    times = measure_parts(network, example, _cells(modules, operations), operations)
    counted = {table.columns[0]: table for table in cost_tables(network, example)}
    tables = []
    for column, spent in (("part", times.by_part), ("operation", times.by_operation)):
        if column not in counted:
            continue
        table = counted[column]
        known = {str(row[0]): row for row in table.rows}
        names = dict.fromkeys([*spent, *known])
        rows = [[*known.get(name, (name, 0, 0)), spent.get(name)] for name in names]
        tables.append(FigureTable(table.title, (*table.columns, "milliseconds"), rows, note=times.note(spent)))
    return tables


def _operations(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The names of the modules that are operations of a cell's nodes, and the operations' own."""
    return {
        f"{name}.ops.{key}": _primitive(key)
        for name, node in modules.items()
        if isinstance(node, MixedNode)
        for key in node.ops
    }


def _own_macs(macs: dict[str, int]) -> dict[str, int]:
    """Of what each module computes, what no module inside it does."""
    own = dict(macs)
    for name, count in macs.items():
        above = name
        while above:
            above = above.rpartition(".")[0]
            if above in own:
                own[above] -= count
                break
    return own


def _cells(modules: dict[str, nn.Module], operations: dict[str, str]) -> dict[str, str]:
    """The names of the modules that are cells, in order, and what they are called: the nearest items of a list above
    the operations.
    """
    cells: dict[str, str] = {}
    for path in operations:
        above = path.split(".")
        lists = [i for i in range(1, len(above)) if isinstance(modules[".".join(above[:i])], nn.ModuleList)]
        if lists:
            cells.setdefault(".".join(above[: lists[-1] + 1]), "")
    names = [name for name in modules if _is_sibling(name, cells, modules)]
    return {name: f"cell {number}" for number, name in enumerate(names, start=1)}


def _is_sibling(name: str, cells: dict[str, str], modules: dict[str, nn.Module]) -> bool:
    """Whether a module is a cell, or stands in a list of cells: one without operations has none to be found by."""
    above = name.rpartition(".")[0]
    lists = {cell.rpartition(".")[0] for cell in cells}
    alike = {type(modules[cell]) for cell in cells}
    return bool(above) and above in lists and type(modules[name]) in alike


def _primitive(key: str) -> str:
    """The operation's name from a key such as 0_sep_conv_3x3, or 0_sep_conv_3x3_again1 of the second on an edge."""
    return key.partition("_")[2].partition("_again")[0] or key
