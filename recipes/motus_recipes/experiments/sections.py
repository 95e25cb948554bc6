"""The part of docs/results.md that an experiment writes; what stands around it stays."""

from pathlib import Path

END = "<!-- end -->"


def begin(command: str) -> str:
    """The mark above a part, named for the command that writes it."""
    return f"<!-- begin: written by {command} -->"


def write_part(page: Path, command: str, title: str, body: str) -> None:
    """Replace the part of a command, or begin a section of that title at the page's end."""
    mark = begin(command)
    text = page.read_text() if page.exists() else "# Results\n"
    if mark not in text:
        text = f"{text.rstrip()}\n\n{title}\n\n{mark}\n{END}\n"
    before, _, rest = text.partition(mark)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{mark}\n{body}\n{END}{after}")
