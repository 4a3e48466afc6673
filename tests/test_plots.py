"""The plots: any clone can draw them, without network or `make`, and they can be read, alone and side by side."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import open_page
from helpers.commands import call
from helpers.paths import ROOT

from jaegpt.files import write_csv
from jaegpt.runs.pictures import svg
from jaegpt.runs.plots_page import PATH, plots_page
from jaegpt.sweep.results import COLUMNS
from jaegpt.yaml12 import load_yaml

PIPELINE = load_yaml((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
OF_STAGES = [
    props
    for stage in PIPELINE["stages"].values()
    for entry in stage.get("plots", [])
    for path, props in entry.items()
    if path.endswith(".csv")
]
OF_ALL = [props for entry in PIPELINE["plots"] for props in entry.values()]
TITLES = [props["title"] for props in [*OF_STAGES, *OF_ALL]]
# An experiment, its w_mc, and what it multiplies the committed run's L_LM, L_MC and accuracy of the choice by.
RUNS = {"frail-bush": (0.01, 1.01, 1.04, 0.8), "worse-gest": (1, 1.005, 0.76, 1.5), "nitty-froe": (100, 1.8, 1.31, 1.4)}
SWEPT = {"w_mc": (0.002, 0.4, 30), "train.learning_rate": (0.00002, 0.0001, 0.003), "train.batch_size": (1, 8, 16)}
# Pairs of texts in one picture that share more than a pixel of height and width.
OVERLAPS = """[...document.querySelectorAll('svg.marks')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim() && text.checkVisibility(
        {checkOpacity: true})).map(text => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([, q]) =>
        Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
        Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 1).map(([b]) => [a, b]));
})"""
# The share of a picture's height that its marks of the given class take, by the picture's place on the page.
HEIGHTS = """name => [...document.querySelectorAll('svg.marks')].map(svg => {
    const boxes = [...svg.querySelectorAll('g.' + name + ' path')].map(path => path.getBoundingClientRect());
    return boxes.length ? (Math.max(...boxes.map(b => b.bottom)) - Math.min(...boxes.map(b => b.top)))
        / svg.getBoundingClientRect().height : null;
})"""


def changed(text: str, factors: dict[str, float], w_mc: float) -> str:
    """A CSV with the columns of `factors` multiplied by them, and another w_mc."""
    rows = list(csv.DictReader(text.splitlines()))
    assert rows
    new = [
        {key: w_mc if key == "w_mc" else float(value) * factors.get(key, 1) for key, value in row.items()}
        for row in rows
    ]
    return "".join(",".join(map(str, line)) + "\n" for line in (rows[0], *(row.values() for row in new)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds before anything has run, and three more commits with other curves, named as experiments."""
    folder = tmp_path_factory.mktemp("plots") / "clone"
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots", PATH, "metrics", "plots"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    call(folder, "git", "init", "--quiet")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
    call(folder, "git", "add", "--all")
    call(folder, *git, "commit", "-qm", "as committed")
    call(folder, "git", "tag", "committed")
    original = {name: (folder / f"plots/{name}.csv").read_text("utf-8") for name in ("train", "valid", "weights")}
    for name, (w_mc, *by) in RUNS.items():
        factors = dict(zip(("lm_loss", "mc_loss", "mc_accuracy"), by, strict=True))
        for file, content in original.items():
            content = changed(content, factors, w_mc)
            (folder / f"plots/{file}.csv").write_text(content, encoding="utf-8")
        call(folder, *git, "commit", "-qam", name)
        call(folder, "git", "tag", name)
    call(folder, "git", "checkout", "-q", "committed")
    return folder


def check(page: Any, titles: list[str]) -> None:
    """Each title stands on the page, each picture has the titles of its axes, and no text lies on another."""
    page.locator("svg.marks").nth(len(titles) - 1).wait_for()
    assert page.locator("svg.marks").count() == len(titles)
    texts = page.locator("svg.marks").evaluate_all("pictures => pictures.map(p => p.textContent)")
    assert [title for title in titles if not any(title in text for text in texts)] == []
    axes = page.locator("svg.marks").evaluate_all("ps => ps.map(p => p.querySelectorAll('.role-axis-title').length)")
    assert min(axes) >= 1, list(zip(texts, axes, strict=True))
    assert page.evaluate(OVERLAPS) == []


def test_the_committed_run_is_drawn_before_anything_has_run(project: Path) -> None:
    assert "failed" not in call(project, "dvc", "plots", "show")
    for width in (390, 800, 1500):
        with open_page((project / "dvc_plots/index.html").as_uri(), width) as (page, errors, requests):
            check(page, TITLES)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            widest = page.locator("svg.marks").evaluate_all("ps => Math.max(...ps.map(p => p.clientWidth))")
            assert widest < 760, "none is cut on a small screen"
            assert errors == []
            assert requests == [], "the page needs no network"
            words = page.locator("svg.marks").first.text_content()
            assert "training" in words
            assert "validation" in words


