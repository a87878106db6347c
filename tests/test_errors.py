"""What a mistake is answered with: one line that holds what was got and what is allowed, or the nearest name."""

import json
import math
import random

import pytest

from onceforall.architecture import Architecture, Block, Stage, as_resolution, side
from onceforall.errors import UserError, check_choice, check_keys, check_truth, suggestion
from onceforall.evaluation.tasks import classification
from onceforall.search_space import BlockChoices, SearchSpace, StageChoices
from onceforall.supernets import create_supernet

BLOCK = Block(3, 4)
STAGE = Stage((BLOCK,))
CHOICES = BlockChoices((3, 5), (3, 4))
SPACE = SearchSpace.build(2, resolutions=(32, 48), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(3, 4))
LARGE = SPACE.largest()
BRANCHED = SearchSpace.build(
    1, resolutions=(32,), depths=(1,), kernel_sizes=(3,), paths=(("skip",), ("main", "skip")), heights=(1,)
)


def read(text: str) -> Architecture:
    return Architecture.from_json(text)


def small_space(**changes: object) -> SearchSpace:
    facts = {"resolutions": (32,), "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (3, 4)}
    return SearchSpace.build(2, **(facts | changes))


def network(**options: object) -> object:
    return create_supernet("ofa_mbv3", **({"depths": (1,), "resolutions": (32,)} | options))


def build_elsewhere(**changes: object) -> Architecture:
    return small_space(**changes).largest()


WRONG = {  # what is done: the function, and what its message has to hold
    # -- architecture
    "kernel even": (lambda: Block(4, 3), "kernel_size 4", "odd"),
    "kernel zero": (lambda: Block(0), "kernel_size 0", "positive odd"),
    "kernel negative": (lambda: Block(-3), "kernel_size -3", "positive odd"),
    "kernel float": (lambda: Block(3.0), "kernel_size 3.0", "whole number"),
    "kernel text": (lambda: Block("3"), "kernel_size '3'", "whole number"),
    "kernel bool": (lambda: Block(True), "kernel_size True", "whole number"),
    "kernel missing": (Block, "kernel_size None", "whole number"),
    "ratio zero": (lambda: Block(3, 0), "expand_ratio 0", "above 0"),
    "ratio negative": (lambda: Block(3, -1.5), "expand_ratio -1.5", "above 0"),
    "ratio not a number": (lambda: Block(3, math.nan), "expand_ratio nan", "above 0"),
    "ratio endless": (lambda: Block(3, math.inf), "expand_ratio inf", "at most 1000"),
    "ratio text": (lambda: Block(3, "6"), "expand_ratio '6'", "number"),
    "paths text": (lambda: Block(3, 4, "main"), "'main'", "tuple of names"),
    "paths empty": (lambda: Block(paths=()), "paths ()", "at least one"),
    "paths twice": (lambda: Block(3, 4, ("main", "main")), "('main', 'main')", "each once"),
    "paths number": (lambda: Block(3, 4, ("main", 1)), "('main', 1)", "name"),
    "paths nameless": (lambda: Block(3, 4, ("main", "")), "('main', '')", "name"),
    "kernel without main path": (lambda: Block(5, None, ("skip",)), "kernel_size (5)", "'main'"),
    "ratio without main path": (lambda: Block(None, 6, ("skip",)), "expand_ratio (6)", "'main'"),
    "stage without blocks": (lambda: Stage(()), "()", "at least one Block"),
    "stage of numbers": (lambda: Stage((3, 5)), "(3, 5)", "Block"),
    "stage of one block": (lambda: Stage(BLOCK), "kernel_size=3", "tuple of Block"),
    "width zero": (lambda: Stage((BLOCK,), 0), "width 0", "above 0"),
    "width above one": (lambda: Stage((BLOCK,), 1.5), "width 1.5", "at most 1"),
    "width bool": (lambda: Stage((BLOCK,), True), "width True", "number"),
    "width text": (lambda: Stage((BLOCK,), "half"), "width 'half'", "number"),
    "no stages": (lambda: Architecture(32, ()), "()", "at least one Stage"),
    "stages of blocks": (lambda: Architecture(32, (BLOCK,)), "Block(", "at least one Stage"),
    "stages number": (lambda: Architecture(32, 5), "got 5", "tuple of Stage"),
    "resolution zero": (lambda: Architecture(0, (STAGE,)), "resolution 0", "positive whole number"),
    "resolution float": (lambda: Architecture(32.0, (STAGE,)), "resolution 32.0", "positive whole number"),
    "resolution text": (lambda: Architecture("32", (STAGE,)), "resolution '32'", "positive whole number"),
    "resolution axis": (lambda: as_resolution((32, 0)), "resolution (32, 0)", "one for each axis"),
    "resolution of no axis": (lambda: as_resolution(()), "resolution ()", "one for each axis"),
    "resolution not square": (lambda: side((32, 48)), "resolution (32, 48)", "squares"),
    "exits falling": (lambda: Architecture(32, (STAGE, STAGE), exits=(2, 1)), "exits (2, 1)", "increasing"),
    "exits too few": (lambda: Architecture(32, (STAGE, STAGE), exits=(1,)), "exits (1,)", "last stage, 2"),
    "exits from zero": (lambda: Architecture(32, (STAGE,), exits=(0, 1)), "exits (0, 1)", "counted from 1"),
    "exits text": (lambda: Architecture(32, (STAGE,), exits=("1",)), "exits ('1',)", "stage numbers"),
    "exits number": (lambda: Architecture(32, (STAGE,), exits=1), "got 1", "stage numbers"),
    "stem of a stage": (lambda: Architecture(32, (STAGE,), stem=STAGE), "stem Stage(", "must be a Block"),
    # -- JSON
    "JSON broken": (lambda: read('{"resolution": 32,'), '{"resolution": 32,', "not JSON"),
    "JSON list": (lambda: read("[3]"), "[3]", "resolution, stages"),
    "JSON without stages": (lambda: read('{"resolution": 32}'), "lacks the key stages"),
    "JSON misspelt": (lambda: read('{"resolutoin": 32, "stages": []}'), "'resolutoin'", "Did you mean 'resolution'?"),
    "JSON misspelt capital": (lambda: read('{"Stages": []}'), "'Stages'", "Did you mean 'stages'?", "Allowed: "),
    "JSON stages": (lambda: read('{"resolution": 32, "stages": 3}'), "got 3", "stages"),
    "JSON stage": (lambda: read('{"resolution": 32, "stages": [3]}'), "stage: got 3", "blocks, width"),
    "JSON blocks": (lambda: read('{"resolution": 32, "stages": [{"blocks": 3}]}'), "got 3", "blocks"),
    "JSON block key": (
        lambda: read('{"resolution": 32, "stages": [{"blocks": [{"kernel": 3}]}]}'),
        "'kernel'",
        "Did you mean 'kernel_size'?",
    ),
    "JSON exits": (lambda: read(json.dumps(LARGE.to_dict() | {"exits": 1})), "exits: got 1", "stage numbers"),
    # -- search space
    "choices even kernel": (lambda: BlockChoices((3, 4)), "kernel_size 4", "odd"),
    "choices float kernel": (lambda: BlockChoices((3.0,)), "kernel_size 3.0", "whole number"),
    "choices twice": (lambda: BlockChoices((3, 3)), "kernel_sizes (3, 3)", "twice"),
    "choices twice as float": (lambda: BlockChoices((3,), (4, 4.0)), "(4, 4.0)", "twice"),
    "choices number": (lambda: BlockChoices(3), "kernel_sizes 3", "tuple of choices"),
    "choices text": (lambda: BlockChoices("357"), "kernel_sizes '357'", "tuple of choices"),
    "choices ratio": (lambda: BlockChoices((3,), (0,)), "expand_ratio 0", "above 0"),
    "choices paths flat": (lambda: BlockChoices((3,), paths=("main",)), "paths 'main'", "tuple of names"),
    "choices paths text": (lambda: BlockChoices((3,), paths="main"), "paths 'main'", "tuple of choices"),
    "choices paths empty": (lambda: BlockChoices((3,), paths=((),)), "paths ()", "at least one"),
    "choices no paths": (lambda: BlockChoices((3,), paths=()), "paths ()", "at least one"),
    "choices paths twice": (lambda: BlockChoices((3,), paths=(("a", "b"), ("b", "a"))), "('b', 'a')", "twice"),
    "choices no kernel": (BlockChoices, "kernel_sizes ()", "at least one"),
    "depths not the blocks": (lambda: StageChoices((1, 3), (CHOICES,) * 2), "depths (1, 3)", "number of blocks, 2"),
    "depths zero": (lambda: StageChoices((0, 1), (CHOICES,)), "depth 0", "positive whole number"),
    "depths float": (lambda: StageChoices((1, 1.5, 2), (CHOICES,) * 2), "depth 1.5", "positive whole number"),
    "depths empty": (lambda: StageChoices((), (CHOICES,)), "depths ()", "at least one"),
    "stage of no choices": (lambda: StageChoices((1,), ()), "()", "at least one BlockChoices"),
    "widths above one": (lambda: StageChoices((1,), (CHOICES,), (0.5, 2)), "width 2", "at most 1"),
    "space of nothing": (lambda: SearchSpace((32,), ()), "()", "at least one StageChoices"),
    "space of no size": (lambda: small_space(resolutions=()), "resolutions ()", "at least one"),
    "space of one size": (lambda: small_space(resolutions=32), "resolutions 32", "tuple of choices"),
    "space of mixed axes": (lambda: small_space(resolutions=((8, 9), (8, 9, 10))), "(8, 9, 10)", "number of axes"),
    "heights too high": (lambda: small_space(heights=(1, 3)), "heights (1, 3)", "number of stages, 2"),
    "heights text": (lambda: small_space(heights=("all",)), "height 'all'", "positive whole number"),
    "exits outside": (lambda: SearchSpace((32,), SPACE.stages, exits=(2, 3)), "exits (2, 3)", "1 to 2"),
    "exits lack a height": (lambda: SearchSpace((32,), SPACE.stages, (1, 2), (2,)), "exits (2,)", "all heights"),
    "stem of a block": (lambda: SearchSpace((32,), SPACE.stages, stem=BLOCK), "stem Block(", "BlockChoices"),
    "restrict to what is absent": (lambda: SPACE.restrict(kernel_sizes=(3, 7)), "kernel_sizes 7", "3, 5"),
    "restrict to nothing": (lambda: SPACE.restrict(depths=()), "depths ()", "at least one"),
    "restrict what does not exist": (lambda: SPACE.restrict(widths=(0.5,)), "widths (0.5,)", "no such factor"),
    "restrict misspelt": (lambda: SPACE.restrict(kernel_size=(3,)), "'kernel_size'", "Did you mean 'kernel_sizes'?"),
    "extend without the present": (lambda: SPACE.extend(depths=(2, 3)), "depths 2, 3", "1 is missing"),
    "uniform kernel": (lambda: SPACE.uniform(kernel_size=7), "kernel_size 7", "3, 5"),
    "uniform size": (lambda: SPACE.uniform(resolution=40), "resolution 40", "32, 48"),
    "uniform width": (lambda: SPACE.uniform(width=0.5), "width 0.5", "no such factor"),
    "uniform paths": (lambda: BRANCHED.uniform(paths="main"), "('main',)", "('skip',)"),
    "largest misspelt": (lambda: SPACE.largest(exits="alll"), "'alll'", "Did you mean 'all'?"),
    "code too short": (lambda: SPACE.decode([0]), "got 1", "16 numbers"),
    "code too large": (lambda: SPACE.decode([9] + [0] * 15), "code 9 of resolution", "0 to 1"),
    "code text": (lambda: SPACE.decode(["0"] + [0] * 15), "code '0' of resolution", "0 to 1"),
    "code absent": (lambda: SPACE.decode([-1] + [0] * 15), "absent"),
    "code of several exits": (
        lambda: small_space(heights=(1, 2)).encode(small_space(heights=(1, 2)).largest(exits="all")),
        "exits (1, 2)",
        "one exit",
    ),
    "mutation": (lambda: SPACE.mutate(LARGE, random.Random(0), 2), "probability 2", "between 0 and 1"),
    "outside kernel": (lambda: SPACE.check(build_elsewhere(kernel_sizes=(9,))), "kernel_size 9 of block 1", "3, 5"),
    "outside ratio": (lambda: SPACE.check(build_elsewhere(expand_ratios=(6,))), "expand_ratio 6", "allowed 3, 4"),
    "outside depth": (lambda: SPACE.check(build_elsewhere(depths=(5,))), "depth 5 of stage 1", "allowed 1, 2"),
    "outside size": (lambda: SPACE.check(build_elsewhere(resolutions=(64,))), "resolution 64", "allowed 32, 48"),
    "outside width": (lambda: SPACE.check(build_elsewhere(widths=(0.5,))), "width 0.5 of stage 1", "allowed none"),
    "outside stem": (lambda: SPACE.check(build_elsewhere(stem=CHOICES)), "stem k5e4", "not elastic"),
    "outside paths": (
        lambda: BRANCHED.check(BRANCHED.extend(paths=(("skip",), ("main", "skip"), ("pool",))).largest()),
        "paths pool of block 1 of stage 1",
        "allowed skip, main+skip",
    ),
    "outside height": (
        lambda: SPACE.check(small_space(heights=(1, 2)).uniform(height=1)),
        "height 1",
        "allowed 2",
    ),
    "outside exits": (
        lambda: SPACE.check(small_space(heights=(1, 2)).largest(exits="all")),
        "exits (1, 2)",
        "allowed 2",
    ),
    "no architecture": (lambda: SPACE.check("largest"), "'largest'", "give an Architecture"),
    "space JSON key": (lambda: SearchSpace.from_dict(SPACE.to_dict() | {"depth": 3}), "'depth'", "Allowed: "),
    "space JSON stages": (lambda: SearchSpace.from_dict(SPACE.to_dict() | {"stages": 3}), "stages 3", "list"),
    "space JSON value": (lambda: SearchSpace.from_dict(SPACE.to_dict() | {"heights": "2"}), "heights '2'", "tuple"),
    # -- networks and tasks
    "network name": (lambda: create_supernet("ofa_mbv2"), "'ofa_mbv2'", "Did you mean 'ofa_mbv3'?"),
    "network option": (lambda: network(kernel_size=(3,)), "'kernel_size'", "Did you mean 'kernel_sizes'?", "depths"),
    "network classes": (lambda: network(num_classes=0), "num_classes 0", "at least 1"),
    "network classes float": (lambda: network(num_classes=2.5), "num_classes 2.5", "whole number"),
    "network channels text": (lambda: network(in_channels="rgb"), "in_channels 'rgb'", "whole number"),
    "network width": (lambda: network(width_mult=0), "width_mult 0", "above 0"),
    "network width text": (lambda: network(width_mult="1.0"), "width_mult '1.0'", "number"),
    "network dropout": (lambda: network(dropout=1.0), "dropout 1.0", "below 1"),
    "network rule": (lambda: network(kernel_rule="transfrom"), "'transfrom'", "Did you mean 'transform'?"),
    "network size": (lambda: network(resolutions=(8, 32)), "resolution 8", "16 or more"),
    "network axes": (lambda: network(resolutions=((32, 48, 64),)), "(32, 48, 64)", "2 axes"),
    "task smoothing": (lambda: classification(label_smoothing=1), "label_smoothing 1", "below 1"),
    "task temperature": (lambda: classification(temperature=0), "temperature 0", "positive"),
    "task distance": (lambda: classification(distance="soft_target"), "Did you mean 'soft_targets'?"),
    "task weights": (lambda: classification(class_weights=(1, -1)), "(1, -1)", "0 or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value(name):
    function, *fragments = WRONG[name]
    with pytest.raises(UserError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    for fragment in fragments:
        assert fragment in message


def test_the_table_is_long_and_what_it_starts_from_is_right():
    assert len(WRONG) >= 60
    assert read(LARGE.to_json()) == LARGE and LARGE in SPACE
    assert build_elsewhere() in small_space()
    assert BRANCHED.uniform(paths=("skip",)) in BRANCHED
    assert SPACE.decode([0] * 16) == SPACE.smallest()
    assert network().space.resolutions == (32,)


def test_suggestion():
    assert suggestion("kernel", ("kernel_size", "paths")) == " Did you mean 'kernel_size'?"
    assert suggestion("ADAM", ("sgd", "Adam")) == " Did you mean 'Adam'?"
    assert suggestion("xyz", ("sgd", "adam")) == ""
    assert suggestion(7, (1, 70)) == " Did you mean '70'?"


def test_choices_and_keys_that_are_right_say_nothing():
    check_choice("optimizer", "sgd", ("sgd", "adam"))
    check_choice("activation", None, (None, "relu"))
    check_keys("stage", {"blocks": []}, ("blocks",), ("width",))
    check_keys("stage", {"blocks": [], "width": 1}, ("blocks",), ("width",))
    with pytest.raises(UserError, match=r"^stage lacks the key blocks\.$"):
        check_keys("stage", {"width": 1}, ("blocks",), ("width",))
    with pytest.raises(UserError, match=r"^optimizer 3 is not one of: 'sgd', 'adam'\.$"):
        check_choice("optimizer", 3, ("sgd", "adam"))


def test_what_is_neither_true_nor_false():
    check_truth(one=True, other=False)
    for value in (1, 0, None, "true"):
        with pytest.raises(UserError, match=f"other {value!r}: must be true or false"):
            check_truth(one=True, other=value)


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)
