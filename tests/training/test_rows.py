"""Stretching a schedule to a number of epochs. The tables are compared with the papers' in test_schedules."""

import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.training.phases import Phase
from onceforall.training.rows import ROWS, Row, scale_epochs, table_of

SMALL = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3, 5), expand_ratios=(3, 6), depths=(1, 2))


def test_epochs_are_scaled_in_proportion():
    phases = [Phase("a", SMALL, 18, 2), Phase("b", SMALL, 60), Phase("c", SMALL, 20)]
    scaled = scale_epochs(phases, 50)
    assert [(phase.epochs, phase.warmup_epochs) for phase in scaled] == [(9, 1), (30, 0), (10, 0)]
    scaled = scale_epochs(phases, 33)  # exactly 6.6, 19.8 and 6.6: one of the first and last must give way
    assert [phase.total_epochs for phase in scaled] in ([7, 20, 6], [6, 20, 7])
    assert scale_epochs(phases, None) == phases
    with pytest.raises(UserError, match="3 phases"):
        scale_epochs(phases, 2)
    for wrong in (2.5, True, "8"):
        with pytest.raises(UserError, match="whole number"):
            scale_epochs(phases, wrong)


def test_even_rows_give_every_phase_as_many_epochs():
    rows = table_of("even", ROWS)
    assert set(rows) == set(ROWS["small"]) and {(row.epochs, row.warmup_epochs) for row in rows.values()} == {(10, 0)}


def test_a_table_has_a_name_or_is_given():
    own = {"full": Row(1, 0, 0.1)}
    assert table_of(own, ROWS) == own and table_of("paper", ROWS) is ROWS["paper"]
    as_in_a_recipe = {"full": {"epochs": 1, "warmup_epochs": 0, "learning_rate": 0.1}, "kernel": Row(2, 0, 0.2)}
    assert table_of(as_in_a_recipe, ROWS) == own | {"kernel": Row(2, 0, 0.2)}
    with pytest.raises(UserError, match="rows.full has no key 'epoch'.*Did you mean 'epochs'"):
        table_of({"full": {"epoch": 5}}, ROWS)
    with pytest.raises(UserError, match="rows 'smal' is not one of.*Did you mean 'small'"):
        table_of("smal", ROWS)
