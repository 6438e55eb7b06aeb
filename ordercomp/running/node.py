"""Training one node of the trie: load the prefix, apply the last step, measure, put both into the store."""

import functools
import importlib
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ordercomp.codec import encode
from ordercomp.data.catalog import load_data
from ordercomp.data.source import ImageOptions
from ordercomp.data.splits import ImageData
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.measuring.accuracy import (
    ACCURACY,
    NUMBER_METRICS,
    ExitLatencies,
    Metric,
    class_metric,
    measure,
    number_metric,
)
from ordercomp.measuring.cost import Cost, measure_cost, recorded_conventions
from ordercomp.measuring.start import check_baseline, check_weights
from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.networks.weights import (
    PRETRAINED,
    CheckpointError,
    fit_weights,
    pretrained_normalization,
    read_weights,
    weights_path,
)
from ordercomp.records import Baseline, Record
from ordercomp.running.jobs import NodeJob, loads_baseline, node_key
from ordercomp.running.store import Store, open_store
from ordercomp.running.task import Task
from ordercomp.running.versions import check_code_version, code_version
from ordercomp.sequence import StageSequence
from ordercomp.shipping.plain import stored_images
from ordercomp.stages.catalog import make_stage
from ordercomp.stages.distill import shrink
from ordercomp.stages.stage import StageError
from ordercomp.training.device import choose_device, describe_hardware
from ordercomp.training.fit import DivergedError, make_objective
from ordercomp.training.together import own_seconds, seats, trained_as_one
from ordercomp.training.trainer import DataTrainer

RANGE_IMAGES = 128  # of the training images, by which an export chooses ranges
SIDE_BY_SIDE = "side_by_side"  # of a record: place and number of seeds that were one network, node by node
LEAST_BATCH = 8  # images; with fewer the statistics of a batch say nothing

_log = logging.getLogger(__name__)


def task_metric(task: Task, data: ImageData) -> Metric:
    """The metric that the task names. Raises ValueError if it, or the criterion, does not suit the data."""
    make_objective(task.criterion, data, task.recipe)
    if data.real != (task.metric in NUMBER_METRICS):
        kind = "real targets: set within, or metric = 'r2'" if data.real else "classes"
        raise ValueError(f"metric {task.metric} does not suit {data.name}, which has {kind}")
    if data.real:
        return number_metric(task.metric, within=task.within, center=data.center, spread=data.spread)
    metric = class_metric(task.metric)
    if task.metric == "top-5" and data.classes <= 5:
        raise ValueError(f"metric top-5 needs more than 5 classes, {data.name} has {data.classes}")
    return metric


def check_guarantee(metric: Metric) -> None:
    """Raise ValueError unless a loss of the metric can be certified by counting images."""
    if not metric.share:
        raise ValueError(
            f"guarantee counts images that are right, which {metric.name} is not a share of; "
            "leave it out, or take accuracy for the metric"
        )


def log_notices(data: ImageData) -> None:
    """Log, as warnings, what a user should know of the data."""
    for notice in data.notices:
        _log.warning(notice)


def log_stage_notices(network: CompressedNetwork) -> None:
    """Log, as warnings, the notices of the stages that the network went through."""
    for done in network.lineage:
        if "notice" in done.achieved:
            _log.warning("%s %s", done.step, done.achieved["notice"])


def train_node(job: NodeJob) -> Record:
    """Train and measure one node, put it into the store and return its record.

    A stage that diverges or cannot be applied gives a record with `error` and no points, which is stored
    too. If memory is short though the node is trained alone, it is trained with half the batch, and with half
    of that; the record then holds the `batch_size`. Raises MemoryError if that does not help, OSError if the
    store or the data cannot be read.
    """
    check_code_version()
    task = job.task
    assert isinstance(task, Task)
    check_latency(task)
    store = open_store(job.store_root, job.store_url)
    start = own_seconds()
    if job.sequence.steps:
        train = functools.partial(_apply_last_step, job, task, store)
    else:
        train = functools.partial(_train_baseline, task, job.seed)
    try:
        network, facts = _within_memory(job, task, train)
        record = _record(job, task, store, network, start, facts)
    except (StageError, DivergedError) as error:
        if not job.sequence.steps:
            raise
        record = _failure(job, task, store, start, str(error))
        store.put(job.key, record)
        return record
    store.put(job.key, record, network.save)
    return record


