"""Parallel work: the same bytes for any number of workers, on this machine or on a cluster that loses one."""

import contextlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from helpers.clones import set_params
from helpers.commands import call
from helpers.dialogue_reference import messages_of, table
from helpers.export_fixtures import files_of, read, write_folder
from helpers.paths import ROOT

from jaegpt.base_model import save_base_model
from jaegpt.dialogue.examples import DatasetConfig, build_examples
from jaegpt.dialogue.language import LanguageConfig, filter_language
from jaegpt.dialogue.session_gaps import SessionConfig
from jaegpt.dialogue.sessions import sessionize
from jaegpt.dialogue.turns import merge_turns
from jaegpt.errors import JaegptError
from jaegpt.parallel import map_parts, num_workers
from jaegpt.tables import SCHEMAS, part_name, write_part
from jaegpt.transform import transform_table

TEXTS = [f"what are you doing on day {number} of this week" for number in range(10)]
LANGUAGE = LanguageConfig(keep=["en"], min_share=0.5)
SESSION = SessionConfig(percentile=90, fixed_gap_s=None)
DATASET = DatasetConfig(num_history=4, num_distractors=3, valid_fraction=0.3, split="session")


def write_messages(folder, num_parts=5):
    folder.mkdir(parents=True)
    senders = [("Bo", False), ("Ann", True)]
    for number in range(num_parts):
        thread = [
            (1000 if i % 5 else 3_600_000 + number, senders[i % 2], TEXTS[(i * 7 + number) % 10]) for i in range(60)
        ]
        rows = messages_of([[] for _ in range(number)] + [thread])
        content = table(rows, "filtered").drop_columns(["language"])
        write_part(content, folder / part_name(number), "messages")


def turns_part(messages):
    return merge_turns(messages, SESSION), None


def sessions_part(turns):
    return sessionize(turns), None


def run_chain(after_first=lambda function: function):
    """messages -> examples in this folder; the bytes of every part written."""
    steps = [
        ("filtered", partial(filter_language, config=LANGUAGE)),
        ("turns", turns_part),
        ("sessions", sessions_part),
        ("examples", partial(build_examples, config=DATASET, seed=1)),
    ]
    source = "messages"
    for target, function in steps:
        transform_table(after_first(function), (Path(source), source), (Path(target), target), target)
        source = target
    files = [path for target, _ in steps for path in sorted(Path(target).rglob("*"))]
    return {str(path): path.read_bytes() for path in files}


@pytest.fixture
def expected(tmp_path, monkeypatch):
    """A folder with messages, and the bytes that one worker writes."""
    write_messages(tmp_path / "messages")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    written = run_chain()
    assert sorted(written) == sorted(f"{name}/{part_name(i)}" for name in list(SCHEMAS)[1:5] for i in range(5))
    return written


@pytest.mark.parametrize("workers", ["2", "4"])
def test_any_number_of_workers_writes_the_same_bytes(expected, workers, monkeypatch):
    monkeypatch.setenv("JAEGPT_WORKERS", workers)
    assert run_chain() == expected


@dataclass(frozen=True)
class DieOnce:
    """`function`, but the worker that calls it first is killed before its part is written."""

    function: object
    marker: str

    def __call__(self, part):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.function(part)


