"""optuna-dashboard opens what a search leaves, where it is installed."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from benchmarks.search_worlds import SYNTHETIC_KNOBS, SyntheticWorld, TableRunner
from ordercomp.objectives import Objectives
from ordercomp.search.drive import StudySpec, run_study
from ordercomp.search.samplers import make_sampler
from ordercomp.search.space import Space
from ordercomp.search.study import open_storage, open_study

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = Space("DPQE", SYNTHETIC_KNOBS, optional=True)


def get(app: Any, path: str) -> Any:
    """The JSON that a WSGI application answers."""
    status: list[str] = []
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }
    body = b"".join(app(environment, lambda line, headers, *_: status.append(line)))
    assert status[0].startswith("200"), (path, status, body)
    return json.loads(body)


@pytest.mark.integration
@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_the_dashboard_shows_the_study_with_its_sequences(tmp_path: Path, file: str) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    study = open_study(
        tmp_path / file,
        name="search",
        space=SPACE,
        objectives=Objectives(),
        sampler=make_sampler("random", SPACE),
        task="synthetic",
    )
    spec = StudySpec(space=SPACE, objectives=Objectives())
    list(run_study(study, TableRunner(SyntheticWorld()), spec, trials=4))
    app = dashboard.wsgi(open_storage(tmp_path / file))
    (summary,) = get(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "search"
    detail = get(app, f"/api/studies/{summary['study_id']}")
    assert len(detail["trials"]) == len(study.trials)
    assert all(any(one["key"] == "sequence" for one in trial["user_attrs"]) for trial in detail["trials"])
