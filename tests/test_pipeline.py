"""The whole pipeline with the `tiny` model, in a clone of its own, as a new user runs it."""

import csv
import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from helpers.browser import open_page
from helpers.clones import metrics, outputs, set_params, stages_run, whole_run
from helpers.commands import call, started
from helpers.network import NETWORK_LOG, addresses, tracing
from helpers.paths import ROOT

from jaegpt.errors import JaegptError
from jaegpt.tpu.report import why_not
from jaegpt.turing.command import check_model
from jaegpt.yaml12 import load_yaml

KEYS = {
    "extract": "files threads messages_read messages_kept owner_messages dropped",
    "language": "threads_kept threads_dropped messages_kept dropped",
    "sessions": "turns sessions threshold_ms owner_turns history_share",
    "dataset": "examples train valid dropped",
    "block_size": "yield recommended tokens_padded tokens_packed pack_fill",
    "train": "device devices precision steps epochs examples examples_per_second tokens_per_second compilations "
    "peak_memory_mb wall_s resumed_from_step",
    "evaluate": "loss lm_loss mc_loss lm_ratio mc_ratio perplexity token_accuracy mc_accuracy mc_accuracy_ci "
    "seed_accuracy candidates examples tokens base",
    "exposure": "canaries exposure",
    "calibrate": "contexts chosen without_guidance satisfied owner grid reasons",
    "fidelity": "style_score style_score_ci style told_apart told_apart_text told_apart_reading "
    "fit context_words drift shape content hits_own hits_others leak membership_auc "
    "exposure contexts reasons",
    "learned": "lm_loss mc_loss mc_accuracy",
    "voice": "told_apart style_score",
}
COLUMNS = {
    "train": ["step", "examples", "loss", "lm_loss", "mc_loss", "learning_rate"],
    "valid": ["step", "loss", "lm_loss", "mc_loss", "token_accuracy", "mc_accuracy"],
    "gradients": ["step", "lm_norm", "mc_norm", "cosine"],
    "block_size": ["block_size", "yield_percent"],
    "weights": [
        "w_mc",
        "lm_loss",
        "mc_loss",
        "token_accuracy",
        "mc_accuracy",
        "base_lm_loss",
        "base_token_accuracy",
        "guess_mc_loss",
        "guess_mc_accuracy",
    ],
    "calibrate": [
        "setting",
        "temperature",
        "top_p",
        "min_p",
        "guidance",
        "told_apart",
        "told_apart_text",
        "told_apart_reading",
        "context_words",
        "fit",
        "owner_context_words",
    ],
    "language": ["thread", "messages", "identified", "share_kept", "dropped", "kept"],
}

