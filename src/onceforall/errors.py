"""The one kind of error this package raises for a mistake that its user can mend.

The text of a `UserError` is one line: what was got, what is allowed, what to do. The command line prints it
without a traceback and exits with 2. Everything else that is raised is a defect of this package.
"""

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["UserError", "check_choice", "check_keys", "check_truth", "suggestion"]


class UserError(ValueError):
    """A mistake in what the caller gave: a value, a key, a path or a file."""


def suggestion(got: object, allowed: Iterable[object]) -> str:
    """`" Did you mean 'x'?"` for the nearest allowed name, or an empty string where none is near.

    Capitals make no difference.
    """
    names = {str(name).lower(): str(name) for name in allowed}
    near = difflib.get_close_matches(str(got).lower(), names, n=1)
    return f" Did you mean {names[near[0]]!r}?" if near else ""


def check_choice(name: str, got: object, allowed: Iterable[object]) -> None:
    """Raise `UserError` unless `got` is one of `allowed`.

    >>> check_choice("optimizer", "sdg", ("sgd", "adam"))
    Traceback (most recent call last):
    onceforall.errors.UserError: optimizer 'sdg' is not one of: 'sgd', 'adam'. Did you mean 'sgd'?
    """
    options = tuple(allowed)
    if got not in options:
        listed = ", ".join(repr(option) for option in options)
        raise UserError(f"{name} {got!r} is not one of: {listed}.{suggestion(got, options)}")


def check_keys(what: str, data: object, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Raise `UserError` unless `data` is a mapping with all `required` keys and, beside them, only `optional` ones.

    >>> check_keys("stage", {"blcks": []}, ("blocks",), ("width",))
    Traceback (most recent call last):
    onceforall.errors.UserError: stage has no key 'blcks'. Did you mean 'blocks'? Allowed: blocks, width.
    """
    known = required + optional
    if not isinstance(data, Mapping):
        raise UserError(f"{what}: got {data!r}; give an object with the keys {', '.join(known)}.")
    for key in data:
        if key not in known:
            raise UserError(f"{what} has no key {key!r}.{suggestion(key, known)} Allowed: {', '.join(known)}.")
    missing = [key for key in required if key not in data]
    if missing:
        raise UserError(f"{what} lacks the key {', '.join(missing)}.")


def check_truth(**given: object) -> None:
    """Raise `UserError` unless each of the `given` is true or false.

    >>> check_truth(freeze_stem="maybe")
    Traceback (most recent call last):
    onceforall.errors.UserError: freeze_stem 'maybe': must be true or false.
    """
    for name, value in given.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} {value!r}: must be true or false.")
