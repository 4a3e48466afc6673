"""Lines that look automatic in a language without rules are reported, and what people say is not."""

from pathlib import Path

from export_fixtures import OWNER, START, Talk, files_of, read, write_folder


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
