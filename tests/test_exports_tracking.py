"""A download that Git would commit is refused, with the line that makes Git ignore it."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers.export_fixtures import files_of, write_folder, write_zip

from jaegpt.errors import JaegptError
from jaegpt.exports.tracking import refuse_tracked


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("/data/\n*.zip\n")
    monkeypatch.chdir(folder)
    return folder


NAMES = ["my download", "facebook [2024]*", "a/b/zoë's export", "back\\slash", "#one", "!two", "ends in a space "]


@pytest.mark.parametrize("name", NAMES)
def test_what_git_would_commit_is_refused_until_the_line_is_added(project: Path, name: str) -> None:
    write_folder(project / name, files_of("since 2024"))
    for path in (name, str(project / name), f"{name}/your_facebook_activity"):
        with pytest.raises(JaegptError, match=r"Add this line to \.gitignore") as error:
            refuse_tracked([path])
        assert "\n" not in str(error.value)
    with pytest.raises(JaegptError) as error:
        refuse_tracked(["data/elsewhere", name])
    with open(project / ".gitignore", "a", encoding="utf-8") as file:
        file.write(str(error.value).rpartition("project: ")[2] + "\n")
    refuse_tracked([name])
    (project / "other").mkdir()
    (project / "other/file").write_text("x")
    with pytest.raises(JaegptError, match="line"):
        refuse_tracked(["other"])


def test_what_git_ignores_passes(project: Path) -> None:
    write_folder(project / "data/sample_export", files_of("since 2024"))
    write_zip(project / "mine.zip", files_of("since 2024"))
    refuse_tracked(["data/sample_export", "mine.zip", "not/there"])
    write_zip(project / "downloads/mine.zip", files_of("since 2024"))
    refuse_tracked(["downloads"])  # all that lies in it is ignored


def test_what_git_tracks_already_is_refused_though_it_is_ignored(project: Path) -> None:
    write_folder(project / "data/export", files_of("since 2024"))
    git(project, "add", "-f", "data/export")
    with pytest.raises(
        JaegptError, match=r"Git tracks data/export.*git rm -r --cached -- 'data/export'.*: /data/export/$"
    ):
        refuse_tracked(["data/export"])


def test_a_link_into_the_project_and_one_out_of_it(project: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "outside", files_of("since 2024"))
    (project / "link").symlink_to(tmp_path / "outside")
    refuse_tracked(["link", str(tmp_path / "outside")])
    write_folder(project / "inside", files_of("since 2024"))
    (tmp_path / "way in").symlink_to(project / "inside")
    with pytest.raises(JaegptError, match=r": /inside/$"):
        refuse_tracked([str(tmp_path / "way in")])


def test_the_project_itself_is_no_download(project: Path) -> None:
    write_folder(project, files_of("since 2024"))
    with pytest.raises(JaegptError, match="is the project itself"):
        refuse_tracked(["."])


def test_without_git_nothing_is_said(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "plain/export", files_of("since 2024"))
    refuse_tracked(["export"], tmp_path / "plain")
    write_folder(project / "export", files_of("since 2024"))
    monkeypatch.setenv("PATH", os.devnull)
    refuse_tracked(["export"])


def test_a_repository_that_git_does_not_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(project / "data/export", files_of("since 2024"))
    refuse_tracked(["data/export"])
    with monkeypatch.context() as another_owner:
        another_owner.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests have it; nothing else is needed
        for folder in (project, project / "data"):
            with pytest.raises(JaegptError, match=r"cannot read .*/project\. .*safe\.directory"):
                refuse_tracked(["export"], folder)
    (project / ".git/HEAD").write_text("damaged")
    with pytest.raises(JaegptError, match=r"git -C .*/project status"):
        refuse_tracked(["data/export"])
