"""A bundle's parts run in turn, and no further than an input needs."""

from collections.abc import Sequence

import numpy as np

from onceforall.bundles import ANSWER, INPUT, Part

__all__ = ["certainty", "run_parts", "sigmoid", "softmax"]


def run_parts(
    parts: Sequence[Part],
    inputs: np.ndarray,
    thresholds: Sequence[float] = (),
    exit_weights: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs (N, K, ...) of inputs (N, C, ...), and the number of the part that answered each, (N,).

    An input goes on to the next part only where the probability of its likeliest class is below the part's threshold;
    the last part answers all that reach it. Of a single part with several answers the sum is taken, by `exit_weights`.
    """
    values = {INPUT: inputs}
    waiting = np.arange(len(inputs))
    answered_by = np.empty(len(inputs), np.int64)
    out: np.ndarray | None = None
    for number, part in enumerate(parts):
        values |= part.run({name: values[name] for name in part.inputs})
        answers = [values.pop(name) for name in part.outputs if name.startswith(ANSWER)]
        logits = answers[0] if len(answers) == 1 else _weighted_sum(answers, exit_weights)
        last = number == len(parts) - 1
        done = np.full(len(waiting), True) if last else certainty(logits) >= thresholds[number]
        if out is None:
            out = np.empty((len(inputs), *logits.shape[1:]), np.float32)
        out[waiting[done]] = logits[done]
        answered_by[waiting[done]] = number
        waiting, values = waiting[~done], {name: array[~done] for name, array in values.items()}
        if not len(waiting):
            break
    assert out is not None
    return out, answered_by


def certainty(logits: np.ndarray) -> np.ndarray:
    """(N, K) raw outputs -> (N,) the probability of the likeliest class."""
    return softmax(logits).max(axis=1)


def softmax(outputs: np.ndarray) -> np.ndarray:
    """(N, K, ...) raw outputs -> the same, summing to 1 over K."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(outputs: np.ndarray) -> np.ndarray:
    """Probabilities of outputs that do not exclude each other; it does not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * outputs))


def _weighted_sum(answers: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    total = np.float32(weights[0]) * answers[0]
    for weight, answer in zip(weights[1:], answers[1:], strict=True):
        total = total + np.float32(weight) * answer
    return total
