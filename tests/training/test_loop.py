"""The loop: what one step computes, by hand; what a phase starts from and leaves; what stops a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from onceforall.data import ImageData
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.tasks import classification
from onceforall.layers.channels import sort_channels
from onceforall.supernets import Freeze
from onceforall.supernets.registry import create_supernet
from onceforall.training import loop, teachers
from onceforall.training.checkpoint import load_network, read_info, read_state
from onceforall.training.phases import Teacher, draw_architectures
from onceforall.training.randomness import key, seeded_layers
from onceforall.training.records import Records
from onceforall.training.schedules import extended_progressive_shrinking
from onceforall.training.stop_rule import StopRule
from onceforall.training.teachers import TeacherNetwork
from onceforall.training.validation import Validator
from tiny_runs import one_phase, run, small_supernet, striped

SPACE = small_supernet().space
QUICK = {"random_validation": 0, "validation_images": 4, "calibration_images": 8}


@pytest.fixture
def seen(monkeypatch):
    """What the loop asked for: batches (indices, resolution, images, labels) and the architectures of each step."""
    batches, steps = [], []
    make = ImageData.train_batch

    def train_batch(self, indices, resolution, generator, device="cpu", dtype=None):
        state = generator.get_state()
        images, labels = make(self, indices, resolution, generator, device, dtype)
        batches.append((indices, resolution, images, labels, state))
        return images, labels

    def draw(*arguments):
        steps.append(draw_architectures(*arguments))
        return steps[-1]

    monkeypatch.setattr(ImageData, "train_batch", train_batch)
    monkeypatch.setattr(loop, "draw_architectures", draw)
    return batches, steps


def plain_step(**fields):
    """A phase of one step of gradient descent, in which the weights' change is -0.1 times the gradient."""
    given = {"batch_size": 22, "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0, "dropout": 0.0}
    return one_phase(SPACE, **(given | {"decay": "constant"} | fields))


def parameters_of(net):
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def gradient(supernet, loss):
    parameters = list(supernet.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def check_moved(trained, expected):
    """`trained` is a fresh supernet after one step with the gradient `expected`."""
    start = small_supernet().double()
    moved = False
    for (name, parameter), before, part in zip(trained.named_parameters(), start.parameters(), expected, strict=True):
        torch.testing.assert_close(
            parameter, before - 0.1 * part, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n} {m}"
        )
        moved = moved or not torch.equal(parameter, before)
    assert moved


def cross_entropy(outputs, labels):
    return F.cross_entropy(outputs, labels, label_smoothing=0.1)


# -- one step, by hand -------------------------------------------------------------------------------------------------

ONE_STEP = striped(30)  # 18 images to train: one step


@pytest.mark.parametrize(("parts", "sizes"), [(1, [18]), (2, [9, 9]), (4, [5, 5, 4, 4])])
@pytest.mark.parametrize("gradients", ["sum", "mean"])
def test_gradients_add_up_over_micro_batches_and_sub_networks(tmp_path, seen, parts, sizes, gradients):
    phase = plain_step(subnets_per_step=2, gradients=gradients)
    trained = run(tmp_path / "run", [phase], data=ONE_STEP, precision="fp64", micro_batches=parts, **QUICK)
    batches, [architectures] = seen
    assert [len(indices) for indices, *_ in batches] == sizes
    assert sorted(np.concatenate([indices for indices, *_ in batches])) == list(range(18))
    supernet = small_supernet().double().train()
    supernet.set_dropout(0.0)
    loss = sum(
        len(images) / 18 * cross_entropy(supernet(images, architecture), labels)
        for _, _, images, labels, _ in batches
        for architecture in architectures
    )
    check_moved(trained, gradient(supernet, loss / (2 if gradients == "mean" else 1)))
    [line] = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert line["train_loss"] == pytest.approx(float(loss.detach()) / 2, rel=1e-12)
    assert len({a.resolution for a in architectures}) == 1 and {b[1] for b in batches} == {architectures[0].resolution}


def test_sandwich_teaches_in_place(tmp_path, seen):
    """The largest learns from labels, the others from its outputs of this very step, through which nothing flows."""
    phase = plain_step(sampler="sandwich", subnets_per_step=3, teacher=Teacher("in_place"), task_weight=0.0)
    trained = run(tmp_path / "run", [phase], data=ONE_STEP, precision="fp64", **QUICK)
    [(_, size, images, labels, _)], [[largest, smallest, other]] = seen
    assert largest == replace(SPACE.largest(), resolution=size)
    supernet = small_supernet().double().train()
    supernet.set_dropout(0.0)
    outputs = supernet(images, largest)
    soft = outputs.detach().softmax(1)
    loss = cross_entropy(outputs, labels)
    for architecture in (smallest, other):
        loss = loss - (soft * supernet(images, architecture).log_softmax(1)).sum(1).mean()
    check_moved(trained, gradient(supernet, loss))


def test_in_turn_the_largest_teaches_by_a_pass_of_its_own(tmp_path, seen):
    """The second step of the sandwich rule in turn trains the smallest; dropout (0.5) does not touch its teacher."""
    data = striped(56)  # 38 images to train: two steps of 19
    phase = plain_step(sampler="sandwich_in_turn", teacher=Teacher("in_place"), task_weight=0.0, batch_size=19)
    supernet = small_supernet()
    trained = run(tmp_path / "run", [phase], supernet=supernet, data=data, precision="fp64", **QUICK)
    batches, [[largest], [smallest]] = seen
    own = small_supernet().double().train()
    own.set_dropout(0.0)
    (_, _, images, labels, _), (_, size, later_images, _, _) = batches
    first = gradient(own, cross_entropy(own(images, largest), labels))
    with torch.no_grad():
        for parameter, part in zip(own.parameters(), first, strict=True):
            parameter -= 0.1 * part
        soft = own(later_images, replace(SPACE.largest(), resolution=size)).softmax(1)
    assert smallest == replace(SPACE.smallest(), resolution=size)
    second = gradient(own, -(soft * own(later_images, smallest).log_softmax(1)).sum(1).mean())
    for parameter, before, part in zip(trained.parameters(), own.parameters(), second, strict=True):
        torch.testing.assert_close(parameter, before - 0.1 * part, rtol=1e-9, atol=1e-12)


def two_phases(**fields):
    """A phase that trains the largest, and one step that is taught by it."""
    first = replace(plain_step(), name="first", space=SPACE.restrict(depths=(2,)), sampler="largest")
    return [first, replace(plain_step(teacher=Teacher("first")), name="second", **fields)]


def test_soft_targets_come_from_the_first_phase(tmp_path, seen):
    phases = two_phases(task_weight=0.7, distillation_weight=1.5)
    trained = run(tmp_path / "run", phases, data=ONE_STEP, precision="fp64", **QUICK)
    (_, (_, size, images, labels, _)), (_, [architecture]) = seen
    teacher = load_network(tmp_path / "run/checkpoints/1-first-best.safetensors")
    supernet = load_network(tmp_path / "run/checkpoints/1-first-best.safetensors").train()
    for net in (teacher, supernet):
        net.set_dropout(0.0)
    before = parameters_of(supernet)
    with torch.no_grad():
        soft = teacher.train()(images, replace(phases[0].space.largest(), resolution=size)).softmax(1)
    outputs = supernet(images, architecture)
    loss = 0.7 * cross_entropy(outputs, labels) - 1.5 * (soft * outputs.log_softmax(1)).sum(1).mean()
    for (name, parameter), part in zip(trained.named_parameters(), gradient(supernet, loss), strict=True):
        torch.testing.assert_close(parameter, before[name] - 0.1 * part, rtol=1e-9, atol=1e-12)


def test_a_teacher_is_calibrated_by_the_rule_of_the_run(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(teachers, "calibrate", lambda net, images, rule: asked.append(rule) or calibrate(net, images))
    phases = two_phases(teacher=Teacher("first", batchnorm="calibrated"))
    run(tmp_path / "run", phases, data=ONE_STEP, calibration_rule="population", **QUICK)
    assert set(asked) == {"population"}


def test_a_teacher_at_its_native_resolution_sees_the_same_views(tmp_path, seen, monkeypatch):
    asked = []
    answer = TeacherNetwork.soft_targets

    def soft_targets(self, images, resolution):
        asked.append((images, resolution))
        return answer(self, images, resolution)

    monkeypatch.setattr(TeacherNetwork, "soft_targets", soft_targets)
    phases = two_phases(teacher=Teacher("first", input="native"), resolutions=(16,))
    run(tmp_path / "run", phases, data=ONE_STEP, micro_batches=2, **QUICK)
    batches = seen[0][2:]
    assert [size for _, size, *_ in batches] == [16, 24, 16, 24]
    for (own, _, _, _, state), (same, _, images, _, same_state) in (batches[:2], batches[2:]):
        assert np.array_equal(own, same) and torch.equal(state, same_state)
        assert any(given is images and size == 24 for given, size in asked)
    assert not torch.equal(batches[0][4], batches[2][4]), "two micro-batches are augmented alike"


# -- freezing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (Freeze(stem=True), lambda name: name.startswith("stem")),
        (Freeze(head=True), lambda name: name.startswith("exits")),
        (Freeze(earlier_blocks=True), lambda name: name.startswith("stages") and name.split(".")[2] == "0"),
    ],
)
def test_frozen_parts_stay_bit_for_bit(tmp_path, freeze, frozen):
    phase = one_phase(SPACE, optimizer="adam", weight_decay=0.5, freeze=freeze, sampler="largest")
    supernet = small_supernet()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    run(tmp_path / "run", [phase], supernet=supernet, data=striped(48), **QUICK)
    resting = {name for name, tensor in supernet.state_dict().items() if torch.equal(tensor, before[name])}
    expected = {name for name in before if frozen(name)}
    assert expected and expected <= resting
    trained = {name for name, _ in supernet.named_parameters()} - resting
    assert len(trained) > 50 and not trained & expected
    assert all(parameter.grad is None for name, parameter in supernet.named_parameters() if frozen(name))
    moments = read_state(tmp_path / "run/checkpoints")[0]["optimizer"]["moments"]
    assert moments and not set(moments) & expected


