"""Proxy: a cheaper copy of a task, on which the order that is best may be looked for first."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ordercomp.codec import Number, parse_share
from ordercomp.running.node import task_data
from ordercomp.running.task import SHRINKABLE, Task

NAMED = " at "  # in a task's name, between the task's own and what the proxy changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Shares of what the task has, each in (0, 1]; with all of them 1 it is the task itself.

    Raises ValueError for other shares.
    """

    epochs: Number = 1.0  # of the baseline and of each stage
    images: Number = 1.0  # for training, of every class alike
    depth: Number = 1.0  # blocks of the network
    width: Number = 1.0  # channels of each of its layers
    size: Number = 1.0  # height and width of the images

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if not 0 < share <= 1:
                raise ValueError(f"{name} of a proxy must be a share in (0, 1], got {share:g}")

    @property
    def changed(self) -> Mapping[str, float]:
        """The shares below 1, by name."""
        return {name: share for name, share in dataclasses.asdict(self).items() if share < 1}

    @property
    def doubled(self) -> "Proxy":
        """The copy with every share doubled, at most to 1."""
        return Proxy(**{name: min(1.0, 2 * share) for name, share in dataclasses.asdict(self).items()})

    @property
    def work(self) -> float:
        """Multiplications of training, about, as a share of the task's."""
        return self.epochs * self.images * self.depth * self.width**2 * self.size**2

    def __str__(self) -> str:
        return ",".join(f"{name}={share:g}" for name, share in self.changed.items()) or "full"

    @classmethod
    def parse(cls, text: str) -> "Proxy":
        """Read `epochs=0.25,width=0.5`, as it formats itself. Raises ValueError that says what is wrong."""
        names = [entry.name for entry in dataclasses.fields(cls)]
        shares: dict[str, float] = {}
        for part in text.split(",") if text != "full" else ():
            name, _, share = part.partition("=")
            if name.strip() not in names:
                raise ValueError(
                    f"proxy must be shares of {', '.join(names)}, such as epochs=0.25,width=0.5, got {text!r}"
                )
            shares[name.strip()] = parse_share(share, name.strip())
        return cls(**shares)


def proxy_task(task: Task, proxy: Proxy) -> Task:
    """The cheaper copy of the task, named after what is changed; with nothing changed the task itself.

    Raises ValueError if the task starts from trained weights and the proxy has another network, or if there
    would be fewer training images than two of each class.
    """
    changed = proxy.changed
    if not changed:
        return task
    recipe = replace(task.recipe, epochs=task.recipe.epochs * proxy.epochs)
    baseline = None if task.baseline_epochs is None else task.baseline_epochs * proxy.epochs
    limit = task.train_limit
    if proxy.images < 1:
        data = task_data(task, 0)
        limit = round(len(data.train) * proxy.images)
        if limit < 2 * data.classes:
            raise ValueError(
                f"images = {proxy.images:g} of a proxy leaves {limit} images of {data.name} for "
                f"{data.classes} classes; it takes at least two of each"
            )
    return replace(
        task,
        name=f"{task.name}{NAMED}{proxy}",
        recipe=recipe,
        baseline_epochs=baseline,
        train_limit=limit,
        shrink={**task.shrink, **{name: changed[name] for name in SHRINKABLE if name in changed}},
    )
