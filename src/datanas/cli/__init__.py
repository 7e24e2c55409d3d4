"""The command `datanas`. One file a command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from datanas import __version__
from datanas.errors import DatanasError

COMMANDS = ("search", "derive", "train", "evaluate", "profile", "list")

app = App(
    name="datanas",
    version=__version__,
    help="Differentiable architecture search: search on your data, derive, retrain, evaluate.",
    help_format="plaintext",
)
for _name in COMMANDS:
    app.command(f"datanas.cli.{_name}:run", name=_name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (DESIGN, "Exit codes")."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    try:
        code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _report(str(error), 2)
    except DatanasError as error:
        if debug:
            raise
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _report("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _report(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