def test_which_exits_and_paths_each_phase_moves(tmp_path):
    """An exit that no sampled height reaches keeps its weights; full trains all exits (OFAv2, Table III)."""
    space = {"depths": (1,), "expand_ratios": (3,), "kernel_sizes": (3, 5), "resolutions": (16,)}
    supernet = create_supernet("ee_p_ofa_mbv3", num_classes=3, in_channels=1, width_mult=0.25, **space)
    names = [name for name, _ in supernet.named_parameters()]

    def trained(**arguments):
        phases = extended_progressive_shrinking(
            supernet.space, total_epochs=12, subnets_per_step=4, exit_weights="unif", **arguments
        )
        phases = [replace(p, epochs=2, batch_size=12, weight_decay=0.0, start_from="last") for p in phases[:6]]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        before = {name: tensor.clone() for name, tensor in supernet.initialise(0).state_dict().items()}
        run(folder, phases, supernet=supernet, data=striped(40), extreme_validation=2, **QUICK)
        for number, phase in enumerate(phases, start=1):
            after = load_network(folder / f"checkpoints/{number}-{phase.name}-last.safetensors").state_dict()
            yield phase.name, {name for name in names if not torch.equal(before[name], after[name])}
            before = after

    def exits(moved):
        return {int(name.split(".")[1]) for name in moved if name.startswith("exits.")}

    found = dict(trained())
    assert list(found) == ["full", "kernel", "level_1", "level_2", "height_1", "height_2"]
    assert [exits(moved) for moved in found.values()] == [{1, 2, 3, 4, 5}, {5}, {5}, {5}, {4, 5}, {3, 4, 5}]
    for moved in found.values():
        for path in ("main", "pointwise", "norm_act"):
            assert [name for name in moved if f"paths.{path}." in name], path
    matrices = [[name for name in moved if "matrices" in name] for moved in found.values()]
    assert not matrices[0] and all(matrices[1:]), "only smaller kernels use the matrices"
    assert [exits(moved) for moved in dict(trained(train_all_exits=True)).values()][:4] == [{1, 2, 3, 4, 5}] * 4


