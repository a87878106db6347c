"""The rule to stop, as a value."""

import pytest

from onceforall.errors import UserError
from onceforall.training.stop_rule import StopRule

WRONG = [
    *[({"action": v}, "action") for v in ("halt", None, 1)],
    *[({"min_gain": v}, "min_gain") for v in ("1", None, True)],
    *[({"pairs": v}, "pairs") for v in (1, 0, 2.5, None)],
    *[({name: v}, name) for name in ("max_seconds", "max_macs", "max_memory") for v in (0, -1, "9", True)],
]


@pytest.mark.parametrize(("changes", "named"), WRONG, ids=str)
def test_a_wrong_value_is_one_clear_line(changes, named):
    with pytest.raises(UserError, match=named) as error:
        StopRule(**changes)
    assert "\n" not in str(error.value) and repr(changes[named]) in str(error.value)


def test_a_gain_may_be_negative_and_limits_are_none():
    rule = StopRule(min_gain=-0.01)
    assert rule.action == "stop" and (rule.max_seconds, rule.max_macs, rule.max_memory) == (None, None, None)
