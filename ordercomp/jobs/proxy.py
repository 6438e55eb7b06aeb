"""Discover by proxy: race on a cheaper copy of the task first, then train what was best there on the task.

The copy gets the loss that makes the same share of its baseline's error, and a part of the budget. What it
says of each chain joins the answer for the task itself as a hint, whose weight is learned from the chains
that both have: a copy that misleads is not believed, and the risk that is stated is that of the task.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ordercomp.analysis.answer import guessed_answer
from ordercomp.analysis.hints import Hints, baseline_error, matched_loss
from ordercomp.analysis.report.text import answer_words
from ordercomp.codec import Number, parse_share
from ordercomp.jobs.check import check_task
from ordercomp.jobs.discover import Discovery, discover
from ordercomp.jobs.law import PROXY_FOLDER
from ordercomp.jobs.law_folder import settle_precision
from ordercomp.measuring.start import chance, is_near_chance
from ordercomp.records import Record, metric_of
from ordercomp.running.jobs import Request, job_chain
from ordercomp.running.node import task_data, train_node
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import SHRINKABLE, Task
from ordercomp.running.workers import one_thread
from ordercomp.sequence import StageSequence

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


SHARE = 0.4  # of the budget that the copy gets
LEAST_EPOCHS = 0.5  # of a stage, that a suggested copy keeps
LARGE = 64  # pixels a side, from which on a suggested copy has images of half of it
_log = logging.getLogger(__name__)


@one_thread()
def discover_by_proxy(
    task: Task,
    proxy: Proxy | None = None,
    *,
    out: Path | str,
    budget_seconds: float | None = 480.0,
    told: Callable[..., None] = lambda *lines: None,
    **options: Any,
) -> Discovery:
    """Like `discover`, with a race on a cheaper copy of the task before it, in the folder `proxy` of `out`.

    Args:
        task: as for `discover`.
        proxy: the copy; `suggested` if left out. One whose baseline is near chance gives way to the next
            better one, with a line in the log.
        out: as for `discover`.
        budget_seconds: of both baselines and both races together; the copy's race gets `SHARE` of it.
        told: hears lines: what copy is raced, at which loss, and what it alone says of the task.
        options: of `discover`, for both races.

    Interrupted on the copy, it gives what was found there; the same call goes on. Raises ValueError, beside
    what `discover` raises, if the copy cannot be built.
    """
    began = time.monotonic()
    check_task(task)
    folder = Path(out)
    told("measuring the baselines of the task and of a cheaper copy, which is raced first")
    copy, cheap = _usable(task, suggested(task) if proxy is None else proxy, folder)
    if not copy.changed:
        return discover(task, out=folder, budget_seconds=_left(budget_seconds, began), **options)
    baseline = _baseline(task, folder)
    errors = (baseline_error([baseline]), baseline_error([_baseline(cheap, folder / PROXY_FOLDER)]))
    loss = matched_loss(task.loss, "error", errors=errors)
    told(
        f"raced first on a copy with {copy}, about {100 * copy.work:.3g} % of the work; its baseline errs in "
        f"{100 * errors[1]:.1f} %, that of the task in {100 * errors[0]:.1f} %: it may lose {100 * loss:.2g}"
        " %"
    )
    part = None if budget_seconds is None else SHARE * budget_seconds
    first = discover(replace(cheap, loss=loss), out=folder / PROXY_FOLDER, budget_seconds=part, **options)
    if first.interrupted:
        return first
    hints = Hints.of([baseline], first.records, first.law.stages, cost=task.cost)
    guess = guessed_answer(hints.draws(task.loss), task.loss)
    words = answer_words(guess, first.law.stages, metric=metric_of(first.records), cost=task.cost)
    told(f"by the copy alone: {words.headline}", *filter(None, (words.cost,)))
    if any(setting not in task.settings for setting in first.settings):
        task = replace(task, settings=first.settings)  # its own ladder starts where that of the copy ended
    return discover(task, out=folder, budget_seconds=_left(budget_seconds, began), hints=hints, **options)


def _left(budget_seconds: float | None, began: float) -> float | None:
    """What is left of a budget that began then, by the monotonic clock; a moment at least."""
    return None if budget_seconds is None else max(1.0, budget_seconds - (time.monotonic() - began))


def suggested(task: Task) -> Proxy:
    """The copy that is taken where none is named: a quarter of the epochs, or else of the images.

    Images of 64 pixels a side and more are halved. Recorded on digits, copies with a quarter of the epochs or
    images rank chains better than narrower networks do, which save less time where networks are small.
    """
    size = 0.5 if min(task_data(task, 0).size) >= LARGE else 1.0
    if task.recipe.epochs * 0.25 >= LEAST_EPOCHS:
        return Proxy(epochs=0.25, size=size)
    return Proxy(images=0.25, size=size)


def _usable(task: Task, proxy: Proxy, folder: Path) -> tuple[Proxy, Task]:
    """The proxy, or the next better one whose baseline knows something, and its task."""
    while True:
        cheap = proxy_task(task, proxy)
        if not proxy.changed:
            return proxy, cheap
        check_task(cheap)
        if not (fault := _fault(cheap, folder)):
            return proxy, cheap
        better = proxy.doubled
        _log.warning("a copy with %s %s: %s instead", proxy, fault, better)
        proxy = better


def _fault(cheap: Task, folder: Path) -> str:
    """Why a copy tells nothing, in the words of its baseline; empty if it does tell."""
    try:
        accuracy = 1 - baseline_error([_baseline(cheap, folder / PROXY_FOLDER)])
    except ValueError as error:  # as one that is trained for an epoch and only guesses
        return f"is of no use, as {error}"
    data = task_data(cheap, 0)
    if not is_near_chance(accuracy, data):
        return ""
    return f"reaches {100 * accuracy:.1f} %, where guessing reaches {100 * chance(data):.1f} %"


def _baseline(task: Task, folder: Path) -> Record:
    """The record of the uncompressed network at the first seed, trained here if it is missing."""
    store: Store = open_store(folder / "store", "")
    job, *_ = job_chain(settle_precision(task, store), Request(StageSequence(), 0), store.folder)
    return store.get(job.key) or train_node(job)