@pytest.mark.parametrize(("guard", "expected"), [(True, [0, 0, 2]), (False, [0, 1, 2])])
def test_a_guarded_teacher_is_the_newest_that_is_no_worse(tmp_path, monkeypatch, guard, expected):
    """Scores of the largest after each phase: the second phase spoils it, the third mends it."""
    scores, taught = {0: 0.5, 1: 0.4, 2: 0.6}, []
    own = loop._Run._largest_of

    def largest_of(self, index):
        network = own(self, index)
        network.number = index
        return network

    def score(self, supernet, architecture, phase, images=None):
        return {"accuracy": scores[supernet.number]} if hasattr(supernet, "number") else {"accuracy": 0.0}

    def teacher(network, *arguments):
        taught.append(network.number)
        return TeacherNetwork(network, *arguments)

    monkeypatch.setattr(loop._Run, "_largest_of", largest_of)
    monkeypatch.setattr(Validator, "score", score)
    monkeypatch.setattr(loop, "TeacherNetwork", teacher)
    later = Teacher("previous_phase", guard=guard)
    phases = [one_phase(SPACE, name=f"number_{i}", teacher=later if i else Teacher()) for i in range(4)]
    run(tmp_path / "run", phases, data=striped(40), **QUICK)
    assert taught == expected


