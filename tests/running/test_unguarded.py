"""A script without the `__main__` guard is told so by the workers that import it."""

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
