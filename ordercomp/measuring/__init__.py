"""Measuring: what a network costs, what it reaches at every exit threshold, how long it takes."""