# -- what a phase starts from and leaves -------------------------------------------------------------------------------


@pytest.fixture
def falling(monkeypatch):
    """Every validation is worse than the one before: the best weights are those of the first epoch."""
    scores = iter(range(1000, 0, -1))
    monkeypatch.setattr(Validator, "validate", lambda *_: {"largest": {"accuracy": float(next(scores))}})


STILL = {"learning_rate": 1e-60, "dropout": 0.0}


@pytest.mark.parametrize("start_from", ["best", "last"])
def test_weights_that_a_phase_starts_from(tmp_path, falling, start_from):
    first = one_phase(SPACE, name="first", epochs=2, batch_size=32)
    trained = run(tmp_path / "run", [first, one_phase(SPACE, name="next", start_from=start_from, **STILL)])
    files = {which: load_file(tmp_path / f"run/checkpoints/1-first-{which}.safetensors") for which in ("best", "last")}
    assert not torch.equal(files["best"]["stem.0.conv.weight"], files["last"]["stem.0.conv.weight"])
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, files[start_from][name]), name


def test_the_best_weights_of_the_last_phase_are_returned(tmp_path, falling):
    trained = run(tmp_path / "run", [one_phase(SPACE, epochs=2, batch_size=32)])
    best, last = (load_file(tmp_path / f"run/checkpoints/1-only-{which}.safetensors") for which in ("best", "last"))
    state = trained.state_dict()
    assert all(torch.equal(state[name], best[name]) for name in best)
    assert any(not torch.equal(state[name], last[name]) for name in last)


def test_lower_may_be_better(tmp_path, falling):
    task = replace(classification(), higher_is_better=False)
    run(tmp_path / "run", [one_phase(SPACE, epochs=2, batch_size=32)], task=task)
    best, last = (load_file(tmp_path / f"run/checkpoints/1-only-{which}.safetensors") for which in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in best)


def test_a_score_that_is_no_number_is_not_the_best(tmp_path, monkeypatch):
    scores = iter([float("nan"), 0.2, 0.4, float("nan"), 0.3])
    monkeypatch.setattr(Validator, "validate", lambda *_: {"largest": {"accuracy": next(scores)}})
    run(tmp_path / "run", [one_phase(SPACE, epochs=5, batch_size=64)], **QUICK)
    assert read_info(tmp_path / "run/checkpoints/1-only-best.safetensors")["epoch"] == 3
    assert read_state(tmp_path / "run/checkpoints")[0]["best"] == 0.4


def test_a_task_may_give_numbers_of_numpy(tmp_path):
    task = classification()
    measure = task.measure
    task = replace(task, measure=lambda batches: {k: np.float64(v) for k, v in measure(batches).items()})
    rule = StopRule("continue", pairs=2)
    phases = [replace(phase, stop_rule=rule) for phase in two_phases()]
    grown = [replace(phases[0], space=SPACE.restrict(depths=(1,))), replace(phases[1], teacher=Teacher())]
    run(tmp_path / "run", grown, task=task, **QUICK)
    state, notice = read_state(tmp_path / "run/checkpoints")
    assert state is not None and not notice and isinstance(state["best"], float)
    run(tmp_path / "run", grown, task=task, resume=True, **QUICK)


