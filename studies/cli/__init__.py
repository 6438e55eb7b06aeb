"""The program `ordercomp`: its commands, and what they print."""
