"""Fixtures that several test files share, and what `make test-fast` leaves out, beside tests marked `slow`."""

import os
import sys
from pathlib import Path

import pytest

# A browser, the whole pipeline, a sweep, trainings to the end or killed, XLA's compiler, thousands of mutated exports.
SLOW = {
    "test_readme", "test_docs_commands", "test_original_run", "test_plots",
    "test_pipeline", "test_pipeline_data", "test_sweep", "test_sweep_trials", "test_no_names", "test_chat_web",
    "test_chat_elsewhere", "test_page_attacks", "test_page_layout", "test_page_prefix", "test_turing",
    "test_turing_page",
    "test_report", "test_chat_terminal", "test_chat_load", "test_chat_connections", "test_training_xla",
    "test_training_resume", "test_training_parts", "test_tpu_report", "test_exports_property", "test_exports_pairs",
    "test_families", "test_parallel", "test_processes", "test_model_folders", "test_chat_gguf", "test_fidelity_models",
    "test_use_end_to_end", "test_compare",
}  # fmt: skip
# Long files, in the order that they are begun in.
LONGEST = (
    "test_pipeline", "test_training_xla", "test_training_memory", "test_readme", "test_sweep", "test_docs_commands",
    "test_original_run", "test_use_end_to_end", "test_training_resume", "test_compare",
)  # fmt: skip
# Tests of two seconds or more in other files, where a quicker one beside them looks at the same.
SLOW_TESTS = {
    "test_base_model::test_the_stage_refuses_what_cannot_be_trained_and_writes_nothing",
    "test_chat_generation::test_the_head_chooses_and_its_scores_are_those_of_each_candidate_alone",
    "test_chat_generation::test_streaming_gives_the_same_text_in_pieces",
    "test_chat_generation::test_no_tokens_come_twice_in_a_row_of_n",
    "test_decoders::test_a_router_of_its_own_kind_is_refused_with_adapters_only",
    "test_dialogue_examples::test_what_holds_of_every_example",
    "test_dialogue_language::test_the_sample_loses_next_to_nothing",
    "test_dialogue_repeats::test_each_training_reply_stands_as_often_as_allowed_and_the_rest_stays",
    "test_dialogue_turns::test_a_mere_change_of_minute_never_cuts",
    "test_dialogue_turns::test_sessions_of_times_in_minutes_equal_the_reference",
    "test_dialogue_turns::test_the_context_report_counts_what_each_cut_would_give",
    "test_encoding::test_words_encoded_one_by_one_give_the_tokens_of_the_text",
    "test_exports_extract::test_the_same_bytes_for_any_number_of_workers",
    "test_fidelity_texts::test_a_model_that_says_a_few_sentences_over_and_over_is_found_out",
    "test_preference::test_a_pass_teaches_to_prefer_the_real_reply_and_changes_the_replies",
    "test_preference::test_a_pass_that_moves_nothing_leaves_every_figure_as_it_was",
    "test_segments::test_a_long_session_is_cut_into_windows_that_begin_with_turns_labelled_before",
    "test_segments::test_each_turn_of_the_training_side_is_learned_once_as_chat_would_say_it",
    "test_signal::test_a_large_file_comes_in_pieces",
    "test_sms::test_a_large_file_comes_in_pieces",
    "test_structure::test_no_stage_loads_xla_unasked",
    "test_training_cuda::test_a_compiled_layer_serves_all_layers_and_changes_nothing",
    "test_training_cuda::test_recorded_training_equals_plain_training",
    "test_training_memory::test_what_is_counted_is_what_a_training_takes",
    "test_training_segments::test_a_recorded_step_trains_as_a_plain_one",
}


def pytest_configure(config: pytest.Config) -> None:
    # One of pytest-xdist's processes: they share the cores, and so do theirs. Torch reads the variable as it is loaded;
    # not here, because the process that starts these would load it too before it does.
    if hasattr(config, "workerinput") and "OMP_NUM_THREADS" not in os.environ:
        assert "torch" not in sys.modules
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = {item.path.stem for item in items}
    assert len(found) < len(SLOW) or found >= SLOW, f"no test files any more: {SLOW - found}"
    names = [f"{item.path.stem}::{item.name.split('[')[0]}" for item in items]
    assert len(found) < len(SLOW) or {*names} >= SLOW_TESTS, f"no tests any more: {SLOW_TESTS - {*names}}"
    for item, name in zip(items, names, strict=True):
        if item.path.stem in SLOW or name in SLOW_TESTS:
            item.add_marker(pytest.mark.slow)
    # The longest first, so that no process waits at the end for another's. The first makes the whole run that others
    # copy, so that these come when it is there.
    first = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (first.get(item.path.stem, len(first)), item.path.stem not in SLOW))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tiny` base model; read only."""
    from helpers.models import save_tiny  # loads torch

    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this run of the tests, for what `helpers.clones.whole_run` makes."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
