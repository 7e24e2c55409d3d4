"""The command `datanas`. One file a command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import re
import signal
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from cyclopts import App, CycloptsError

from datanas import __version__
from datanas.core.console import answering, mute, notices, say
from datanas.core.errors import DatanasError, EndedElsewhere, Interrupted

COMMANDS = (
    "fit",
    "search",
    "race",
    "pareto",
    "derive",
    "sample",
    "train",
    "evaluate",
    "predict",
    "profile",
    "calibrate",
    "export",
    "compare",
    "report",
    "runs",
    "options",
    "recipes",
    "list",
)

app = App(
    name="datanas",
    version=__version__,
    help="Differentiable architecture search: search on your data, derive, retrain, evaluate, predict.\n\n"
    "With --debug, any command shows where an error came from.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for _index, _name in enumerate(COMMANDS):
    app.command(import_module(f"datanas.cli.{_name}").run, name=_name, sort_key=_index)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (DESIGN, "Exit codes")."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    tokens = [token for token in given if token != "--debug"]
    try:
        with warnings.catch_warnings(), notices(), answering():
            warnings.showwarning = _show_warning
            code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _report(str(error), 2)
    except EndedElsewhere as error:
        return _quiet_code(error.exit_code)
    except (DatanasError, Interrupted) as error:
        if debug:
            raise
        if isinstance(error, Interrupted) and not _is_first():
            return _quiet_code(error.exit_code)  # the first process says it
        return _report(_with_option_meant(str(error), tokens), error.exit_code)
    except KeyboardInterrupt as error:
        return _report("interrupted", 128 + getattr(error, "signum", signal.SIGINT))
    except BrokenPipeError:
        mute(sys.stdout)
        return 0
    except Exception as error:
        if debug:
            raise
        return _report(f"internal error: {type(error).__name__}: {error}\nplease report it, with what --debug shows", 1)


def _with_option_meant(message: str, tokens: Sequence[str]) -> str:
    """A message of a setting that there is not, with the command's own option where that is spelt more like it."""
    unknown = re.match(r"([a-z_]+): unknown key; (?:did you mean '(\w+)'|known: )", message)
    if unknown is None or not tokens or tokens[0] not in COMMANDS:
        return message
    known = app[tokens[0]].assemble_argument_collection()
    options = {name.removeprefix("--"): name for each in known for name in each.names}
    setting = [unknown[2]] if unknown[2] else []
    close = get_close_matches(unknown[1].replace("_", "-"), [*setting, *options], n=1, cutoff=0.7)
    return f"{unknown[1]}: unknown key; did you mean {options[close[0]]}?" if close and close != setting else message


def _is_first() -> bool:
    distributed = sys.modules.get("datanas.core.joining")
    return distributed is None or bool(distributed.is_first())


def _quiet_code(code: int) -> int:
    """The exit code of a process whose first one tells what has happened: Fabric kills all where one that it started
    does not end with 0.
    """
    return 0 if import_module("datanas.core.joining").was_started_here() else code


def _report(message: str, code: int) -> int:
    speaker = "" if _is_first() else f"process {sys.modules['datanas.core.joining'].rank()}: "
    for line in message.splitlines():
        say(f"{speaker}error: {line}")
    return code


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"warning: {message}")
