#!/usr/bin/env bash
# Optuna 5.0.0 on SQLite: looking for a study in a file makes Optuna's tables in it, whatever the file is for.
#
# `load_study` and `get_all_study_names`, which only read, open the storage, and that makes what is missing of the
# tables before anything is looked up. So a wrong path changes another program's database, and an empty file becomes
# one, though the call then says that there is no such study.
#
# Seen (Python 3.11, Linux x86-64): a database with one table has 14 after a `load_study` that raised KeyError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
"$folder/venv/bin/python" -W ignore - "$folder/photos.db" <<'PYTHON'
import contextlib
import sqlite3
import sys

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
path = sys.argv[1]


def tables() -> list[str]:
    """The tables in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in names]


with contextlib.closing(sqlite3.connect(path)) as connection:
    connection.execute("CREATE TABLE photos (name TEXT)")
before, problem = tables(), "no error"
try:
    optuna.load_study(study_name="mine", storage=f"sqlite:///{path}")
except KeyError as error:
    problem = f"KeyError: {error}"
after = tables()
print(f"tables before: {before}, after: {len(after)}, {problem}")
assert problem != "no error", "a study that is not there is found now"
assert before == ["photos"] and "trials" in after, "looking for a study makes no tables any more"
PYTHON
