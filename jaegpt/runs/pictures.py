"""Pictures of the report: the project's plots as DVC draws them, and a few of its own, all as SVG."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from jaegpt.errors import JaegptError

Spec = dict[str, Any]

# Text and axes take the colour of the page around them, light or dark; alone they are black.
_CONFIG = {
    "background": "transparent",
    "padding": {"left": 12, "right": 28, "top": 5, "bottom": 5},  # browsers' fonts are wider than the drawer's
    "font": "system-ui, sans-serif",
    "title": {
        "color": "currentColor",
        "fontSize": 15,
        "subtitleColor": "currentColor",
        "subtitleFontSize": 12,
        "anchor": "start",
        "offset": 10,
    },
    "header": {"labelColor": "currentColor", "labelFontSize": 12},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 14,  # for wider fonts, as above
        "labelOverlap": True,
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "#888",
        "tickColor": "#888",
        "gridOpacity": 0.25,
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "orient": "bottom",
        "title": None,
        "labelLimit": 400,
        "labelFontSize": 12,
        "columnPadding": 36,
        "columns": 3,
    },
    "text": {"color": "currentColor"},
    "view": {"stroke": None},
}
_WIDTH, _HEIGHT = 400, 250
_TITLE_LETTERS = 48  # per line
_NAMES = {"labelLimit": 240, "minExtent": 190}  # an axis with room for names, in whatever font
# What the report calls the plots that dvc.yaml has of single files.
_OF_FILES = {
    "plots/language.csv": "Languages of threads",
    "plots/gaps.csv": "Gaps between messages",
    "plots/context.csv": "Context by cut",
    "plots/block_size.csv": "Block-size yield",
    "plots/valid.csv": "Next token right",
    "plots/gradients.csv": "Gradient cosine",
}


def svg(spec: Spec) -> str:
    """A Vega-Lite specification as one SVG element."""
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version="5.21", config=_CONFIG)
    return drawn


def dvc_plots(root: Path, experiments: Sequence[str] = ()) -> dict[str, str]:
    """The plots of dvc.yaml by name: of the workspace, beside the curves of `experiments`.

    Raises:
        JaegptError: DVC cannot read the plots' data.
    """
    what = ["diff", "workspace", *experiments] if experiments else ["show"]
    command = [sys.executable, "-m", "dvc", "plots", *what, "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8")
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise JaegptError(f"report: `dvc plots {what[0]}` failed: {said[-1][:300]}")
    drawn = {}
    for name, variants in json.loads(done.stdout)["data"].items():
        found = next((one for one in variants if one["type"] == "vega" and one.get("content")), None)
        if found:
            content = found["content"]
            spec = json.loads(content) if isinstance(content, str) else content
            drawn[_OF_FILES.get(name, name)] = svg(_on_the_page(spec))
    return drawn


def _on_the_page(spec: Spec) -> Spec:
    """DVC's specification in the report's own size, fonts and colours."""
    spec.pop("config", None)
    if "width" in spec:
        spec |= {"width": _WIDTH, "height": _HEIGHT}
    spec["title"]["text"] = textwrap.wrap(spec["title"]["text"], _TITLE_LETTERS)
    return spec


def funnel(steps: Sequence[tuple[str, int]]) -> str:
    """Bars of what is left after each step: (step, how many)."""
    rows = [{"step": name, "number": number, "label": f"{number:,}"} for name, number in steps]
    shared: Spec = {
        "y": {"field": "step", "type": "nominal", "sort": None, "title": None, "axis": _NAMES},
        "x": {"field": "number", "type": "quantitative", "title": None, "axis": None},
    }
    return svg(
        {
            "title": "What is left after each step",
            "data": {"values": rows},
            "width": 300,
            "height": {"step": 26},
            "encoding": shared,
            "layer": [
                {"mark": {"type": "bar", "color": "#4c78a8", "cornerRadiusEnd": 3}},
                {"mark": {"type": "text", "align": "left", "dx": 5}, "encoding": {"text": {"field": "label"}}},
            ],
        }
    )


def weights(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Both tasks' figures by w_mc, of `jaegpt table`'s rows; a weight of 0 stands at the left end of the axis.

    Each group of rows, by its name in the legend, differs in w_mc alone. A dashed line is what a guess comes to.
    """
    values = [
        {
            "group": name,
            **{key: row[key] for key in ("lm_loss", "mc_accuracy")},
            "w_mc": row["w_mc"],
            "low": row["mc_accuracy_ci"][0],
            "high": row["mc_accuracy_ci"][1],
        }
        for name, rows in groups.items()
        for row in rows
    ]
    several = {"field": "group", "type": "nominal", "sort": None, "legend": {"columns": 1}}
    blue, orange = (several if len(groups) > 1 else {"value": colour} for colour in ("#4c78a8", "#f58518"))
    x = {
        "field": "w_mc",
        "type": "quantitative",
        "scale": {"type": "symlog", "constant": 0.005},
        "axis": {"values": [0, 0.01, 0.1, 1, 10, 100], "format": "~r", "labelOverlap": False},
    }
    accuracy: Spec = {"title": "accuracy (95 % interval)", "scale": {"zero": False}, "type": "quantitative"}
    dashes = {"type": "rule", "strokeDash": [4, 4], "color": "#888"}
    choices = {row["candidates"] for rows in groups.values() for row in rows if (row["candidates"] or 0) > 1}
    chances = [{"mark": dashes, "encoding": {"y": {"datum": 1 / number}}} for number in sorted(choices)]
    return svg(
        {
            "data": {"values": values},
            "hconcat": [
                {
                    "title": "Language: L_LM",
                    "width": 240,
                    "height": 200,
                    "mark": {"type": "line", "point": True},
                    "encoding": {
                        "x": x,
                        "color": blue,
                        "y": {
                            "field": "lm_loss",
                            "type": "quantitative",
                            "title": "nats per token",
                            "scale": {"zero": False},
                        },
                    },
                },
                {
                    "title": "Choosing the true reply",
                    "width": 240,
                    "height": 200,
                    "layer": [
                        {
                            "mark": {"type": "rule"},
                            "encoding": {
                                "x": x,
                                "color": orange,
                                "y": {"field": "low", **accuracy},
                                "y2": {"field": "high"},
                            },
                        },
                        {
                            "mark": {"type": "line", "point": True},
                            "encoding": {"x": x, "color": orange, "y": {"field": "mc_accuracy", **accuracy}},
                        },
                        *chances,
                    ],
                },
            ],
        }
    )