PIPELINE = load_yaml((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
# Plots of the stages' own files, and those of several.
NUM_PLOTS = len(PIPELINE["plots"]) + sum(
    path.endswith(".csv") for stage in PIPELINE["stages"].values() for entry in stage.get("plots", []) for path in entry
)


@pytest.fixture(scope="module")
def project(shared: Path) -> Path:
    """A clone of this tree after `dvc repro` with `tiny`. Who changes it puts it back."""
    return whole_run(shared) / "jaegpt"


def test_the_pipeline_speaks_to_no_other_machine(project: Path) -> None:
    assert addresses(project / NETWORK_LOG) == set()


def ask_once(ready: str) -> None:
    """Have the server that says `ready` do its work once: a model answers, or a game begins."""
    found = re.search(r"http://[^\s/]+", ready)
    assert found, ready
    with httpx.Client(base_url=found[0], timeout=120) as client:
        if "/v1" in ready:
            body = {"model": "jaegpt", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
            body["model"] = client.get("/v1/models").json()["data"][0]["id"]
            done = client.post("/v1/chat/completions", json=body)
            assert done.json()["choices"], done.text
        elif "web.js" in client.get("/").text:
            page = client.post("/begin", json={}).json()
            settings = {one["name"]: one["value"] for one in page["settings"]}
            asked = {"text": "hello", "before": [], "attempt": 0, "seed": page["seed"]["value"], "settings": settings}
            done = client.post("/reply", json=asked)
            assert '"end": true' in done.text, done.text
        else:
            done = client.post("/start", json={})
            assert done.json()["game"], done.text
        assert done.status_code == 200


@pytest.mark.parametrize(
    "command",
    [
        ["jaegpt", "chat", "--once", "hello"],
        ["jaegpt", "report"],
        ["jaegpt", "web", "--port", "0"],
        ["jaegpt", "serve", "--port", "0"],
        ["jaegpt", "turing", "--port", "0"],
    ],
    ids=lambda command: command[1],
)
def test_no_command_speaks_to_another_machine(project: Path, tmp_path: Path, command: list[str]) -> None:
    traced = [*tracing(tmp_path / "network"), *command]
    if "--port" in command:
        started(project, *traced, use=ask_once)
    else:
        call(project, *traced)
    assert addresses(tmp_path / "network") == set()


def test_nobody_else_on_this_machine_can_read_what_the_pipeline_made(project: Path) -> None:
    for top in ("data", "models", ".dvc"):  # the cache lies in .dvc
        assert any(path.is_file() for path in (project / top).rglob("*"))
        assert (project / top).stat().st_mode & 0o077 == 0, top
    with Repo(str(project)) as repo:  # where DVC notes every file that it has hashed
        assert Path(repo.site_cache_dir).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", KEYS)
def test_metrics_have_their_keys(project: Path, name: str) -> None:
    assert set(KEYS[name].split()) <= set(metrics(project, name))


def test_every_dropped_thing_is_counted(project: Path) -> None:
    extract, language, dataset = (metrics(project, name) for name in ("extract", "language", "dataset"))
    assert extract["messages_read"] == extract["messages_kept"] + sum(extract["dropped"].values())
    assert extract["messages_kept"] == language["messages_kept"] + sum(language["dropped"].values())
    owner_turns = metrics(project, "sessions")["owner_turns"]
    assert owner_turns == dataset["examples"] + sum(dataset["dropped"].values())
    assert dataset["examples"] == dataset["train"] + dataset["valid"]
    block = metrics(project, "block_size")
    assert dataset["examples"] == block["examples_kept"] + sum(block["dropped"].values())
    assert extract["messages_kept"] > 30_000
    assert dataset["examples"] + dataset["dropped"]["left_out_of_train"] > 3_000
    assert dataset["dropped"]["left_out_of_train"] > 1_000


def test_training_and_evaluation_figures_make_sense(project: Path) -> None:
    train, evaluate = metrics(project, "train"), metrics(project, "evaluate")
    assert (train["device"], train["epochs"], train["resumed_from_step"]) == ("cpu", 1, 0)
    assert train["steps"] == len((project / "plots/train.csv").read_text().splitlines()) - 1
    assert set(evaluate["base"]) == set(evaluate) - {"base", "loss"}
    assert evaluate["lm_loss"] < evaluate["base"]["lm_loss"] - 0.5, "even the tiny model learns letter frequencies"
    low, high = evaluate["mc_accuracy_ci"]
    assert low < evaluate["mc_accuracy"] < high
    assert evaluate["seed_accuracy"] < 0.5 * evaluate["token_accuracy"]


def test_fidelity_figures_make_sense(project: Path) -> None:
    figures = metrics(project, "fidelity")
    style = figures["style"]
    assert figures["contexts"] == 200
    assert style["owner"] > style["others"] + 0.1, "the owner's real replies, and other people's"
    assert style["random"] == pytest.approx(style["owner"], abs=0.05), "texts that the judge could have learned from"
    assert style["owner"] > style["base"], "the tiny base model writes noise"
    share = figures["hits_own"]["contexts"] / figures["contexts"]
    assert share == pytest.approx(metrics(project, "block_size")["yield"]["128"], abs=0.1), (
        "what fits a block is ranked"
    )
    low, high = figures["membership_auc_ci"]
    assert low < figures["membership_auc"] < high
    assert figures["leak"]["tuned"] < 0.1, "one epoch of a tiny model is no copy"
    assert figures["reasons"]["exposure"] == {"canaries": 0}
    assert "of their words" in (project / "models/fidelity.md").read_text(encoding="utf-8"), "the card's section"


def test_plot_data_has_its_columns(project: Path) -> None:
    for name, columns in COLUMNS.items():
        with open(project / f"plots/{name}.csv", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == columns
        assert len(rows) >= (1 if name == "weights" else 3), name


def test_metrics_and_plots_hold_numbers_only(project: Path) -> None:
    ways = r"t [\d.]+(, (top_p|min_p|guidance) [\d.]+)+"  # of drawing
    harmless = re.compile(rf"(-?\d+(\.\d+)?(e-?\d+)?|True|False|cpu|bf16|fp32|none|{ways})?")

    def values(content: Any) -> list[str]:
        if isinstance(content, dict):
            return [text for value in content.values() for text in values(value)]
        if isinstance(content, list):
            return [text for value in content for text in values(value)]
        return [content] if isinstance(content, str) else []

    checked = 0
    in_git = [*(project / "metrics").glob("*.json"), project / "models/generation_config.json"]
    for path in in_git:
        texts = set(values(json.loads(path.read_text(encoding="utf-8"))))
        if path.stem == "tpu":
            texts -= {why_not()}  # the stage's own sentence on what is not installed
        assert [text for text in sorted(texts) if not harmless.fullmatch(text)] == [], path.name
        checked += 1
    for path in (project / "plots").glob("*.csv"):
        with open(path, encoding="utf-8") as file:
            cells = [cell for row in list(csv.reader(file))[1:] for cell in row]
        assert [cell for cell in cells if not harmless.fullmatch(cell)] == [], path.name
        checked += 1
    assert checked >= 12


def test_no_tracked_file_holds_text_from_the_export(project: Path) -> None:
    parts = [pq.read_table(path) for path in (project / "data/messages").glob("part-*.parquet")]
    texts = {text for part in parts for text in part.column("text").to_pylist() if len(text) > 25}
    names = {name for part in parts for name in part.column("sender").to_pylist()}
    titles = {path.parent.name for path in (project / "data/sample_export").rglob("message_1.json")}
    ids = {name for part in parts for name in part.column("thread_id").to_pylist()}
    assert min(len(texts), len(names), len(titles), len(ids)) > 100
    tracked = call(project, "git", "ls-files", "metrics", "plots").split()
    written = [
        str(path.relative_to(project)) for folder in ("metrics", "plots") for path in (project / folder).iterdir()
    ]
    files = sorted({*tracked, *written})
    assert len(files) >= 12
    for file in files:
        content = (project / file).read_text(encoding="utf-8")
        assert not [text for text in (*texts, *names, *titles, *ids) if text in content], file


def test_plain_transformers_loads_the_model(project: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = project / "models/jaegpt"
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("hello", return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, 5, model.config.vocab_size)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "not the person" in card
    with open(project / "plots/valid.csv", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    for name in ("lm_loss", "mc_loss", "token_accuracy", "mc_accuracy"):
        assert f"| {name} | {float(last[name]):.4f} |" in card


@pytest.mark.skipif(importlib.util.find_spec("torch_xla") is None, reason="no torch_xla on this platform")
def test_the_stages_after_training_run_where_xla_trains(project: Path) -> None:
    on_xla = {"JAEGPT_DEVICE": "xla", "PJRT_DEVICE": "CPU", "CUDA_VISIBLE_DEVICES": ""}
    before = metrics(project, "fidelity"), metrics(project, "evaluate")
    for stage in ("evaluate", "replies_base", "fidelity"):
        call(project, "python", "-m", f"stages.{stage}", **on_xla)
    assert metrics(project, "fidelity") == before[0]
    assert metrics(project, "evaluate")["lm_loss"] == pytest.approx(before[1]["lm_loss"], rel=0.02)
    call(project, "dvc", "repro")


def test_replies_of_another_model_are_no_game(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    check_model()
    card = project / "models/jaegpt/README.md"
    original = card.read_text(encoding="utf-8")
    card.unlink()  # a link into the cache may not be written to
    try:
        card.write_text("another", encoding="utf-8")
        with pytest.raises(JaegptError, match="models/jaegpt changed since the replies were made"):
            check_model()
    finally:
        card.write_text(original, encoding="utf-8")
    params = (project / "params.yaml").read_text(encoding="utf-8")
    assert "  top_k: 0\n" in params
    try:
        (project / "params.yaml").write_text(params.replace("  top_k: 0\n", "  top_k: 7\n"), encoding="utf-8")
        check_model()
        with pytest.raises(JaegptError, match="generate changed since the replies were made"):
            check_model(more=True)  # the first reply of a pool would be drawn in one way and the others in another
    finally:
        (project / "params.yaml").write_text(params, encoding="utf-8")
    check_model(more=True)


def test_nothing_changed_runs_nothing(project: Path) -> None:
    output = call(project, "dvc", "repro")
    assert stages_run(output) == []
    assert "up to date" in output


def test_another_loss_weight_runs_what_depends_on_the_model_only(project: Path) -> None:
    before = metrics(project, "evaluate")
    output = call(project, "dvc", "exp", "run", "-S", "w_mc=1")
    stages = stages_run(output)
    assert stages[0] == "train"
    of_the_model = {"train", "evaluate", "exposure", "calibrate", "fidelity"}
    assert set(stages) == of_the_model, "the base model's figures and replies are kept"
    after = metrics(project, "evaluate")
    assert after["lm_loss"] != before["lm_loss"]
    assert after["loss"] == pytest.approx(after["lm_loss"] + after["mc_loss"])
    assert after["base"] == before["base"], "no weight of ours changes what the untouched model is"
    # Up to evaluate: the stages after it have outputs that no run cache keeps, and would take as long again.
    again = call(project, "dvc", "exp", "run", "-S", "w_mc=0.05", "evaluate")
    assert "Stage 'train' is cached" in again, "plot data and figures in Git leave DVC's run cache on"
    assert metrics(project, "evaluate") == before
    call(project, "dvc", "exp", "run", "-S", "w_mc=1", "evaluate")  # the stages after it are still this run's


def test_runs_are_compared_by_few_figures_in_100_columns(project: Path) -> None:
    shown = call(project, *shlex.split("dvc exp show --no-pager --only-changed --drop 'Created|.*/'"), COLUMNS="100")
    head = next(line for line in shown.splitlines() if "Experiment" in line)
    voice = [name for name in ("told_apart", "style_score") if name in head]  # unless the runs have the same
    assert head.split() == ["Experiment", "lm_loss", "mc_loss", "mc_accuracy", *voice, "w_mc"]
    assert "…" not in shown
    for command in ("dvc metrics show", "dvc metrics diff HEAD"):
        shown = call(project, *shlex.split(command), COLUMNS="100")
        assert "lm_loss" in shown
        assert "peak_memory_mb" not in shown
        assert max(map(len, shown.splitlines())) <= 100


def test_plots_show_writes_a_page_that_needs_no_network(project: Path) -> None:
    call(project, "dvc", "plots", "show")
    with open_page((project / "dvc_plots/index.html").as_uri()) as (page, errors, requests):
        page.locator("svg.marks").nth(NUM_PLOTS - 1).wait_for()
        page.wait_for_load_state("networkidle")
        assert page.locator("svg.marks").count() == NUM_PLOTS
        assert errors == []
        assert requests == [], "the page needs no network"
        assert page.title() == "jaegpt: plots"


def test_a_missing_export_stops_dvc_and_undoing_the_change_recovers(project: Path) -> None:
    original = (project / "params.yaml").read_text(encoding="utf-8")
    try:
        set_params(project, export__path="nowhere.zip")
        assert "nowhere.zip" in call(project, "dvc", "repro", expect=255)
    finally:
        (project / "params.yaml").write_text(original, encoding="utf-8")
    call(project, "dvc", "checkout")
    assert stages_run(call(project, "dvc", "repro")) == []


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("train", {"train__epochs": "two"}, "`train.epochs` must be a whole number, found str 'two'"),
        ("train", {"w_mcc": 1}, "unknown key `w_mcc`. Did you mean `w_mc`?"),
        ("train", {"w_lm": 0, "w_mc": 0}, "w_lm and w_mc are both 0"),
        ("train", {"block_size": 3}, "no training example fits block_size"),
        ("block_size", {"block_size": 3}, "none of"),
        ("block_size", {"train__batch_size": 0}, "train.batch_size must be at least 1"),
        ("train", {"block_size": 5000}, "the model has 1,024 positions"),
        ("extract", {"export__path": "nowhere"}, "nowhere"),
        ("extract", {"export__path": "tests"}, "tests"),
        ("extract", {"export__owner": "Nobody At All"}, "Nobody At All"),
        ("base_model", {"model": "no/such-model"}, "cannot load 'no/such-model'"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    project: Path, stage: str, changes: dict[str, Any], said: str
) -> None:
    original = (project / "params.yaml").read_text(encoding="utf-8")
    before = outputs(project)
    try:
        set_params(project, **changes)
        output = call(project, "python", "-m", f"stages.{stage}", expect=1)
    finally:
        (project / "params.yaml").write_text(original, encoding="utf-8")
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    assert said in errors[0]
    assert "Traceback" not in output
    assert outputs(project) == before
