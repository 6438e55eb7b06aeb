"""Files that somebody starts from: a commented task, a function for the model and one for the images."""

from pathlib import Path

from ordercomp.files import make_folder

TEMPLATES = ("task.toml", "my_model.py", "my_data.py")


def write_templates(folder: Path) -> list[Path]:
    """Copy all templates to `folder`, which is made if need be, and return their paths.

    Raises ValueError, and writes nothing, if one of them is there already; OSError if it cannot be written.
    """
    paths = [folder / name for name in TEMPLATES]
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already and is left as it is; name another folder")
    make_folder(folder, "folder")
    for path in paths:
        path.write_text((Path(__file__).parent / path.name).read_text(encoding="utf-8"), encoding="utf-8")
    return paths
