"""Whether a task can be measured at all, found out before anything is trained or written."""

from collections.abc import Iterator

from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import start_network, task_data, task_metric, tell_notices, tell_what_stages_say
from ordercomp.running.task import Task
from ordercomp.stages.catalog import apply_untrained, rehearse


def check_task(task: Task) -> None:
    """Load the data, build the model, and apply each stage alone to it, and all of them, without training.

    Each network takes one step of training on two random images, is copied and counted.

    Raises ValueError if one of these fails, in one line that names it: data that are not there, a model that
    cannot be built or traced, weights that do not fit it, a model without a block that D could drop.
    """
    for _ in rehearsals(task):
        pass


def rehearsals(task: Task) -> Iterator[CompressedNetwork]:
    """The networks that `check_task` tries, each when it has passed: the task's own one first.

    Then what each stage alone makes of it at each knob setting, and at the end what all of them make of it.
    Raises ValueError as `check_task` does, when the network that fails would be next.
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
    yield network
    for sequence in (*sorted(alone, key=str), task.sequence(task.stages, task.cases[-1])):
        compressed = apply_untrained(network, sequence)
        rehearse(compressed)
        if len(sequence.steps) == 1:
            tell_what_stages_say(compressed)
        yield compressed
