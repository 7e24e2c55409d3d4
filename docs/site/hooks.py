"""What `mkdocs` adds to the pages in `docs/`: README and its neighbours, notebooks, public names, and every setting."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
NOTEBOOKS = "notebooks"
BESIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of `docs/`."""
    for source, page in BESIDE.items():
        files.append(File.generated(config, page, content=relinked((ROOT / source).read_text())))
    for notebook in sorted((ROOT / "docs" / NOTEBOOKS).glob("*.ipynb")):
        files.append(File.generated(config, f"{notebook.stem}.md", content=notebook_page(notebook)))
    files.append(File.generated(config, "api.md", content=python_page()))
    files.append(File.generated(config, "options.md", content=options_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links out of `docs/` lead to the pages that stand for these files."""
    return markdown if page.file.generated_by else relinked(markdown)


def relinked(text: str) -> str:
    """Links to `docs/x.md` and `../README.md` as the site has them; to other files of the project the words alone."""

    def place(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        target = target.removeprefix("../").removeprefix("docs/")
        if target in BESIDE:
            return f"[{words}]({BESIDE[target]}{anchor})"
        if target.endswith(".ipynb"):
            return f"[{words}]({Path(target).stem}.md{anchor})"
        return f"[{words}]({target}{anchor})" if (ROOT / "docs" / target).exists() else words

    return _LINK.sub(place, text)


def notebook_page(notebook: Path) -> str:
    """A notebook's cells one below the other, and where the file itself is."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, *rest = parts
    file = f"{NOTEBOOKS}/{notebook.name}"
    note = f'*This page is a notebook: <a href="{file}" download>{notebook.name}</a>. Run it to see what it prints.*'
    return relinked("\n\n".join([title, note, *rest]) + "\n")


def python_page() -> str:
    """A section for each public name, from its docstring."""
    sys.path.insert(0, str(ROOT / "src"))
    import datanas

    homes = {name: f"{home}.{name}" for name, home in datanas._HOMES.items()}
    names = sorted(homes, key=lambda name: (name[0].isupper(), name.lower()))
    sections = "\n\n".join(f'::: {homes[name]}\n    options:\n      heading: "datanas.{name}"' for name in names)
    return f"# Python\n\nAll of these stand in `datanas` itself: `datanas.fit`, `datanas.search`, ...\n\n{sections}\n"


def options_page() -> str:
    """What `datanas options` prints, a list for each section."""
    command = [sys.executable, "-m", "datanas", "options"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines, section = ["# Settings", "", "`datanas options search.alpha` prints a part of these.", ""], ""
    for line in printed.splitlines():
        key, _, form = line.partition(": ")
        if line.startswith(" "):
            lines[-1] += f" {html.escape(line.strip())}"
            continue
        if (of := key.partition(".")[0] if "." in key else "") != section:
            section = of
            lines += ["", f"## {section}", ""]
        lines.append(f"- `{key}`: *{html.escape(form)}*.")
    return "\n".join(lines) + "\n"
