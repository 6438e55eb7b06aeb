"""What `ordercomp` offers, for type checkers; `__init__.py` loads it when it is first used."""

from ordercomp.jobs.compress import compress as compress
from ordercomp.jobs.discover import discover as discover
from ordercomp.jobs.search import run_search as run_search
from ordercomp.jobs.show import show as show
from ordercomp.networks.network import CompressedNetwork as CompressedNetwork
from ordercomp.records import Record as Record
from ordercomp.records import read_records as read_records
from ordercomp.running.task import Task as Task
from ordercomp.running.task import load_task as load_task
from ordercomp.sequence import StageSequence as StageSequence
from ordercomp.shipping.packed import load_network as load_network
