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
    "title": {"color": "currentColor", "fontSize": 13},
    "axis": {
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
    },
    "text": {"color": "currentColor"},
    "view": {"stroke": None},
}
_WIDTH, _HEIGHT = 400, 240
_TITLE_LETTERS = 42  # per line
_NAMES = {"labelLimit": 240, "minExtent": 190}  # an axis with room for names, in whatever font
MANY_POINTS = 200  # of a curve that is drawn smoothed, above its own faint line


def svg(spec: Spec) -> str:
    """A Vega-Lite specification as one SVG element."""
    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version="5.21", config=_CONFIG)
    return drawn


def dvc_plots(root: Path, experiments: Sequence[str] = ()) -> dict[str, str]:
    """The top-level plots of dvc.yaml by name: of the workspace, beside the curves of `experiments`.

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
            drawn[name] = svg(_readable(json.loads(content) if isinstance(content, str) else content))
    return drawn


def _readable(spec: Spec) -> Spec:
    """DVC's specification for a picture that nobody can point at.

    Of a single run, each curve has a colour; DVC keeps colour for runs, and dashes its curves. Of several runs
    the total loss goes: it is in units of their weights, and would hide the rest.
    """
    spec |= {"width": _WIDTH, "height": _HEIGHT}
    if isinstance(spec.get("title"), str):
        spec["title"] = textwrap.wrap(spec["title"], _TITLE_LETTERS)
    for param in spec.get("params", []):
        if param["name"] == "smooth" and len(spec["data"]["values"]) > MANY_POINTS:
            param["value"] = 0.2
    rows = spec["data"]["values"]
    encoding = spec.get("encoding", {})
    if len({row.get("rev") for row in rows}) > 1:
        spec["data"]["values"] = [row for row in rows if row.get("field") != "loss"]
        if "strokeDash" in encoding:
            # Named, or the layer that shows what is pointed at, which has no fields, would add "undefined".
            fields = {row["field"] for row in spec["data"]["values"] if "field" in row}
            encoding["strokeDash"]["scale"] = {"domain": sorted(fields)}
    elif len({row.get("field") for row in rows}) > 1:
        encoding.pop("strokeDash", None)
        _recolour(spec, sorted({row["field"] for row in rows if row.get("field")}))
    elif "color" in encoding:
        encoding["color"]["legend"] = None
    return spec


def _recolour(node: Any, fields: list[str]) -> None:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "color" and isinstance(value, dict) and value.get("field") == "rev":
            node[key] = {"field": "field", "type": "nominal", "scale": {"domain": fields}}
        else:
            _recolour(value, fields)


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
                "x": {"field": "share", "type": "quantitative", "title": "probability", "scale": {"domain": [0, 1]}},
            },
        }
    )


def sweep(trials: Sequence[Mapping[str, str]], importance: Sequence[Mapping[str, str]]) -> str:
    """Parallel coordinates of the trials (each axis from its lowest to its highest setting), and any importance."""
    lines: Spec = {
        "title": "Trials: settings from lowest (0) to highest (1)",
        "width": 300,
        "height": 220,
        "data": {"values": [dict(row) for row in trials]},
        "mark": {"type": "line", "point": True, "opacity": 0.8},
        "encoding": {
            "x": {
                "field": "parameter",
                "type": "nominal",
                "title": None,
                "axis": {"labelAngle": -20, "labelLimit": 140},
            },
            "y": {"field": "position", "type": "quantitative", "title": "place in its range"},
            "detail": {"field": "trial"},
            "color": {
                "field": "lm_loss",
                "type": "quantitative",
                "scale": {"scheme": "viridis", "reverse": True},
                "legend": {"title": "L_LM"},
            },
        },
    }
    bars: Spec = {
        "title": "Importance",
        "width": 160,
        "height": 220,
        "data": {"values": [dict(row) for row in importance]},
        "mark": {"type": "bar", "color": "#54a24b"},
        "encoding": {
            "x": {"field": "importance", "type": "quantitative", "title": "share of the variance"},
            "y": {"field": "parameter", "type": "nominal", "sort": "-x", "title": None},
        },
    }
    return svg({"hconcat": [lines, bars] if importance else [lines]})
