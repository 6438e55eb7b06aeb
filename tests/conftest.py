"""What all tests share: helpers beside them (`from builders import make_record`), repeatable properties."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("ordercomp", deadline=None, derandomize=True)  # a busy machine fails no test
settings.load_profile("ordercomp")
