"""What a user should know of the classes of a data set: which are rare, which cannot be measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ordercomp.data.source import Source

IntArray = npt.NDArray[np.int64]

_UNEVEN = 3.0  # times as many images of the commonest class as of the rarest, from which it is told


def class_notices(
    source: Source, parts: Mapping[str, IntArray], *, classes: int, names: Sequence[str] = ()
) -> tuple[str, ...]:
    """Say, a line each, that classes are uneven or have no image in a held-out part.

    `parts` are the labels of each part, by what it is for, the training part first. Data sets that everybody
    has are known to be as they are: nothing is told of them.
    """
    if ":" not in source.name:
        return ()
    counts = {what: np.bincount(labels, minlength=classes) for what, labels in parts.items()}
    called = [repr(name) for name in names] or [str(number) for number in range(classes)]
    notices = []
    (first, trained), *held_out = counts.items()
    rare, common = int(trained.argmin()), int(trained.argmax())
    if trained[common] >= _UNEVEN * max(1, trained[rare]):
        notices.append(
            f"{source.name}: classes are uneven, {trained[common]} {first} images of {called[common]} and "
            f"{trained[rare]} of {called[rare]}: accuracy hides what happens to rare ones; "
            "metric = 'balanced accuracy' does not"
        )
    for what, found in held_out:
        if missing := [called[number] for number in np.flatnonzero(found == 0)]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            notices.append(
                f"{source.name}: the {what} part has no image of the classes {', '.join(missing[:5])}{more}: "
                "what compression does to them is not measured"
            )
    return tuple(notices)