def start_network(task: Task, *, seed: int) -> tuple[CompressedNetwork, tuple[str, ...]]:
    """The network from which the baseline starts, with the task's weights if there are any.

    Also returns the names that keep new values: a classifier for other classes, which is taken only where
    the baseline is trained on. Raises ValueError if the weights cannot be read or do not fit.
    """
    network = create_network(task, seed=seed)
    if not task.weights:
        return network, ()
    path = weights_path(task.weights, task.model)
    classes = network.architecture.classes if task.baseline_epochs else None
    try:
        new = fit_weights(network.module.body, read_weights(path), classes=classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    return network, tuple(new)


def check_start(task: Task, network: CompressedNetwork, *, seed: int) -> None:
    """Log what the task's weights get right before anything trains.

    Raises ValueError if that is next to nothing. Weights that are trained on first are not judged.
    """
    if task.weights and not task.baseline_epochs:
        for notice in check_weights(network, task_data(task, seed)):
            _log.warning("%s: %s", task.weights, notice)


def create_network(task: Task, *, seed: int) -> CompressedNetwork:
    """The task's untrained network."""
    data = task_data(task, seed)
    network = CompressedNetwork.create(
        task.model, classes=data.classes, channels=data.channels, size=data.size, seed=seed
    )
    if smaller := {name: task.shrink[name] for name in ("depth", "width") if name in task.shrink}:
        network, _ = shrink(network, **smaller)
    mean, std = data.normalization
    scale = (data.center, data.spread) if data.real else ()
    return replace(network, serving=Serving(mean=mean, std=std, names=data.names, scale=scale))


def make_trainer(
    task: Task, *, seed: int, baseline: CompressedNetwork | None = None, batch_size: int | None = None
) -> DataTrainer:
    """A trainer on the task's data, maybe with another batch; the seed also chooses the split."""
    precision = torch.bfloat16 if task.recipe.precision == "bfloat16" else torch.float32
    return DataTrainer(
        data=task_data(task, seed),
        recipe=task.recipe if batch_size is None else replace(task.recipe, batch_size=batch_size),
        seed=seed,
        device=choose_device(),
        precision=precision,
        baseline=baseline,
        criterion=task.criterion,
    )


def _data(
    name: str, split_seed: int, train_limit: int | None, options: ImageOptions, share: float
) -> ImageData:
    key = (name, split_seed, train_limit, options, share)
    data = _recent.pop(key, None)
    if data is None:
        data = load_data(name, split_seed=split_seed, train_limit=train_limit, options=options)
        data = data.shrunk(share) if share < 1 else data
    _recent[key] = data
    while len(_recent) > max(2, seats()):
        del _recent[next(iter(_recent))]
    return data


_recent: dict[tuple[object, ...], ImageData] = {}  # the last one read comes last


def task_data(task: Task, seed: int) -> ImageData:
    """The task's data, split by `seed`; kept in memory for the next call."""
    options = task.image_options
    if task.weights == PRETRAINED and not (options.mean or options.normalize):
        mean, std = pretrained_normalization(task.model)
        options = replace(options, mean=mean, std=std)
    return _data(task.data, seed, task.train_limit, options, task.shrink.get("size", 1.0))


def _within_memory(
    job: NodeJob, task: Task, train: Callable[[int], CompressedNetwork]
) -> tuple[CompressedNetwork, dict[str, int]]:
    """Train with the recipe's batch, or with a smaller one if memory is short, and tell that one."""
    size = task.recipe.batch_size
    while True:
        try:
            return train(size), {} if size == task.recipe.batch_size else {"batch_size": size}
        except Exception as error:
            if not is_out_of_memory(error) or not job.alone:
                raise
            reason = one_line(error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if size // 2 < LEAST_BATCH:
            raise MemoryError(f"memory was short at batches of {task.recipe.batch_size} to {size}: {reason}")
        size //= 2
        _log.warning("memory was short for %s: batches of %d now", job.sequence or "the baseline", size)


def _train_baseline(task: Task, seed: int, batch_size: int) -> CompressedNetwork:
    network, _ = start_network(task, seed=seed)
    check_start(task, network, seed=seed)
    if not task.weights or task.baseline_epochs:
        trainer = make_trainer(task, seed=seed, batch_size=batch_size)
        trainer = trainer.for_stage("baseline", epochs=task.baseline_epochs or 0.0)
        with name_model_in_errors(task):
            epochs = trainer.train(network, fresh=not task.weights)
        if epochs >= 1:  # less is a trial, of which nothing is expected
            check_baseline(network, task_data(task, seed))
    network.module.eval()
    return network


@contextmanager
def name_model_in_errors(task: Task) -> Iterator[None]:
    """Turn what goes wrong in training the uncompressed network into a ValueError of one line."""
    try:
        yield
    except (RuntimeError, DivergedError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{task.model} cannot be trained on {task.data}: {one_line(error)}") from error


def _apply_last_step(job: NodeJob, task: Task, store: Store, batch_size: int) -> CompressedNetwork:
    assert job.parent_key is not None
    step = job.sequence.steps[-1]
    parent = _load(job.parent_key, task, store)
    baseline = None
    if loads_baseline(step):
        baseline = _load(node_key(task.digest, StageSequence(), job.seed), task, store)
    occurrence = job.sequence.order.count(step.stage)
    stage = make_stage(step)
    trainer = make_trainer(task, seed=job.seed, baseline=baseline, batch_size=batch_size).for_stage(
        f"{step.stage}{occurrence}", epochs=float(step.settings.get("epochs", 0.0))
    )
    return stage.apply(parent, trainer=trainer)


def _load(key: str, task: Task, store: Store) -> CompressedNetwork:
    """Read a network of the task from the store; a damaged or foreign one is removed, to be made again."""
    path = store.network_path(key)
    store.has_network(key)  # fetches it, if it lies elsewhere
    try:
        return CompressedNetwork.load(path, model=task.model)
    except CheckpointError as error:
        store.remove(key)
        raise FileNotFoundError(f"{path} was removed: {error}") from None


def _record(
    job: NodeJob, task: Task, store: Store, network: CompressedNetwork, start: float, facts: Mapping[str, int]
) -> Record:
    data = task_data(task, job.seed)
    shares = tuple(task.shrink.get(name, 1.0) for name in ("depth", "width"))
    dense = _dense_cost(task.model, data.classes, data.channels, data.size, shares)
    cost = measure_cost(network)
    metric = task_metric(task, data)
    points = tuple(
        measure(network, validation=data.validation, test=data.test, baseline=dense, cost=cost, metric=metric)
    )
    latency = _latencies(network, data) if task.latency else None
    if latency is not None:
        points = tuple(
            replace(point, extra={**point.extra, **latency.at(point.extra["shares"])}) for point in points
        )
    full_run = points[0]
    baseline = (
        _baseline(job, task, store)
        if job.sequence.steps
        else Baseline(accuracy=full_run.accuracy, test_accuracy=full_run.test_accuracy)
    )
    return Record(
        order=job.sequence.order,
        sequence=str(job.sequence),
        task=task.name,
        seed=job.seed,
        epochs=network.epochs,
        seconds=own_seconds() - start,
        baseline=baseline,
        points=points,
        extra={
            **({} if metric.name == ACCURACY.name else {"metric": metric.name}),
            **({} if data.real else {"classes": data.classes}),
            **({"notices": list(data.notices)} if data.notices else {}),
            **facts,
            **({} if latency is None else {"latency": encode(latency)}),
            **_provenance(job, task, store, start),
            "costs": _costs(cost, dense),
            "achieved": [{"step": str(done.step), **done.achieved} for done in network.lineage],
        },
    )


@functools.lru_cache(maxsize=2)
def _dense_cost(
    model: str, classes: int, channels: int, size: tuple[int, int], shares: tuple[float, ...]
) -> Cost:
    """The cost of the uncompressed network, which no seed changes."""
    network = CompressedNetwork.create(model, classes=classes, channels=channels, size=size)
    depth, width = shares
    return measure_cost(shrink(network, depth=depth, width=width)[0])


def check_latency(task: Task) -> None:
    """Raise ValueError if the task measures latency, and what that takes is not installed."""
    if task.latency:
        _exit_latencies()


def _exit_latencies() -> Callable[..., ExitLatencies]:
    """What measures exported networks; loaded where it is needed, since it belongs to an extra."""
    try:
        exit_latencies: Callable[..., ExitLatencies] = importlib.import_module(
            "ordercomp.shipping.latency"
        ).exit_latencies
    except ImportError as error:
        raise ValueError(
            "latency is measured of exported networks, which needs the extra: pip install "
            f"'ordercomp[export]' ({one_line(error)})"
        ) from None
    return exit_latencies


def _latencies(network: CompressedNetwork, data: ImageData) -> ExitLatencies:
    """Measure the network as exported. Raises StageError if it cannot be."""
    images, _ = stored_images(network, data.train, RANGE_IMAGES)
    try:
        return _exit_latencies()(network, images=images)
    except ValueError as error:
        raise StageError(str(error)) from None


def _failure(job: NodeJob, task: Task, store: Store, start: float, error: str) -> Record:
    return Record(
        order=job.sequence.order,
        sequence=str(job.sequence),
        task=task.name,
        seed=job.seed,
        epochs=0.0,
        seconds=own_seconds() - start,
        baseline=_baseline(job, task, store),
        points=(),
        error=f"{job.sequence.steps[-1]}: {error}",
        extra=_provenance(job, task, store, start),
    )


def _baseline(job: NodeJob, task: Task, store: Store) -> Baseline:
    record = store.get(node_key(task.digest, StageSequence(), job.seed), check_network=False)
    if record is None:
        raise FileNotFoundError(f"the record of the baseline is gone from {store.folder}")
    return record.baseline


def _provenance(job: NodeJob, task: Task, store: Store, start: float) -> dict[str, Any]:
    parent = store.get(job.parent_key, check_network=False) if job.parent_key else None
    before = float(parent.extra.get("cumulative_seconds", 0.0)) if parent else 0.0
    earlier = (parent.extra.get(SIDE_BY_SIDE) or [[0, 1]] * len(job.sequence)) if parent else []
    beside = [*earlier, list(trained_as_one())]
    return {
        **({SIDE_BY_SIDE: beside} if any(count > 1 for _, count in beside) else {}),
        **({"task_source": task.source} if task.source else {}),
        "digest": job.key,
        "parent": job.parent_key,
        "checkpoint": f"{store.folder.name}/{job.key}.safetensors",
        "cumulative_seconds": before + own_seconds() - start,
        "precision": task.recipe.precision,
        "accounting": task.accounting,
        "versions": {"ordercomp": code_version(), "torch": importlib.metadata.version("torch")},
        "hardware": describe_hardware(choose_device()),
    }


def _costs(cost: Cost, dense: Cost) -> dict[str, dict[str, float]]:
    return {
        name: {
            "bitops": cost.bitops(name),
            "bits": cost.bits(name),
            "baseline_bitops": dense.bitops(name),
            "baseline_bits": dense.bits(name),
        }
        for name in recorded_conventions(cost)
    }
