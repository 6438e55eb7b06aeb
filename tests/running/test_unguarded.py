"""What workers import: an unguarded script is told of itself; modules are not those of the working folder."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from ordercomp.running.workers import LocalPool, refuse_unguarded
refuse_unguarded("discover")
pool = LocalPool(1)
future = pool.submit(print, "")
while not future.done():
    pool.ended(0.2)
future.result()
"""


@pytest.mark.integration
def test_a_script_without_the_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert 'put the call below `if __name__ == "__main__":`' in done.stderr


GUARDED = """
import math
from ordercomp.running.workers import LocalPool
if __name__ == "__main__":
    pool = LocalPool(1)
    future = pool.submit(math.sqrt, 9.0)
    while not future.done():
        pool.ended(0.2)
    pool.close()
    print(future.result())
"""


@pytest.mark.integration
def test_workers_import_nothing_from_the_working_folder(tmp_path: Path) -> None:
    for name in ("ordercomp", "torch", "traceback", "queue"):
        (tmp_path / f"{name}.py").write_text('open("imported", "a").write(__name__)')
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(GUARDED)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path
    )
    assert (done.stdout, done.returncode) == ("3.0\n", 0), done.stderr
    assert not (tmp_path / "imported").exists()