@pytest.mark.parametrize("how", ["banded", "reference"])
def test_channels_are_sorted_at_the_start(tmp_path, how):
    narrow = SPACE.restrict(expand_ratios=(6,))
    phases = [
        one_phase(narrow, name="first", sampler="largest", batch_size=32),
        one_phase(SPACE, name="wide", sort_channels=how, batch_size=32, **STILL),
    ]
    trained = run(tmp_path / "run", phases, **QUICK)
    by_hand = load_network(tmp_path / "run/checkpoints/1-first-best.safetensors")
    unsorted = parameters_of(by_hand)
    sort_channels(by_hand.channel_groups(), narrow, how == "banded")
    expected = parameters_of(by_hand)
    assert all(torch.equal(parameter, expected[name]) for name, parameter in trained.named_parameters())
    assert any(not torch.equal(expected[name], unsorted[name]) for name in expected)


@pytest.mark.parametrize(("optimizer_state", "steps"), [("carry", 5), ("fresh", 2)])
def test_moments_are_carried_from_phase_to_phase(tmp_path, optimizer_state, steps):
    """Adam counts the steps of its moments: three in the first phase, two in the next."""
    fields = {"optimizer": "adam", "learning_rate": 1e-3, "sampler": "largest"}
    phases = [
        one_phase(SPACE, name="first", batch_size=20, kernel_matrices="no_decay", **fields),
        one_phase(SPACE, name="next", batch_size=32, optimizer_state=optimizer_state, **fields),
    ]
    run(tmp_path / "run", phases, **QUICK)
    moments = read_state(tmp_path / "run/checkpoints")[0]["optimizer"]["moments"]
    assert {float(values["step"]) for values in moments.values()} == {steps}


def test_validation_comes_when_the_phase_says_and_at_its_end(tmp_path):
    run(tmp_path / "run", [one_phase(SPACE, epochs=5, validate_every=2, batch_size=64)], **QUICK)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["epoch"] for line in lines if "validation" in line] == [2, 4, 5]


def test_an_epoch_passes_every_image_that_fills_a_batch_once(tmp_path, seen):
    run(tmp_path / "run", [one_phase(SPACE, epochs=2, batch_size=32)], **QUICK)
    epochs = [np.concatenate([indices for indices, *_ in seen[0][i : i + 2]]) for i in (0, 2)]
    assert all(len(set(epoch)) == 64 for epoch in epochs)
    assert list(epochs[0]) != list(epochs[1])


def test_every_forward_pass_draws_its_own_dropout(tmp_path, monkeypatch):
    keys = []

    def seeded(device, *parts):
        keys.append(parts)
        return seeded_layers(device, *parts)

    monkeypatch.setattr(loop, "seeded_layers", seeded)
    phases = [one_phase(SPACE, name=name, batch_size=32, subnets_per_step=2) for name in ("first", "next")]
    run(tmp_path / "run", phases, micro_batches=2, **QUICK)
    assert len(keys) == len({key(*parts) for parts in keys}) == 2 * 2 * 2 * 2  # phases, steps, parts, sub-networks
    seeds = {parts[0] for parts in keys}
    run(tmp_path / "other", phases[:1], seed=1, **QUICK)
    assert seeds == {0} and keys[-1][0] == 1


def test_classes_are_balanced_on_request(tmp_path, seen):
    data = striped(90)
    marks = data._labels  # make the first class rare: 1 in 10 images of class 0 stays, the others become class 1
    rare = np.flatnonzero(marks == 0)
    marks[rare[3:]] = 1
    counts = {}
    for balance in ("none", "classes"):
        seen[0].clear()
        phase = one_phase(SPACE, epochs=4, batch_size=30, sampler="random")
        run(
            tmp_path / balance, [replace(phase, space=SPACE.restrict(depths=(1,)))], data=data, balance=balance, **QUICK
        )
        labels = torch.cat([labels for _, _, _, labels, _ in seen[0]])
        counts[balance] = torch.bincount(labels, minlength=3) / len(labels)
    assert counts["none"][0] < 0.1 and 0.2 < counts["classes"][0] < 0.47


