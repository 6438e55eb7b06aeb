"""One page that a person can look at: the verdict first, then what it rests on."""
