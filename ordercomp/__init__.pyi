"""What `ordercomp` offers, for type checkers; `__init__.py` loads it when it is first used."""

from ordercomp.networks.network import CompressedNetwork as CompressedNetwork
from ordercomp.records import Record as Record
from ordercomp.records import read_records as read_records
from ordercomp.running.task import Task as Task
from ordercomp.running.task import load_task as load_task
from ordercomp.sequence import StageSequence as StageSequence
from ordercomp.shipping.packed import load_network as load_network
from ordercomp.studies.main.compress import compress as compress
from ordercomp.studies.main.discover import discover as discover
from ordercomp.studies.main.search import run_search as run_search
from ordercomp.studies.main.show import show as show