# -- what stops a run --------------------------------------------------------------------------------------------------


def test_a_broken_evaluation_fails_before_the_first_step(tmp_path, monkeypatch):
    def broken(_):
        raise RuntimeError("evaluation is broken")

    steps = []
    monkeypatch.setattr(Records, "advance", lambda *_: steps.append(1))
    supernet = small_supernet()
    before = parameters_of(supernet)
    with pytest.raises(RuntimeError, match="evaluation is broken"):
        run(tmp_path / "run", [one_phase(SPACE)], supernet=supernet, task=replace(classification(), measure=broken))
    assert not steps and all(torch.equal(before[name], p) for name, p in supernet.named_parameters())


def spoiled(at_call, spoil):
    """A task whose loss is what `spoil` makes of it at one call."""
    task = classification()
    calls = []

    def loss(outputs, labels):
        calls.append(1)
        own = task.loss(outputs, labels)
        return spoil(own, outputs) if len(calls) == at_call else own

    return replace(task, loss=loss)


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("the loss became nan", lambda loss, _: loss * float("nan")),
        ("the loss became inf", lambda loss, _: loss + float("inf")),
        ("the gradient became not finite", lambda loss, outputs: loss + (0 * outputs).sqrt().sum()),
    ],
)
def test_numbers_out_of_bounds_stop_the_run_and_keep_the_last_state(tmp_path, what, spoil):
    supernet = small_supernet()
    phase = one_phase(SPACE, subnets_per_step=2)
    with pytest.raises(UserError, match=what) as error:  # calls 5 and 6 are the third step
        run(tmp_path / "run", [phase], supernet=supernet, task=spoiled(6, spoil), checkpoint_every=1, **QUICK)
    message = str(error.value)
    assert "at step 2 of phase 'only'" in message and "\n" not in message
    assert " in r16 |" in message or " in r24 |" in message  # the architecture
    state, notice = read_state(tmp_path / "run/checkpoints")
    assert state["step"] == 2 and not notice
    assert all(torch.equal(state["network"][name], p) for name, p in supernet.named_parameters()), "weights moved"
    assert all(tensor.isfinite().all() for tensor in state["network"].values())
    with pytest.raises(UserError, match=r"learning_rate: 0\.05 before, 0\.01 now"):
        run(tmp_path / "run", [replace(phase, learning_rate=0.01)], resume=True, **QUICK)
    run(tmp_path / "run", [phase], resume=True, **QUICK)  # with the task mended, it goes on


def test_memory_that_ends_is_one_line(tmp_path):
    def greedy(loss, outputs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 12 bytes")

    with pytest.raises(
        UserError, match=r"memory ended in phase 'only', batch_size 16, micro_batches 1 .*=2 \(8 images"
    ):
        run(tmp_path / "run", [one_phase(SPACE)], task=spoiled(3, greedy), **QUICK)


def test_other_errors_are_left_as_they_are(tmp_path):
    def wrong(loss, outputs):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run(tmp_path / "run", [one_phase(SPACE)], task=spoiled(1, wrong), **QUICK)


def test_it_works_in_bf16_and_fp16(tmp_path):
    for precision in ("bf16", "fp16"):
        supernet = run(tmp_path / precision, [one_phase(SPACE, batch_size=32)], precision=precision, **QUICK)
        assert all(p.isfinite().all() and p.dtype == torch.float32 for p in supernet.parameters())


def test_no_global_generator_moves(tmp_path):
    import random

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    phases = [
        one_phase(SPACE, name="full", dropout=0.5, batch_size=32),
        one_phase(
            SPACE, name="turn", dropout=0.5, batch_size=32, sampler="sandwich_in_turn", teacher=Teacher("in_place")
        ),
    ]
    run(tmp_path / "run", phases, **QUICK)
    assert random.getstate() == before[0] and np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
