"""Statistics over records: fronts, paired evidence, precedence, law, verification. No torch here."""
