"""Lines that look automatic in a language without rules are reported, and what people say is not."""

import json
from pathlib import Path

import pytest
from helpers.export_fixtures import OWNER, START, Talk, files_of, read, write_folder
from helpers.paths import ROOT

from jaegpt.exports import second_pass as parts
from jaegpt.exports.config import ExportConfig
from jaegpt.inspection import inspect_export
from jaegpt.params import Params
from jaegpt.sample import write_sample


def test_lines_of_another_language_become_suspects(tmp_path: Path) -> None:
    names = ["Anaïs Sølvay", "Bo Łęck", "Cyd Vågen", "Dóra Wýnter", "Eda Quist", "Finn Halvøy", "Gül Čermák"]
    talks = tuple(
        Talk(
            f"t_{index}",
            name,
            (name, OWNER),
            (
                (name, START, "Vous êtes maintenant connectés sur Messenger."),
                (name, START + 1, f"{name.split()[0]} a envoyé une photo."),
                (name, START + 2, ("How are you doing?", "how are you doing", "How are you doing??")[index % 3]),
                (OWNER, START + 3, "Fine and you"),
            ),
        )
        for index, name in enumerate(names)
    )
    report, table = read(write_folder(tmp_path / "export", files_of("since 2024", talks)), tmp_path / "out")
    assert len(table) == 4 * len(names), "suspects are reported, not dropped"
    assert set(report.suspects) == {"Vous êtes maintenant connectés sur Messenger.", "NAME a envoyé une photo."}
    assert {suspect.threads for suspect in report.suspects.values()} == {len(names)}


def test_the_owners_own_automatic_lines(tmp_path: Path) -> None:
    """Nobody else has them: they say "you"."""
    names = ["Anaïs Sølvay", "Bo Łęck", "Cyd Vågen", "Dóra Wýnter", "Eda Quist", "Finn Halvøy", "Gül Čermák"]
    greetings = ("How are you doing?", "how are you doing", "How are you doing??")
    talks = tuple(
        Talk(
            f"t_{index}",
            name,
            (name, OWNER),
            (
                (OWNER, START, "Vous avez envoyé une pièce jointe."),
                (OWNER, START + 1, greetings[index % 3]),
                (OWNER, START + 2, "see you on Monday then" if index < 5 else "see you soon"),
                (name, START + 3, "Fine and you"),
            ),
        )
        for index, name in enumerate(names)
    )
    path = write_folder(tmp_path / "export", files_of("since 2024", talks))
    report, table = read(path, tmp_path / "out")
    assert set(report.suspects) == {"Vous avez envoyé une pièce jointe."}
    assert len(table) == 4 * len(names), "suspects are reported, not dropped"
    suspect = report.suspects["Vous avez envoyé une pièce jointe."]
    assert (suspect.count, suspect.threads, suspect.senders) == (len(names), len(names), {OWNER})


def test_wordings_add_up_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large export has a few threads a part, or one."""
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    monkeypatch.setattr(parts, "MAX_PART_MESSAGES", 1)
    talks = tuple(
        Talk(
            f"t_{index}",
            f"Contact {index}",
            (f"Contact {index}", OWNER),
            tuple((OWNER, START + place, "Vous avez envoyé une pièce jointe.") for place in range(3)),
        )
        for index in range(7)
    )
    report, _ = read(write_folder(tmp_path / "export", files_of("since 2024", talks)), tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 7
    assert {line: suspect.count for line, suspect in report.suspects.items()} == {talks[0].messages[0][2]: 21}


WORDINGS = (
    "Vous avez envoyé une pièce jointe.",
    "NAME a envoyé une photo.",
    "C'est l'appel (vidéo) manqué: 3+3 [*]",
    '- "NAME" {x}: #1 | y?',
    "zwei\nZeilen\tund\u2028mehr \U0001f600",
    r"ein \ Strich, & und %@`",
)


def test_the_line_to_paste_drops_what_was_suspected(tmp_path: Path) -> None:
    names = ["Anaïs Sølvay", "Bo Łęck", "Cyd Vågen", "Dóra Wýnter", "Eda Quist", "Finn Halvøy", "Gül Čermák"]
    talks = tuple(
        Talk(
            f"t_{index}",
            name,
            (name, OWNER),
            (
                (OWNER, START, "hello there"),
                *(
                    (name, START + 1 + place, wording.replace("NAME", name.split()[0] if place == 1 else "NAME"))
                    for place, wording in enumerate(WORDINGS)
                ),
            ),
        )
        for index, name in enumerate(names)
    )
    path = write_folder(tmp_path / "export", files_of("since 2024", talks))
    shown = inspect_export([str(path)], as_json=False)
    items = [line for line in shown.splitlines() if line.startswith("    - ")]
    assert len(items) == len(WORDINGS)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "  system_patterns: []\n" in text
    pasted = text.replace("system_patterns: []", "system_patterns:\n" + "\n".join(items))
    (tmp_path / "params.yaml").write_text(pasted, encoding="utf-8")
    patterns = Params(tmp_path / "params.yaml").section("export", ExportConfig).system_patterns
    report, table = read(path, tmp_path / "out", system_patterns=patterns)
    assert table["text"].to_pylist() == ["hello there"] * len(names)
    assert report.dropped == {"system_pattern": len(WORDINGS) * len(names)}
    assert report.suspects == {}
    suspects = json.loads(inspect_export([str(path)], as_json=True))["suspects"]
    assert sorted(suspect["pattern"] for suspect in suspects) == sorted(patterns)


def test_people_are_no_suspects(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample")
    report, table = read(tmp_path / "sample", tmp_path / "out")
    assert len(table) > 30_000
    assert report.suspects == {}
