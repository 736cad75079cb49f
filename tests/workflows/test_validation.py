"""What a training says of its validation cases: a figure over patients, and the worst cases without the background."""

from types import SimpleNamespace

from uvea.evaluation import CaseScore
from uvea.evaluation.rows import overlap_values
from uvea.workflows.validation import figure_text, ranked_scores


def row(case, tp, *, label=1, group=None):
    """A class of ten pixels of which so many are found, and no others: its Dice is tp / 10."""
    values = overlap_values(tp, 10 - tp, 10 - tp, tn=10)
    return CaseScore(case=case, group=group, label=label, class_name=f"class {label}", flag="", values=values)


def test_the_figure_is_the_mean_over_groups_where_there_are_any():
    """Patient p has three slices at .3, q one at .9: .45 over slices, .6 over patients."""
    plan = SimpleNamespace(task="semantic")
    slices = [("p1", 3, "p"), ("p2", 3, "p"), ("p3", 3, "p"), ("q1", 9, "q")]
    grouped = [row(case, tp, group=group) for case, tp, group in slices]
    assert figure_text(grouped, plan) == "Dice 0.600 (mean over 2 groups)"
    assert figure_text([row(case, tp) for case, tp, _ in slices], plan) == "Dice 0.450"


def test_the_worst_case_is_that_of_the_classes_and_not_of_the_background():
    """Case a finds less of its class and more of the background than b."""
    rows = [row("b", 5), row("b", 4, label=0), row("a", 4), row("a", 9, label=0)]
    assert list(ranked_scores(rows, "dice").items()) == [("a", {"class 1": 0.4}), ("b", {"class 1": 0.5})]
