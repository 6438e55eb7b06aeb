"""Readers of image data sets, one file per kind of format, and the splits they return."""
