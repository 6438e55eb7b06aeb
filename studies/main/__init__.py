"""The main jobs: discover, search, and the law of a study."""
