"""Whether a task can be measured at all, found out before anything is trained or written."""

from ordercomp.measuring.untrained import apply_untrained, rehearse
from ordercomp.running.aims import task_metric, tell_notices
from ordercomp.running.node import start_network, task_data
from ordercomp.task import Task

__all__ = ["check_task"]


def check_task(task: Task) -> None:
    """Load the data, build the model, and apply each stage alone to it, and all of them, without training.

    Each network takes one step of training on two random images, is copied and counted.

    Raises ValueError if one of these fails, in one line that names it: data that are not there, a model that
    cannot be built or traced, weights that do not fit it, a model without a block that D could drop.
    """
    data = task_data(task, 0)
    task_metric(task, data)
    tell_notices(data)
    if task.data.startswith("photos:"):  # of other data, what lies in memory was decoded already
        for split in (data.train, data.validation, data.test):
            getattr(split, "check")()  # noqa: B009
    network, _ = start_network(task, seed=0)
    alone = {task.sequence(letter, case) for letter in task.stages for case in task.cases}
    rehearse(network)
    for sequence in (*sorted(alone, key=str), task.sequence(task.stages, task.cases[-1])):
        rehearse(apply_untrained(network, sequence))