@pytest.fixture
def cluster(monkeypatch):
    """Two worker processes that start in a folder of their own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as workers:
        yield workers


def test_a_cluster_that_loses_a_worker_writes_the_same_bytes(expected, cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
    marker = tmp_path / "killed"
    assert run_chain(lambda function: DieOnce(function, str(marker))) == expected
    assert marker.exists()
    with pytest.raises(JaegptError, match="bad part 3"):
        map_parts(refuse_three, [1, 2, 3], "test")


def test_encode_on_a_cluster_follows_the_tokenizer(expected, cluster, monkeypatch):
    base = Path("data/base_model")
    base.mkdir(parents=True)
    save_base_model("tiny", base)
    Path("examples").rename("data/examples")
    shutil.copy(ROOT / "params.yaml", ".")
    set_params(Path(), dataset__learn="replies")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def encoded(address=""):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        call(Path(), "python", "-m", "stages.encode")  # its own functions are of `__main__` then
        return written_in("data/tokens")

    first = encoded()
    assert encoded(cluster.scheduler_address) == first
    content = json.loads((base / "tokenizer.json").read_text("utf-8"))
    letters = content["model"]["vocab"]
    letters["a"], letters["e"] = letters["e"], letters["a"]
    (base / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    second = encoded()
    assert second != first
    assert len(second) == 5
    assert encoded(cluster.scheduler_address) == second


def test_an_export_read_on_a_cluster_that_loses_a_worker_gives_the_same_bytes(cluster, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    write_folder(Path("export"), files_of("since 2024"))
    _, messages = read("export", Path("here"))
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
    calls = []

    def map_and_lose(function, items, label):
        calls.append(label)
        return map_parts(DieOnce(function, str(tmp_path / f"killed {label}")), items, label)

    monkeypatch.setattr("jaegpt.exports.extract.map_parts", map_and_lose)
    read("export", Path("there"))
    assert len(messages) > 5
    assert len(calls) == len(list(tmp_path.glob("killed *"))) == 2
    assert written_in("there") == written_in("here")


def written_in(folder):
    """What is in a folder: names and bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_what_goes_wrong_on_a_worker_is_one_clear_line(cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
    with pytest.raises(JaegptError, match=r"test: a worker of the Dask cluster failed \(ZeroDivisionError.*same path"):
        map_parts(divide, [2, 1, 0], "test")
    folder = tmp_path / "not there on the workers"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("os.getcwd", lambda: str(tmp_path / "elsewhere"))
    with pytest.raises(JaegptError, match=r"FileNotFoundError.*elsewhere"):
        map_parts(divide, [1], "test")


def divide(number):
    return 1 / number


def test_a_part_that_ends_every_worker_is_one_clear_line(cluster, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
    with pytest.raises(JaegptError, match=r"test: a part ended one worker .* more memory"):
        map_parts(die, [1], "test")


def test_a_scheduler_without_workers_is_one_clear_line(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("jaegpt.parallel.CONNECT_TIMEOUT_S", 2)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as empty:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", empty.scheduler_address)
        with pytest.raises(JaegptError, match="has no workers"):
            map_parts(divide, [1, 2], "test")


def refuse_three(number):
    if number == 3:
        raise JaegptError("bad part 3")
    return -number


def test_results_keep_the_order_and_errors_come_through(monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    for workers in ("1", "2"):
        monkeypatch.setenv("JAEGPT_WORKERS", workers)
        assert map_parts(refuse_three, [5, 4, 1, 2], "test") == [-5, -4, -1, -2]
        with pytest.raises(JaegptError, match="bad part 3"):
            map_parts(refuse_three, [1, 2, 3], "test")
    assert map_parts(refuse_three, [], "test") == []


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_process_is_one_clear_line(monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.setenv("JAEGPT_WORKERS", "2")
    with pytest.raises(JaegptError, match="memory"):
        map_parts(die, [1, 2], "test")


def test_a_failed_part_leaves_the_old_table_and_nothing_else(expected, tmp_path):
    before = {path: path.read_bytes() for path in Path("turns").iterdir()}
    with pytest.raises(JaegptError, match="column"):
        transform_table(lambda part: (part, None), ("filtered", "filtered"), ("turns", "turns"), "turns")
    assert len(before) == 5
    assert {path: path.read_bytes() for path in Path("turns").iterdir()} == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_bad_number_of_workers_is_refused(text, monkeypatch):
    monkeypatch.setenv("JAEGPT_WORKERS", text)
    with pytest.raises(JaegptError, match=f"JAEGPT_WORKERS .* found '{text}'"):
        num_workers()


def test_a_scheduler_that_does_not_answer_is_one_clear_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("jaegpt.parallel.CONNECT_TIMEOUT_S", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://"):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(JaegptError, match="no Dask scheduler answers"):
            map_parts(refuse_three, [1, 2], "test")


def test_without_dask_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(JaegptError, match="Dask is not installed"):
        map_parts(refuse_three, [1, 2], "test")


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("tcp://192.0.2.7:8786", True),
        ("192.0.2.7:8786", True),
        ("TCP://Scheduler.Example:8786", True),
        ("tcp://[2001:db8::7]:8786", True),
        ("ucx://192.0.2.7:8786", True),
        ("ws://192.0.2.7:8786", True),
        ("tcp://0.0.0.0:8786", True),
        ("tcp://localhost.example:8786", True),
        ("tls://192.0.2.7:8786", False),
        ("TLS://scheduler.example:8786", False),
        ("wss://192.0.2.7:8786", False),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://127.1.2.3:8786", False),
        ("tcp://[::1]:8786", False),
        ("localhost:8786", False),
        ("inproc://10.0.0.1/1/1", False),
        ("tcp://[::1", False),
    ],
)
def test_a_foreign_scheduler_without_tls_is_one_warning(address, warned, monkeypatch, capsys):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("jaegpt.parallel._warned", set(), raising=False)
    for _ in range(3):
        with pytest.raises(JaegptError, match="Dask is not installed"):
            map_parts(str, [1], "test")
    printed = capsys.readouterr().err
    assert printed.count("\n") == (1 if warned else 0)
    assert (address in printed and "run code on every worker" in printed) == warned
