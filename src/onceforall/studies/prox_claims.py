"""What ProX claims, and the goals of this project beside, each as a difference or ratio of two numbers."""

from collections.abc import Iterator, Sequence

import numpy as np

from onceforall.evaluation.metrics import mean_interval, paired_bootstrap
from onceforall.studies.claims import CONFIDENCE, Claim, Judgement, verdict
from onceforall.studies.prox import BASELINE, DATA_SETS, INCREASING, MIXED, TIME_RATIOS
from onceforall.studies.prox_results import ProxNumber, ProxResults

__all__ = ["difference_to", "judge_prox", "prox_claims"]

MARGIN = 0.01  # what counts as no worse
MACS_GOAL, LEARNING_GOAL = 0.38, 0.42
SHOWN = {MIXED: "ProX-MR", INCREASING: "ProX-IR"}
TIME_NOTE = "times belong to the machine, and to what else ran on it"


def prox_claims(data_sets: Sequence[str]) -> list[Claim[ProxNumber]]:
    """The claims about each of the data sets."""
    return [claim for data in data_sets for claim in _of_data_set(data)]


def _of_data_set(data: str) -> Iterator[Claim[ProxNumber]]:
    on = f"on {DATA_SETS[data].title}"
    best, worst = TIME_RATIOS
    images = DATA_SETS[data].task == "classification"
    margin = "1 point" if images else f"{MARGIN:g} of Dice"

    def score(run: str) -> ProxNumber:
        return ProxNumber(data, run, "score")

    for run, shown in SHOWN.items():
        first, others = ProxNumber(data, run, "seconds"), (ProxNumber(data, BASELINE, "seconds"),)
        text = f"{shown} trains in at most {100 * worst:.0f} % of the time of progressive shrinking {on}"
        note = f"the paper: {100 * best:.0f} to {100 * worst:.0f} % over its data sets; {TIME_NOTE}"
        yield Claim(f"{data}-time-{run}", text, first, others, note=note, at_most=worst)
    for run, shown in SHOWN.items():
        text = f"{shown} is no worse than progressive shrinking, by at most {margin} {on}"
        note = f"not inferior where the whole interval lies above -{margin}"
        yield Claim(f"{data}-score-{run}", text, score(run), (score(BASELINE),), -MARGIN, note, in_points=images)
    leader, other = (MIXED, INCREASING) if images else (INCREASING, MIXED)
    text = f"{SHOWN[leader]} has better sub-networks than {SHOWN[other]} {on}"
    yield Claim(f"{data}-leader", text, score(leader), (score(other),), in_points=images)
    for run, shown in SHOWN.items():
        first, others = ProxNumber(data, run, "macs"), (ProxNumber(data, BASELINE, "macs"),)
        text = f"goal: {shown} needs at most {MACS_GOAL:g} of the multiply-adds of progressive shrinking {on}"
        yield Claim(f"{data}-macs-{run}", text, first, others, note="not in the paper", at_most=MACS_GOAL)
        first, others = (ProxNumber(data, each, "learning_seconds") for each in (run, BASELINE))
        text = f"goal: {shown} needs at most {LEARNING_GOAL:g} of its time for students and teachers {on}"
        note = f"not in the paper; {TIME_NOTE}"
        yield Claim(f"{data}-learning-{run}", text, first, (others,), note=note, at_most=LEARNING_GOAL)


def judge_prox(claim: Claim[ProxNumber], results: ProxResults) -> Judgement:
    """Compare a claim with our runs."""
    first, [other] = claim.first, claim.others
    stated, ours, theirs = _paper(claim), results.values(first), results.values(other)
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
        return Judgement(claim, stated)
    if claim.at_most is None:
        difference, low, high = difference_to(results, first, other, seeds)
        if low is None or high is None:
            return Judgement(claim, stated, difference, seeds=seeds, verdict="undecided")
        found = verdict(claim, low, high)
        return Judgement(claim, stated, difference, low, high, "bootstrap", seeds=seeds, verdict=found)
    ratios = [ours[seed] / theirs[seed] for seed in seeds]
    ratio = float(np.mean(ratios))
    if len(seeds) == 1:  # one training has no interval; the number itself is judged
        return Judgement(claim, stated, ratio, seeds=seeds, verdict=verdict(claim, ratio, ratio))
    low, high = mean_interval(ratios, CONFIDENCE)
    return Judgement(claim, stated, ratio, low, high, "seeds", seeds=seeds, verdict=verdict(claim, low, high))


def difference_to(
    results: ProxResults, first: ProxNumber, other: ProxNumber | None, seeds: Sequence[int]
) -> tuple[float, float | None, float | None]:
    """The score of `first`, or what it is above that of `other`, with the 95 % interval over test images and seeds.

    The same images are drawn for both, and with several seeds the trainings too.
    """
    numbers = [first] if other is None else [first, other]
    means = [float(np.mean([results.values(number)[seed] for seed in seeds])) for number in numbers]
    value = means[0] - sum(means[1:])
    answers = [results.answers(number.data, number.run, seeds) for number in numbers]
    known = [each for each in answers if each is not None]
    if len(known) < len(answers) or len({each.shape for each in known}) > 1:
        return value, None, None
    judged = np.isfinite(np.stack(known)).all(axis=(0, 1))  # images that some training has no score of are left out
    ones = known[0][:, judged]
    low, high = paired_bootstrap(ones, known[1][:, judged] if other is not None else np.zeros_like(ones), CONFIDENCE)
    return value, low, high


def _paper(claim: Claim[ProxNumber]) -> float | None:
    first, [other] = claim.first, claim.others
    known = DATA_SETS[first.data]
    if first.quantity == "score" and known.scores:
        return known.scores[first.run] - known.scores[other.run]
    if first.quantity == "seconds" and known.hours:
        return known.hours[first.run] / known.hours[other.run]
    return None
