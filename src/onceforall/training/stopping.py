"""When growing does not pay: what a phase gained, what the next one would cost, and what follows.

After a phase its newest choices are compared with the largest ones that were there before, in the same weights: each
pair of networks differs in nothing else. Where they do not pay, the phase is rolled back (ProX, section 4.2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from onceforall.architecture import Architecture
from onceforall.choices import Factors, listed
from onceforall.errors import UserError
from onceforall.evaluation.metrics import mean_interval
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.growing import final_space, without_weights
from onceforall.training.memory import training_bytes
from onceforall.training.openings import narrowed
from onceforall.training.phases import Phase
from onceforall.training.plan import expected_work
from onceforall.training.randomness import keyed_random
from onceforall.training.stop_rule import StopRule
from onceforall.training.validation import Validator

__all__ = ["apply_verdict", "judge", "opened_by", "pairs_of_sizes", "refuse_unpaid", "verdicts_on"]


def opened_by(space: SearchSpace, before: SearchSpace) -> dict[str, Any]:
    """The choices of each factor that `space` offers and `before` does not."""
    new = {
        factor: tuple(choice for choice in getattr(space, factor) if choice not in getattr(before, factor))
        for factor in Factors.__annotations__
    }
    return {factor: choices for factor, choices in new.items() if choices}


def _opens_larger(space: SearchSpace, before: SearchSpace) -> bool:
    """Whether `space` has more choices, all of them larger than those of `before`; shrinking opens smaller ones."""
    pairs = [(getattr(space, factor), getattr(before, factor), new) for factor, new in opened_by(space, before).items()]
    larger = [choices.index(one) > choices.index(known[-1]) for choices, known, new in pairs if known for one in new]
    return bool(pairs) and all(larger)


def pairs_of_sizes(
    space: SearchSpace, before: SearchSpace, count: int, seed: int
) -> list[tuple[Architecture, Architecture]]:
    """At most `count` different pairs (larger, smaller) that differ in the factors that `space` opens, and only there.

    The larger one has their newest choices throughout, the smaller one the largest of `before`. The first pair are
    the largest networks.
    """
    newest = opened_by(space, before)
    largest_before: dict[str, Any] = {factor: getattr(before, factor)[-1:] for factor in newest}
    sides = (narrowed(space, **newest), narrowed(space, **largest_before))

    def drawn(side: SearchSpace, number: int) -> Architecture:
        """Each variable draws by its name, so both sides draw the same where they have the same variable."""
        draws = [(keyed_random(seed, "pairs", number, name).random(), len(c)) for name, c in side.variables()]
        return side.decode([int(u * choices) for u, choices in draws])

    found = {(sides[0].largest(), sides[1].largest()): None}
    for number in range(4 * count):
        if len(found) < count:
            found[drawn(sides[0], number), drawn(sides[1], number)] = None
    return list(found)


def judge(
    rule: StopRule,
    space: SearchSpace,
    before: SearchSpace,
    scores: Callable[[Sequence[Architecture], str], Mapping[Architecture, float]],
    higher_is_better: bool,
    seed: int,
) -> dict[str, Any]:
    """What the choices that `space` has more than `before` gain, as JSON types.

    Args:
        rule: how many pairs, and what they must gain.
        space, before: of the phase, and of the one before it.
        scores: (architectures, split) to the metric of each, in the weights that the phase left.
        higher_is_better: of the metric.
        seed: of the pairs.

    Returns `opened`, `gain` with `interval` (95 %, Student's t over the pairs), the `pairs` themselves, `gap`: by how
    much the largest network, with and without the newest choices, is better on training images than on validation
    images; and `pays`, whether the mean gain reaches `min_gain`.
    """
    pairs = pairs_of_sizes(space, before, rule.pairs, seed)
    found = scores(list(dict.fromkeys(member for pair in pairs for member in pair)), "validation")
    trained = scores(pairs[0], "train")
    sign = 1 if higher_is_better else -1
    gains = [sign * (found[larger] - found[smaller]) for larger, smaller in pairs]
    low, high = mean_interval(gains) if len(gains) > 1 else (None, None)
    gain = float(np.mean(gains))
    return {
        "opened": {factor: list(choices) for factor, choices in opened_by(space, before).items()},
        "gain": gain,
        "interval": [low, high],
        "pairs": [{"larger": found[a], "smaller": found[b]} for a, b in pairs],
        "gap": {name: sign * (trained[a] - found[a]) for name, a in zip(("new", "old"), pairs[0], strict=True)},
        "min_gain": rule.min_gain,
        "pays": gain >= rule.min_gain,
    }


def verdicts_on(supernet: Supernet, phases: Sequence[Phase], index: int, validator: Validator) -> list[dict[str, Any]]:
    """The verdict on phase `index`, whose weights `supernet` has, and one on each phase that cannot be paid after it.

    Each has `phase`, the phase that was judged, `reason` in words, and what `apply_verdict` takes; the first also what
    `judge` found. They follow one another: what one leaves out the next one does not ask for. There is no verdict on
    the first phase, which can not be left out, and on one that opens smaller choices or none.
    """
    rule = phases[index].stop_rule
    assert rule is not None
    verdicts, following = [], index + 1
    if index and _opens_larger(phases[index].space, phases[index - 1].space):
        verdicts.append(_verdict(rule, supernet, phases, index, validator))
        if verdicts[0]["action"] != "continue":
            phases, following = apply_verdict(phases, verdicts[0]), index
    while following < len(phases) and (over := _over_budget(rule, phases, following, supernet, validator)):
        follows = {"stop": "the run ends before it", "skip": "left out", "continue": "going on all the same"}
        reason = f"{over}; {follows[rule.action]}."
        verdicts.append({"phase": phases[following].name, "at": following, "action": rule.action, "reason": reason})
        if rule.action == "continue":
            break
        phases = apply_verdict(phases, verdicts[-1])
    return verdicts


def _verdict(
    rule: StopRule, supernet: Supernet, phases: Sequence[Phase], index: int, validator: Validator
) -> dict[str, Any]:
    phase, before = phases[index], phases[index - 1]
    task, ledger = validator.task, validator.ledger
    count = validator.options.validation_images or validator.data.count("validation")

    def scores(architectures: Sequence[Architecture], split: str) -> dict[Architecture, float]:
        found = validator.scores(supernet, architectures, phase, count, split)
        return {architecture: metrics[task.metric] for architecture, metrics in found.items()}

    with ledger.time("validation"):
        found = judge(rule, phase.space, before.space, scores, task.higher_is_better, validator.options.seed)
    [pays] = validator.world.sum([float(found["pays"] and validator.world.is_first)])  # one answer for all processes
    first = {"phase": phase.name, "at": index, "action": "continue" if pays else rule.action}
    return found | first | {"reason": _gain_in_words(phase, found, task.metric, rule)}


def refuse_unpaid(supernet: Supernet, phases: Sequence[Phase], validator: Validator) -> None:
    """Raise `UserError` where the first phase alone would exceed a budget at which the run shall not go on."""
    rule = phases[0].stop_rule
    if rule is None or rule.action == "continue":
        return
    if over := _over_budget(rule, phases, 0, supernet, validator):
        raise UserError(f"{over}, and there is nothing before it; raise the budget or make this phase smaller.")


def _gain_in_words(phase: Phase, found: Mapping[str, Any], metric: str, rule: StopRule) -> str:
    """What a phase gained, and what follows, for the person who waits."""
    opened = "; ".join(f"{factor} {listed(choices)}" for factor, choices in found["opened"].items())
    low, high = found["interval"]
    interval = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"  # one pair says nothing about its spread
    pairs = "1 pair" if low is None else f"{len(found['pairs'])} pairs"
    what = (
        f"{phase.name}: {opened} gained {found['gain']:+.4f} {metric}{interval} over {pairs} of networks, "
        f"{rule.min_gain:g} asked"
    )
    if found["pays"]:
        return f"{what}: it pays."
    follows = {"stop": "rolled back, and the run ends", "skip": "rolled back and left out", "continue": "going on"}
    return f"{what}: it does not pay; {follows[rule.action]}."


def _over_budget(rule: StopRule, phases: Sequence[Phase], index: int, supernet: Supernet, validator: Validator) -> str:
    """Which budget of `rule` phase `index` would exceed, in words, or ""; time is only known once some was spent."""
    images, entries = validator.data.count("train"), validator.ledger.entries
    whole = without_weights(supernet, final_space(phases[0].space, phases))
    work = expected_work(whole, phases, images)[index]
    own = sum(sum(entry["seconds"].values()) for entry in entries)
    [seconds] = validator.world.sum([own if validator.world.is_first else 0.0])  # one clock for all processes
    macs = sum(entry["macs"] for entry in entries)
    amounts = {"max_seconds": seconds * (1 + work / macs) if macs else 0.0, "max_macs": macs + work, "max_memory": 0.0}
    if rule.max_memory is not None:
        network = without_weights(supernet, phases[index].space).to(next(supernet.parameters()).dtype)
        at_once = min(phases[index].batch_size, images) / validator.options.micro_batches
        parts = training_bytes(network, phases[index], at_once)
        amounts["max_memory"] = parts["parameter_bytes"] + sum(parts.values())  # gradients are as large as parameters
    for name, amount in amounts.items():
        limit = getattr(rule, name)
        if limit is not None and amount > limit:
            return f"{name} {limit:.3g}: {phases[index].name} would bring it to {amount:.3g}"
    return ""


def apply_verdict(phases: Sequence[Phase], verdict: Mapping[str, Any]) -> list[Phase]:
    """The phases that are carried out after a verdict: its `action`, at the phase number `at` (from 0, but not 0).

    "stop" ends the list before that phase. "skip" leaves out that phase, and of later ones the choices that it opened
    and larger ones of these factors; a phase of which nothing new is left is left out too.
    """
    at = verdict["at"]
    if verdict["action"] == "continue":
        return list(phases)
    out = list(phases[:at])
    if verdict["action"] == "stop":
        return out
    known = out[-1].space
    factors = opened_by(phases[at].space, known)

    def cut(space: SearchSpace) -> SearchSpace:
        """`space` with only those choices of `factors` that `known` has."""
        kept: dict[str, Any] = {f: tuple(c for c in getattr(space, f) if c in getattr(known, f)) for f in factors}
        return narrowed(space, **{factor: choices for factor, choices in kept.items() if choices})

    for earlier, phase in pairwise(phases[at:]):
        space = cut(phase.space)
        if opened_by(phase.space, earlier.space) and not opened_by(space, out[-1].space):
            continue
        favoured = None if phase.favoured is None else cut(phase.favoured)
        sizes = None if phase.resolutions is None else tuple(s for s in phase.resolutions if s in space.resolutions)
        out.append(replace(phase, space=space, favoured=favoured, resolutions=sizes or None))
    return out
