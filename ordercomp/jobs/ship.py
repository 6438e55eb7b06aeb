"""Images of a task as shipped networks take them: to choose ranges by, and to measure accuracy on."""

from torch import Tensor

from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.node import task_data
from ordercomp.running.task import Task, load_task
from ordercomp.shipping.plain import stored_images

TRAINING_IMAGES, TEST_IMAGES = 256, 1000


def task_images(network: CompressedNetwork, task: Task | str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Training images of a task, stored pixel values (n, c, h, w), and test images with their labels.

    Raises ValueError if the network takes images of another shape, or other classes.
    """
    task = load_task(task) if isinstance(task, str) else task
    data = task_data(task, 0)
    architecture = network.architecture
    wanted = (architecture.channels, *architecture.size, architecture.classes)
    came = (data.channels, *data.size, data.classes)
    if came != wanted:
        raise ValueError(
            f"--task must have images (channels, height, width) and classes of {wanted} for this network, "
            f"those of {task.name} are {came}"
        )
    training, _ = stored_images(network, data.train, TRAINING_IMAGES)
    return training, stored_images(network, data.test, TEST_IMAGES)
