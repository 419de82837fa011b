"""The comparisons file: the reference's questions, a user's own, and mistakes in them."""

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.settings.questions import load_questions
from tests.results_folder import comparisons_file

VALID = {"question": "Is it so?", "pairs": [[1, 2]], "measures": ["test_accuracy"]}


def test_the_references_twelve_questions_compare_its_rows(results):
    questions, left_out = load_questions(results.config.comparisons, results.experiments)
    assert left_out == 0
    assert len(questions) == 12
    compared = [set(question.pairs) for question in questions.values()]
    asked = [
        {("1", "2")},
        {("1", "3")},
        {("1", "4")},
        {("1", "5")},
        {("1", "6"), ("1", "7"), ("1", "8")},
        {("1", "10"), ("5", "10")},
        {("5", "11"), ("9", "12")},
        {("1", "13")},
        {("1", "14"), ("1", "15"), ("1", "16")},
        {("1", "17")},
        {("1", "18")},
        {("1", "19")},
    ]
    assert all(pairs <= found for pairs, found in zip(asked, compared, strict=True))


def test_a_question_of_ones_own(tmp_path):
    path = comparisons_file(tmp_path, mine=VALID | {"pairs": [["a-1", 2]]})
    questions, _ = load_questions(path, ["a-1", "2"])
    assert questions["mine"].pairs == [("a-1", "2")]


def test_a_question_about_a_missing_row_is_left_out_and_counted(tmp_path):
    path = comparisons_file(tmp_path, mine=VALID, other=VALID | {"pairs": [[1, 99]]})
    questions, left_out = load_questions(path, ["1", "2"])
    assert list(questions) == ["mine"] and left_out == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (VALID | {"pair": [[1, 2]]}, "mine: unknown key 'pair'; did you mean 'pairs'?"),
        ({"question": "Is it so?", "measures": ["test_accuracy"]}, "key 'pairs' is missing"),
        (VALID | {"pairs": []}, "allowed: a list of pairs"),
        (VALID | {"pairs": [[1, 2, 3]]}, "allowed: a list of pairs"),
        (VALID | {"pairs": [1, 2]}, "allowed: a list of pairs"),
        (VALID | {"pairs": [[1, 1.5]]}, "is not a pair of row ids"),
        (VALID | {"pairs": [[1, 1]]}, "row 1 is compared with itself"),
        (VALID | {"pairs": [[1, 2], [1, 2]]}, "duplicate pair [1, 2]"),
        (VALID | {"measures": ["speed"]}, "allowed: a list of one or more of test_accuracy, train_validation_gap"),
        (VALID | {"measures": []}, "allowed: a list of one or more of"),
        (VALID | {"measures": ["memory", "memory"]}, "duplicate measure"),
        (VALID | {"question": ""}, "question is ''"),
        (None, "mine: expected a mapping with question, pairs, measures"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, entry, message):
    path = comparisons_file(tmp_path, mine=entry)
    with pytest.raises(InputError) as error:
        load_questions(path, ["1", "2"])
    assert str(error.value).startswith(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_duplicate_question_is_refused(tmp_path):
    path = tmp_path / "comparisons.yaml"
    path.write_text("a: {}\na: {}\n")
    with pytest.raises(InputError, match="duplicate key 'a'"):
        load_questions(path, [])
