"""Running: which node of the trie comes next, who trains it, and where its result is kept."""
