"""Tables: what is written comes back, the same rows give the same bytes, and disorder is refused by name."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.dialogue_reference import messages_of, table

from jaegpt.errors import JaegptError
from jaegpt.files import writing_folder
from jaegpt.tables import (
    SCHEMAS,
    iterate_parts,
    part_name,
    part_paths,
    read_part,
    read_table,
    thread_starts,
    write_part,
)

ANN, BO = ("Ann", True), ("Bo", False)


def two_threads():
    rows = messages_of([[(0, ANN, "a"), (5, BO, "b"), (0, ANN, "c")], [(0, BO, "d")]])
    return table(rows, "filtered")


def write_raw(content, path):
    """Past the checks, as another program might."""
    pq.write_table(content, path)
    return path


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_of_every_schema_comes_back_as_it_was(tmp_path, name):
    write_part(SCHEMAS[name].empty_table(), tmp_path / part_name(0), name)
    assert read_part(tmp_path / part_name(0), name).schema.equals(SCHEMAS[name])


def test_rows_come_back_and_chunks_do_not_change_the_bytes(tmp_path):
    whole = two_threads()
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    write_part(whole, tmp_path / part_name(0), "filtered")
    write_part(pieces, tmp_path / "pieces.parquet", "filtered")
    assert read_part(tmp_path / part_name(0), "filtered").equals(whole)
    assert (tmp_path / part_name(0)).read_bytes() == (tmp_path / "pieces.parquet").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {part_name(0), "pieces.parquet"}


def test_parts_come_in_the_order_of_their_numbers(tmp_path):
    for number, row in ((0, 3), (11, 0), (2, 1)):
        part = two_threads().slice(row, 1)
        renamed = part.set_column(1, "thread_id", pa.array([f"thread {number}"]))
        write_part(renamed, tmp_path / part_name(number), "filtered")
    assert [path.name for path in part_paths(tmp_path)] == [part_name(0), part_name(2), part_name(11)]
    expected = ["thread 0", "thread 2", "thread 11"]
    assert read_table(tmp_path, "filtered")["thread_id"].to_pylist() == expected
    assert [part["thread_id"][0].as_py() for part in iterate_parts(tmp_path, "filtered")] == expected


def test_a_table_without_threads_may_have_any_number_of_parts(tmp_path):
    for number in range(2):
        write_part(SCHEMAS["tokens"].empty_table(), tmp_path / part_name(number), "tokens")
    assert len(part_paths(tmp_path)) == 2


def test_thread_starts():
    assert thread_starts(pa.array(["a", "a", "b", "c", "c"])).tolist() == [0, 2, 3]
    assert thread_starts(pa.array([], pa.string())).tolist() == []


def refused(path, name):
    with pytest.raises(JaegptError) as error:
        read_part(path, name)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_column_is_refused_by_name(tmp_path):
    path = write_raw(two_threads().drop_columns(["sender"]), tmp_path / part_name(0))
    assert "column `sender`" in refused(path, "filtered")


def test_a_column_too_many_is_refused(tmp_path):
    path = write_raw(two_threads(), tmp_path / part_name(0))
    assert "'language'" in refused(path, "messages")


def test_a_wrong_type_is_refused_by_name(tmp_path):
    content = two_threads()
    path = write_raw(content.set_column(5, "is_owner", content["is_owner"].cast(pa.int8())), tmp_path / part_name(0))
    assert "column `is_owner` of table `filtered` must be bool, found int8" in refused(path, "filtered")


def test_a_null_is_refused_by_name(tmp_path):
    content = two_threads()
    path = write_raw(
        content.set_column(7, "text", pa.array(["a", None, "c", "d"], pa.string())), tmp_path / part_name(0)
    )
    assert "column `text`" in refused(path, "filtered")


def test_unsorted_rows_are_refused(tmp_path):
    path = write_raw(two_threads().take([1, 0, 2, 3]), tmp_path / part_name(0))
    assert "not sorted by `sent_at`" in refused(path, "filtered")


def test_a_thread_in_two_pieces_is_refused(tmp_path):
    path = write_raw(two_threads().take([0, 3, 1, 2]), tmp_path / part_name(0))
    assert "do not stand together" in refused(path, "filtered")


def test_a_negative_gap_and_a_repeated_turn_are_refused(tmp_path):
    columns = {
        "thread_id": ["a", "a"],
        "turn_index": [0, 1],
        "sender": ["Bo", "Ann"],
        "is_owner": [False, True],
        "started_at": [0, 5],
        "ended_at": [0, 5],
        "num_messages": [1, 1],
        "threshold_ms": [5.0, 5.0],
        "gap_ms": [None, 5],
        "text": ["hi", "yo"],
    }
    good = tmp_path / "good.parquet"
    write_part(pa.table(columns, schema=SCHEMAS["turns"]), good, "turns")
    assert read_part(good, "turns").num_rows == 2
    path = write_raw(pa.table(columns | {"gap_ms": [None, -5]}, schema=SCHEMAS["turns"]), tmp_path / part_name(0))
    assert "negative gap" in refused(path, "turns")
    path = write_raw(pa.table(columns | {"turn_index": [1, 1]}, schema=SCHEMAS["turns"]), tmp_path / part_name(1))
    assert "not sorted by `turn_index`" in refused(path, "turns")


def test_a_thread_split_over_parts_is_refused_by_both_names(tmp_path):
    content = two_threads()
    write_part(content.slice(0, 2), tmp_path / part_name(0), "filtered")
    write_part(content.slice(2), tmp_path / part_name(1), "filtered")
    with pytest.raises(JaegptError, match=r"part-00001.parquet: thread [0-9a-f]{16} also stands in part-00000.parquet"):
        part_paths(tmp_path)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(JaegptError, match="no table here"):
        part_paths(tmp_path / "nowhere")
    path = tmp_path / part_name(0)
    path.write_bytes(b"not a table")
    assert "not readable as Parquet" in refused(path, "filtered")


def test_a_wrong_table_is_never_written(tmp_path):
    with pytest.raises(JaegptError, match="column `session_index`"):
        write_part(SCHEMAS["turns"].empty_table(), tmp_path / part_name(0), "sessions")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_another_ones_place_whole(tmp_path):
    for stale in (".x.old", ".x.tmp"):
        (tmp_path / stale).mkdir()
        (tmp_path / stale / "part").touch()
    for content in ("first", "second"):
        with writing_folder(tmp_path / "x") as folder:
            (folder / content).touch()
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
        assert [path.name for path in (tmp_path / "x").iterdir()] == [content]

    def fail():
        with writing_folder(tmp_path / "x") as folder:
            (folder / "third").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["x", "x/second"]
