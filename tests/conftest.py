"""What all tests share: helpers beside them (`from builders import make_record`), repeatable properties."""

import os
import sys
from pathlib import Path

from hypothesis import settings

os.environ["ORDERCOMP_CHECK_STATES"] = "1"  # of every runner, in programs that tests start, too
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("ordercomp", deadline=None, derandomize=True)  # a busy machine fails no test
settings.load_profile("ordercomp")
