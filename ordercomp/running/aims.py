"""What the networks of a task are judged by, once its data, classes or real targets, are known."""

import logging

from ordercomp.data.splits import ImageData
from ordercomp.measuring.accuracy import ACCURACY, NUMBER_METRICS, Metric, class_metric, number_metric
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import Task
from ordercomp.training.fit import make_objective

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


def metric_keys(metric: Metric) -> dict[str, str]:
    """The key of a record that names its metric; accuracy goes without saying."""
    return {} if metric.name == ACCURACY.name else {"metric": metric.name}


def check_guarantee(metric: Metric) -> None:
    """Raise ValueError unless a loss of the metric can be certified by counting images."""
    if not metric.share:
        raise ValueError(
            f"guarantee counts images that are right, which {metric.name} is not a share of; "
            "leave it out, or take accuracy for the metric"
        )


def tell_notices(data: ImageData) -> None:
    """Log, as warnings, what a user should know of the data."""
    for notice in data.notices:
        _log.warning(notice)


def tell_what_stages_say(network: CompressedNetwork) -> None:
    """Log, as warnings, the notices of the stages that the network went through."""
    for done in network.lineage:
        if "notice" in done.achieved:
            _log.warning("%s %s", done.step, done.achieved["notice"])
