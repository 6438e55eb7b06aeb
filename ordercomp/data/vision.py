"""The one door to torchvision, which opens even where torchvision's compiled operators do not load.

Import torchvision's parts from here: `from ordercomp.data.vision import datasets, models, transforms`.
"""

from ordercomp.torchvision_compat import declare_missing_operators

declare_missing_operators()

from torchvision import datasets, models, transforms  # noqa: E402
