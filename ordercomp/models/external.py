"""Networks that others define: torchvision's and functions of the user's."""

import inspect
from collections.abc import Mapping

from torch import nn

from ordercomp.errors import is_out_of_memory
from ordercomp.plugins import load_function
from ordercomp.sequence import KnobValue
from ordercomp.torchvision_compat import declare_missing_operators

_CLASSES, _CHANNELS = ("classes", "num_classes"), ("channels", "in_channels", "in_chans")


def call_factory(path: str, options: Mapping[str, KnobValue], *, classes: int, channels: int) -> nn.Module:
    """Call the function `package.module:name` with `options` and return the network it makes.

    It also gets the number of classes and of image channels, under the first name of its signature among
    `classes`, `num_classes` and `channels`, `in_channels`, `in_chans`; if it takes any keyword, under the
    first of these. Raises ValueError in one line if it does not take the options, fails or makes no module.
    """
    declare_missing_operators()  # modules of users import torchvision, too
    function = load_function(path)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ValueError(f"{path} cannot be called by its signature; name a Python function") from None
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    arguments = dict(options)
    for names, value in ((_CLASSES, classes), (_CHANNELS, channels)):
        taken = [name for name in names if name in signature.parameters] or [*names[: int(any_keyword)]]
        for name in taken[:1]:
            arguments.setdefault(name, value)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path}{signature} does not take {arguments}: {error}") from None
    try:
        network = function(**arguments)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} failed with {arguments}: {type(error).__name__}: {reason}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path} must return an nn.Module, got {type(network).__name__}")
    return network
