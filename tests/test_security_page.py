"""docs/security.md promises nothing that no test looks at: each point names its tests, or why there is none."""

import re

from helpers.paths import ROOT

_PROOF = re.compile(r"\[(reason: [^\]]+|test_\w+(?:, test_\w+)*)\]\s*$")


def test_every_point_names_its_tests() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    promised, _, _ = page.partition("## Reporting a fault")
    points = re.findall(r"^- (.+?)(?=^- |^#|^$|\Z)", promised, re.MULTILINE | re.DOTALL)
    assert len(points) > 10
    for point in points:
        proof = _PROOF.search(" ".join(point.split()))
        assert proof, point
        if not proof[1].startswith("reason"):
            assert [name for name in proof[1].split(", ") if not (ROOT / f"tests/{name}.py").is_file()] == [], point