def style(shares: Mapping[str, float | None]) -> str:
    """How likely the judge finds it that the owner wrote each source's replies."""
    names = {
        "owner": "the owner, really",
        "tuned": "fine-tuned model",
        "base": "base model",
        "random": "a random own reply",
        "retrieval": "own reply to the nearest context",
        "others": "other people",
    }
    rows = [{"who": names[key], "share": shares[key]} for key in names if shares.get(key) is not None]
    return svg(
        {
            "title": ["How likely, to the judge,", "it is that the owner wrote it"],
            "data": {"values": rows},
            "width": 300,
            "height": {"step": 26},
            "mark": {"type": "bar", "color": "#4c78a8", "cornerRadiusEnd": 3},
            "encoding": {
                "y": {"field": "who", "type": "nominal", "sort": "-x", "title": None, "axis": _NAMES},
                "x": {
                    "field": "share",
                    "type": "quantitative",
                    "title": "probability",
                    "scale": {"domain": [0, 1]},
                    "axis": {"tickCount": 5},
                },
            },
        }
    )


def lengths(shares: Sequence[Mapping[str, Any]]) -> str:
    """How long replies are: rows of who wrote them, the class of lengths in words, and its share."""
    return svg(
        {
            "title": "How long replies are",
            "data": {"values": [dict(row) for row in shares]},
            "width": _WIDTH,
            "height": _HEIGHT,
            "mark": {"type": "line", "point": True, "strokeWidth": 2.5},
            "encoding": {
                "x": {"field": "words", "type": "ordinal", "sort": None, "title": "words", "axis": {"labelAngle": 0}},
                "y": {"field": "share", "type": "quantitative", "title": "share of replies"},
                "color": {"field": "who", "type": "nominal", "sort": None},
            },
        }
    )


def sweep(trials: Sequence[Mapping[str, str]], importance: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """L_LM of the trials by each setting, numbers on a logarithmic axis; and the parameters' importance, if any."""
    outcomes = sorted({row["outcome"] for row in trials})
    names = list(dict.fromkeys(row["parameter"] for row in trials))
    panels = []
    for name in names:
        of_name: list[Spec] = [{**row, "lm_loss": float(row["lm_loss"])} for row in trials if row["parameter"] == name]
        numbers = [number for row in of_name if (number := _number(row["setting"])) is not None]
        x: Spec = {"field": "setting", "type": "ordinal", "title": name}
        if len(numbers) == len(of_name):
            of_name = [{**row, "setting": number} for row, number in zip(of_name, numbers, strict=True)]
            scale = {"type": "log"} if min(numbers) > 0 else {"type": "symlog", "constant": 0.01}
            axis = {"format": "~g", "tickCount": 4}
            x |= {"type": "quantitative", "scale": scale | {"nice": False, "padding": 12}, "axis": axis}
        y = {"field": "lm_loss", "type": "quantitative", "title": "L_LM", "scale": {"zero": False}}
        outcome = {"field": "outcome", "type": "nominal", "scale": {"domain": outcomes}}
        mark = {"type": "point", "filled": True, "size": 60}
        encoding = {"x": x, "y": y, "color": outcome}
        panels.append({"data": {"values": of_name}, "width": 180, "height": 150, "mark": mark, "encoding": encoding})
    drawn = {"Sweep": svg({"title": "Trials by setting", "columns": 2, "concat": panels})}
    if importance:
        drawn["Sweep importance"] = svg(
            {
                "title": "How much of the losses' variance a parameter explains",
                "width": 300,
                "height": {"step": 26},
                "data": {"values": [dict(row) for row in importance]},
                "mark": {"type": "bar", "color": "#54a24b", "cornerRadiusEnd": 3},
                "encoding": {
                    "x": {
                        "field": "importance",
                        "type": "quantitative",
                        "title": "share",
                        "axis": {"format": "%", "tickCount": 4},
                    },
                    "y": {"field": "parameter", "type": "nominal", "sort": "-x", "title": None},
                },
            }
        )
    return drawn


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
