"""What a report shows of one run, whatever its kind: its findings, its cell, its sections, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datanas.report.cells import cell_text
from datanas.report.page.blocks import Block, Code, Drawing, Facts, Lacking, Part, Prose, Section
from datanas.report.page.choice_part import comparison_sections, fit_sections, race_sections
from datanas.report.page.drawing import cell_svgs
from datanas.report.page.folder import Folder
from datanas.report.page.front_part import front_sections
from datanas.report.page.search_part import search_facts, search_sections
from datanas.report.page.terms import Terms
from datanas.report.page.train_part import score_lines, train_sections
from datanas.report.run_text import findings

_MOST_CELLS = 6
_WARNING = "warning: "
_ARTICLES = {
    "search": "a search",
    "train": "a training",
    "race": "a race",
    "pareto": "a front",
    "compare": "a comparison",
    "fit": "a fit",
}


def run_part(folder: Folder, anchor: str, terms: Terms, *, frames: int, pictures: int, title: str = "") -> Part:
    """All of one run. What cannot be read is said in place of it, and noted in `folder.faults`.

    Args:
        frames, pictures: how many of them a page has room for.
        title: what the run is called; its folder's name, by default.
    """
    run = folder.overview
    lead = ", ".join(filter(None, [_ARTICLES.get(run.kind, "a run"), run.about, run.state, _epochs(run.progress)]))
    builders: dict[str, Callable[[], Iterator[Section]]] = {
        "search": lambda: search_sections(folder, terms, frames),
        "train": lambda: train_sections(folder, terms, pictures),
        "race": lambda: race_sections(folder, terms),
        "pareto": lambda: front_sections(folder, terms),
        "compare": lambda: comparison_sections(folder, terms),
        "fit": lambda: fit_sections(folder, terms),
    }
    sections = _guarded(folder, "What was found", lambda: _outcome(folder, terms))
    if run.kind in builders:
        sections += _guarded(folder, "What it says", builders[run.kind])
    sections += _guarded(folder, "Settings and how to repeat it", lambda: _settings(folder))
    return Part(anchor, title or run.path.name or str(run.path), f"{lead[:1].upper()}{lead[1:]}.", sections)


def _guarded(folder: Folder, title: str, build: Callable[[], Iterator[Section]]) -> list[Section]:
    """The sections as far as they can be made of what the folder holds: nobody can say how a file is damaged."""
    made: list[Section] = []
    try:
        for section in build():
            made.append(Section(section.title, list(section.blocks)))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        folder.faults.append(f"{title}: {reason}")
        text = (
            f"From here on the files of this run could not be read ({reason}). They are damaged or of another version."
        )
        made.append(Section(title, [Lacking(text)]))
    return made


def _epochs(progress: str) -> str:
    return f"{progress.replace('/', ' of ')} epochs" if progress else ""


def _outcome(folder: Folder, terms: Terms) -> Iterator[Section]:
    run, architecture = folder.overview, folder.architecture
    lines = findings(run, architecture)
    warnings = [line.removeprefix(_WARNING) for line in lines if line.startswith(_WARNING)]
    blocks: list[Block] = []
    scores = score_lines(folder, terms) if run.kind == "train" else None
    if scores is not None:
        blocks.append(scores)
        lines = []
    said = [_sentence(line) for line in lines if line and not line.startswith(_WARNING)]
    if said or warnings:
        blocks.append(Prose(said, warnings=warnings))
    if run.state == "running":
        blocks.append(Lacking("The run is under way; this is what it has written so far."))
    elif run.kind == "train" and run.state == "stopped":
        blocks.append(Lacking("It has not been measured: it did not come to its end."))
    if architecture is not None:
        svgs = cell_svgs(architecture)[:_MOST_CELLS]
        more = len(architecture.cells) - len(svgs)
        caption = f"{more} further cells are in the words below." if more else ""
        blocks.append(Drawing(svgs, caption, cell_text(architecture)))
    elif run.kind == "search":
        blocks.append(Lacking("No cell has been kept yet."))
    if run.kind == "search" and (facts := search_facts(folder)) is not None:
        blocks.append(facts)
    if blocks or run.kind != "compare":  # whose verdict stands with its table
        yield Section("What was found", blocks or [Lacking("The folder says nothing yet.")])


def _sentence(line: str) -> str:
    text = line[:1].upper() + line[1:]
    return text if text.endswith((".", "!", "?")) or " --resume " in text or "datanas " in text else f"{text}."


def _settings(folder: Folder) -> Iterator[Section]:
    env, path, kind = folder.json("env.json"), folder.path, folder.overview.kind
    blocks: list[Block] = []
    versions, cpu = env.get("versions"), env.get("cpu")
    facts = [("started", folder.overview.started)]
    if isinstance(versions, dict):
        facts.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)))
    facts += [("Python", str(env.get("python", ""))), ("system", str(env.get("platform", "")))]
    if isinstance(cpu, dict):
        facts.append(("processor", f"{cpu.get('model', '')}, {cpu.get('count', '?')} cores"))
    devices = env.get("devices")
    facts.append(("accelerators", ", ".join(map(str, devices)) if isinstance(devices, list) and devices else ""))
    facts.append(("commit", str(env.get("git_commit") or "")))
    resumed = env.get("resumed")
    if isinstance(resumed, list):
        exact = all(isinstance(each, dict) and each.get("bit_exact") for each in resumed)
        facts.append(
            ("gone on", f"{len(resumed)} times, {'bit for bit' if exact else 'not bit for bit; see env.json'}")
        )
    if facts := [(name, value) for name, value in facts if value]:
        blocks.append(Facts(facts))
    else:
        blocks.append(Lacking("env.json is missing: versions and machine are not known."))
    commands = [_command(env.get("command"))]
    if kind in _REPEATED and (path / "config.yaml").is_file():
        architecture = f" {shlex.quote(str(path / 'architecture.json'))}" if kind == "train" else ""
        config = shlex.quote(str(path / "config.yaml"))
        commands.append(f"datanas {kind}{architecture} -c {config} --run.name again")
    if text := "\n".join(filter(None, commands)):
        blocks.append(Code("The command that made it, and one that repeats it with the settings below", text))
    if config_text := folder.text("config.yaml"):
        blocks.append(Code("All settings (config.yaml)", config_text, folded=True))
    yield Section("Settings and how to repeat it", blocks)


_REPEATED = ("search", "train", "compare")


def _command(given: Any) -> str:
    """The command line of a run as people type it."""
    if not isinstance(given, str) or not given:
        return ""
    program, _, rest = given.partition(" ")
    named: Sequence[str] = ("__main__.py", "datanas", "datanas.exe")
    return f"datanas {rest}" if program.strip("'\"").replace("\\", "/").rpartition("/")[2] in named else given