def test_runs_from_the_smallest_to_the_largest_weight_can_be_told_apart(project: Path) -> None:
    assert "failed" not in call(project, "dvc", "plots", "diff", "committed", *RUNS)
    with open_page((project / "dvc_plots/index.html").as_uri(), 1500) as (page, errors, _):
        check(page, TITLES)
        assert errors == []
        legends = page.locator("svg.marks").evaluate_all(
            "ps => ps.map(p => [...p.querySelectorAll('.role-legend-label')].map(l => l.textContent))"
        )
        for name in RUNS:
            assert sum(any(name in label for label in "".join(labels).split()) or name in "".join(labels)
                       for labels in legends) >= 8, name  # fmt: skip
        colours = (
            page.locator("svg.marks")
            .first.locator(".mark-line path")
            .evaluate_all("paths => paths.map(path => getComputedStyle(path).stroke)")
        )
        assert len(set(colours)) == 1 + len(RUNS)
        texts = page.locator("svg.marks").evaluate_all("pictures => pictures.map(p => p.textContent)")
        for kind, titles in (
            ("mark-line", [one["title"] for one in OF_ALL if "step" in one["x"]]),
            ("mark-symbol", ["Runs by w_mc"]),
        ):
            heights = page.evaluate(HEIGHTS, kind)
            for title in titles:
                height = next(height for text, height in zip(texts, heights, strict=True) if title in text)
                assert height > 0.3, f"{title}: the curves lie flat"


def test_a_sweep_is_drawn_with_the_values_of_its_settings(project: Path) -> None:
    rows = [
        ("mine", "tiny", trial, "stopped" if trial == 1 else "done", 3 + 0.1 * trial, name, values[trial], 0.5)
        for trial in range(3)
        for name, values in SWEPT.items()
    ]
    written = ("sweep.csv", "sweep_importance.csv", "dvc.yaml")
    write_csv(project / "plots/sweep.csv", COLUMNS, rows)
    write_csv(project / "plots/sweep_importance.csv", ("parameter", "importance"), [(name, 0.3) for name in SWEPT])
    shutil.copy(ROOT / "jaegpt/sweep/plots.yaml", project / "plots/dvc.yaml")
    try:
        assert "failed" not in call(project, "dvc", "plots", "show")
        swept = [props["title"] for entry in load_yaml((project / "plots/dvc.yaml").read_text("utf-8"))["plots"]
                 for props in entry.values()]  # fmt: skip
        with open_page((project / "dvc_plots/index.html").as_uri(), 1500) as (page, errors, _):
            check(page, [*TITLES, *swept])
            assert errors == []
            (text,) = (
                text for text in page.locator("svg.marks").all_text_contents() if "Sweep: L_LM by setting" in text
            )
            for shown in (*SWEPT, "10", "0.0001", "stopped"):
                assert shown in text
    finally:
        for name in written:
            (project / f"plots/{name}").unlink()


def test_the_page_in_git_is_the_one_that_is_made() -> None:
    assert (ROOT / PATH).read_text(encoding="utf-8") == plots_page(), "python -m jaegpt.runs.plots_page"
    assert not re.search(r"<script[^>]+src=", plots_page())


def drawn(template: str, y: str, rows: list[dict[str, Any]]) -> str:
    """A template of ours with data, as SVG."""
    text = (ROOT / f".dvc/plots/{template}.json").read_text(encoding="utf-8")
    names = {"TITLE": "t", "X": "step", "Y": y, "X_LABEL": "step", "Y_LABEL": y}
    for name, value in names.items():
        text = text.replace(f"<DVC_METRIC_{name}>", value)
    return svg(json.loads(text.replace('"<DVC_METRIC_DATA>"', json.dumps(rows))))


def test_a_curve_that_never_moves_has_its_value_on_the_axis() -> None:
    picture = drawn("curve", "share", [{"step": step, "share": 0.25, "rev": "workspace"} for step in range(3)])
    assert ">0.25<" in picture
    assert ">undefined<" not in picture


@pytest.mark.parametrize(("steps", "points"), [(7, 7), (25, 25), (41, 41), (437, 22), (445, 22)])
def test_a_training_of_any_length_has_its_curve(steps: int, points: int) -> None:
    rows = [
        {"step": step, "mc_loss": loss, "rev": run, "filename": f"plots/{file}.csv"}
        for run in "ab"
        for step in range(1, steps + 1)
        for file, loss in (("train", 1 + step / 100), ("valid", 1.5))
    ]
    # A step whose examples carry no candidates has no loss of choosing, which is written as 0.
    rows.append({"step": 2, "mc_loss": 0, "rev": "a", "filename": "plots/train.csv"})
    picture = drawn("learning", "mc_loss", rows)
    curves = re.findall(r'<path aria-label[^>]* d="([^"]*)"[^>]* opacity="0.5"', picture)
    assert [curve.count("L") + 1 for curve in curves] == [points] * 2
    assert ">0.0<" not in picture


def test_counts_and_steps_have_whole_numbers_on_their_axes() -> None:
    templates = {path.stem: load_yaml(path.read_text("utf-8")) for path in (ROOT / ".dvc/plots").glob("*.json")}
    named = {props["template"] for props in [*OF_STAGES, *OF_ALL]} | {"trials"}
    assert set(templates) == named, "a template that nothing uses, or one that is not there"

    def axes(node: Any) -> list[Any]:
        if isinstance(node, list):
            return [axis for one in node for axis in axes(one)]
        found = [node] if isinstance(node, dict) and node.get("title") == "<DVC_METRIC_X_LABEL>" else []
        return found + ([axis for one in node.values() for axis in axes(one)] if isinstance(node, dict) else [])

    for name in ("learning", "curve", "norms", "yield", "threads"):
        found = axes(templates[name])
        assert found
        assert all(axis["axis"]["format"].endswith("d") for axis in found), name
