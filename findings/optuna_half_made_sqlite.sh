#!/usr/bin/env bash
# Optuna 5.0.0 on SQLite: a database whose making was cut off between a table and its index stays without it.
#
# The tables are made one statement at a time, each committed by itself, and the next opening makes missing tables
# only. Without the unique index of the study's name `create_study(..., load_if_exists=True)`, which relies on it,
# makes one more study of that name each time, and looking the study up raises. A process that is killed in its first
# tenth of a second can leave such a file.
#
# Seen (Python 3.11, Linux x86-64): the index is not made again, two calls give two studies of one name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
"$folder/venv/bin/python" -W ignore - "$folder/study.db" <<'PYTHON'
import sqlite3
import sys

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
path = sys.argv[1]
INDEX = "ix_studies_study_name"


def indexes() -> list[str]:
    """The indexes that Optuna names, of the table of studies."""
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'studies'")
    found = [name for (name,) in names]
    connection.close()
    return found


optuna.storages.RDBStorage(f"sqlite:///{path}")
assert INDEX in indexes(), "the index has another name now"
connection = sqlite3.connect(path)
connection.execute(f"DROP INDEX {INDEX}")  # what is left of a making that was cut off before it
connection.commit()
connection.close()
made, problem = 0, ""
for _ in range(2):
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        optuna.create_study(study_name="one", storage=storage, load_if_exists=True)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
connection = sqlite3.connect(path)
(made,) = connection.execute("SELECT count(*) FROM studies WHERE study_name = 'one'").fetchone()
connection.close()
print(f"indexes: {indexes()}, studies of one name: {made}, {problem or 'no error'}")
assert INDEX not in indexes(), "a missing index is made now"
assert made == 2, "a second study of the name is no longer made"
PYTHON
