"""Writing whole files so that a killed process leaves no half one."""

from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, text: str) -> None:
    """Write `text` to `path` at once, so that a killed process leaves no half file. Raises OSError."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
