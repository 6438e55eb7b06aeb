"""Image data sets by name: readers, one file per kind of format, the splits they return, augmentation."""
