"""The program from outside: results on stdout, everything else on stderr, and the promised exit statuses."""

import errno
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_record
from program import run

from ordercomp.cli.main import COMMANDS, main
from ordercomp.cli.output import number_text
from ordercomp.errors import FailedRunError
from ordercomp.records import write_records

pytestmark = pytest.mark.integration


def test_cost_prints_the_contract_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "cost", "resnet8(width=8)", "Q(weights=4,activations=8)", "--input", "1x8x8", "--json"
    )
    assert status == 0
    data = json.loads(out)
    assert set(data) == {"params", "macs", "bitops", "bits", "bitops_cr", "cr"}
    assert data["bitops_cr"] == pytest.approx(32)
    assert data["cr"] == pytest.approx(8)


def test_law_reads_records_without_torch_and_without_what_only_pages_need(tmp_path: Path) -> None:
    records = [
        make_record(order, seed=seed, accuracy=accuracy, bitops_cr=8.0)
        for seed in range(3)
        for order, accuracy in (("P", 0.97), ("Q", 0.97), ("PQ", 0.96), ("QP", 0.90 - 0.01 * seed))
    ]
    path = tmp_path / "records.jsonl"
    write_records(path, records)
    program = (
        "import sys; from ordercomp.cli.main import main\n"
        "unneeded = {'torch', 'optuna', 'matplotlib', 'jinja2', 'scipy.stats'}\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*unneeded & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "law", str(path), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == ""
    law = json.loads(done.stdout)
    assert law["stages"] == "PQ"
    assert [(pair["first"], pair["second"]) for pair in law["pairs"]] == [("P", "Q")]


def test_each_help_shows_examples_that_its_command_takes_and_loads_no_torch() -> None:
    program = (
        "import shlex, sys, typer\n"
        "from ordercomp.cli.main import COMMANDS, app, main\n"
        "commands = typer.main.get_command(app).commands\n"
        "for name, lines in zip(commands, COMMANDS.values(), strict=True):\n"
        "    for line in lines:\n"
        "        words = shlex.split(line)\n"
        "        assert words[:2] == ['ordercomp', name]\n"
        "        assert line in commands[name].epilog.replace('\\\\[', '[')\n"
        "        commands[name].make_context(name, words[2:])\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0\n"
        "print(*{'torch', 'optuna', 'matplotlib', 'scipy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.returncode) == ("", 0)
    said = " ".join(done.stdout.split())
    assert [line for lines in COMMANDS.values() for line in lines if line not in said] == []
    assert said.count("<bool>") == len(COMMANDS)  # the library's, of --help; a flag of ours takes none


@pytest.mark.parametrize(("value", "text"), [(0.07, "0.0700"), (621.118, "621.12"), (12345, "12,345")])
def test_shares_are_told_with_four_decimals(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_shell_completes_options_of_a_command() -> None:
    program = "import sys; sys.argv[0] = 'ordercomp'; from ordercomp.cli.main import main; main()"
    wishes = {"COMP_WORDS": "ordercomp compress --s", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **wishes, "_ORDERCOMP_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["--seed", "--store"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cost", "resnet34", "EE"], "may come only once"),
        (["cost", "resnet34", "D(dept=1)"], "no knob 'dept'"),
        (["cost", "resnet34", "P(ratio=2)"], "must lie in"),
        (["cost", "resnet34", "P(ratio=)"], "column 3"),
        (["cost", "resnet43", "P"], "model must be one of"),
        (["cost", "resnet34", "--input", "32x32"], "--input must be"),
        (["cost", "resnet34", "--convention", "mine"], "--convention must be one of"),
        (["cost", "resnet34", "--input", "3x00x32"], "--input must be"),
        (["cost", "resnet34", "--input", "3x99999x99999"], "ten million at most"),
        (["cost", "resnet34", "--classes", "1"], "Invalid value for '--classes'"),
        (["cost", "resnet34", "--nope"], "No such option: --nope"),
        (["cost"], "Missing argument 'model'"),
        (["nothing"], "No such command 'nothing'"),
        (["cost", "no_such_module:net"], "no_such_module"),
        (["cost", "torchvision:squeezenet1_1", "E(exits=9)"], "must lie in"),
        (["law", "missing.jsonl"], "missing.jsonl"),
        (["discover", "--task", "nothing", "--out", "x"], "task must be one of"),
        (["discover", "--stages", "DX", "--out", "x"], "no such stage"),
        (["discover", "--stages", "D", "--out", "x"], "at least two"),
        (["discover", "--budget", "soon", "--out", "x"], "--budget must be"),
        (["discover", "--tune", "soon", "--out", "x"], "--tune must be"),
        (["search", "--from", "nowhere", "--out", "x"], "from must be a folder that discover wrote"),
        (["compress", "", "--out", "x.safetensors"], "at least one stage"),
        (["compress", "Z", "--out", "x.safetensors"], "there is no stage 'Z'"),
        (["search", "--sampler", "luck", "--out", "x"], "sampler must be one of"),
        (
            ["search", "--trials", "1", "--workers", "2", "--out", "x"],
            "must not be fewer than the 2 workers",
        ),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.strip().startswith("ordercomp: ")
    assert arguments[:3] == ["cost", "resnet34", "P(ratio=)"] or len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    status, _, err = run(capsys, "discover", "--out", str(blocked / "out"))
    assert status == 2
    assert str(blocked) in err


def test_plan_counts_the_race(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "plan", "--seeds", "2", "--json")
    assert status == 0
    plan = json.loads(out)
    assert plan["orders_at_the_first_seed"] == 24
    assert plan["trainings_at_most"] == 2 * 127 + 2 * 11  # two settings that share E, and controls
    assert plan["trainings_expected"] < plan["trainings_at_most"]
    assert plan["seconds_expected"] > 0


def test_help_names_every_command_and_loads_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys; from ordercomp.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(*{'torch', 'matplotlib', 'optuna', 'scipy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    for command in COMMANDS:
        assert command.__name__ in done.stdout
        assert (command.__doc__ or "").split()[0] in done.stdout


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("seeds must be at least 1"), 2, "seeds must be at least 1"),
        (FileNotFoundError("no task file at x.toml"), 2, "no task file"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left"),
        (FailedRunError("every stage failed; the first one: no memory"), 1, "every stage failed"),
        (MemoryError(), 1, "MemoryError"),
        (RuntimeError("CUDA out of memory"), 1, "out of memory"),
    ],
)
def test_a_failed_run_ends_with_1_and_bad_input_with_2(
    error: Exception,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ordercomp.cli.inspect.parse_shape", fail)
    found, out, told = run(capsys, "cost", "resnet8")
    assert (found, out) == (status, "")
    assert message in told
    assert told.count("\n") == 1


def test_want_of_memory_is_told_with_what_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for name in ("inspect.parse_shape", "main.print_lines"):
        monkeypatch.setattr(f"ordercomp.cli.{name}", fail)
    with pytest.raises(SystemExit, match="1"):
        main(["cost", "resnet8"])
    assert capfd.readouterr() == ("", "ordercomp: MemoryError\n")


@pytest.mark.parametrize("command", ["discover", "search", "plan"])
def test_a_task_file_may_stand_without_its_option(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = [] if command == "plan" else ["--out", tmp_path / "out"]
    status, _, told = run(capsys, command, "none.toml", *out)
    assert (status, told) == (2, "ordercomp: no task file at none.toml\n")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--version")
    assert (status, out) == (0, f"ordercomp {importlib.metadata.version('ordercomp')}\n")
