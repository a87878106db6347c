"""What the numbers in a label volume mean, and which maps a network answers with, as a value."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from onceforall.errors import UserError, check_choice, check_keys

__all__ = ["BRATS_REGIONS", "OUTSIDE", "SCHEMES", "LabelScheme", "label_scheme", "scheme_from_labels"]

KINDS = ("softmax", "regions")
IGNORE = "ignore"  # nnU-Net's name for voxels that were not labelled
OUTSIDE = 255  # the label of voxels that lie outside the real volume (padding)


@final
@dataclass(frozen=True)
class LabelScheme:
    """The output maps of a network and the stored label values that each stands for.

    - `kind` "softmax": `outputs` are all classes, background first, and exclude each other; every stored value belongs
      to exactly one of them.
    - `kind` "regions": each output has a sigmoid of its own and regions may overlap; value 0 is background and belongs
      to none. They are listed from the largest to the smallest, as in whole tumour, core, enhancing tumour.

    `members[i]` are the stored values (0 to 254) of output i. Raises `UserError`.
    """

    name: str
    kind: str
    outputs: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        object.__setattr__(self, "outputs", tuple(self.outputs))
        object.__setattr__(self, "members", tuple(tuple(sorted(values)) for values in self.members))
        if len(self.outputs) != len(self.members) or len(set(self.outputs)) != len(self.outputs):
            raise UserError(f"label scheme {self.name!r}: give each output a name of its own and its label values.")
        values = [value for member in self.members for value in member]
        if not all(self.members) or not all(type(value) is int and 0 <= value < OUTSIDE for value in values):
            raise UserError(f"label scheme {self.name!r}: each output needs label values, whole numbers of 0 to 254.")
        if self.kind == "softmax" and (len(self.outputs) < 2 or 0 not in self.members[0]):
            raise UserError(f"label scheme {self.name!r}: softmax needs a background with value 0 first, and a class.")
        if self.kind == "softmax" and len(values) != len(set(values)):
            raise UserError(f"label scheme {self.name!r}: a label value belongs to two classes; only regions overlap.")
        if self.kind == "regions" and 0 in values:
            raise UserError(f"label scheme {self.name!r}: value 0 is background and belongs to no region.")
        if self.kind == "regions":
            self._check_order()

    @property
    def num_outputs(self) -> int:
        """Number of output maps."""
        return len(self.outputs)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the outputs that are judged: all but the background."""
        return self.outputs[1:] if self.kind == "softmax" else self.outputs

    @property
    def values(self) -> tuple[int, ...]:
        """All label values that may be stored, ascending, 0 among them."""
        return tuple(sorted({0, *(value for member in self.members for value in member)}))

    @property
    def written(self) -> tuple[int, ...]:
        """The value that `to_labels` writes for each output: its lowest that none of the later outputs has."""
        return tuple(self._own_value(i) for i in range(self.num_outputs))

    def table(self) -> np.ndarray:
        """(256, num_outputs) bool: row v tells to which outputs the stored value v belongs.

        Values that are not allowed and `OUTSIDE` belong to none; indexing it with labels (on any device) gives maps.
        """
        table = np.zeros((256, self.num_outputs), bool)
        for i, member in enumerate(self.members):
            table[list(member), i] = True
        return table

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """Stored values (...) -> (num_outputs, ...) bool, one map for each output; `OUTSIDE` is in none."""
        return np.stack([np.isin(labels, member) for member in self.members])

    def to_labels(self, probabilities: np.ndarray) -> np.ndarray:
        """(num_outputs, ...) probabilities -> (...) uint8 label values as they are stored in files.

        Softmax: the most probable class (its lowest value). Regions: of those with a probability of 0.5 or more the
        last listed, that is the smallest, with a value that none of the later regions has.
        """
        if self.kind == "softmax":
            return np.array(self.written, np.uint8)[probabilities.argmax(axis=0)]
        labels = np.zeros(probabilities.shape[1:], np.uint8)
        for value, region in zip(self.written, probabilities, strict=True):
            labels[region >= 0.5] = value
        return labels

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types; `from_dict` turns it back."""
        members = [list(values) for values in self.members]
        return {"name": self.name, "kind": self.kind, "outputs": list(self.outputs), "members": members}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelScheme":
        """The value of `to_dict`; raises `UserError` for an unknown or missing key."""
        check_keys("label scheme", values, ("name", "kind", "outputs", "members"))
        members = tuple(tuple(member) for member in values["members"])
        return cls(values["name"], values["kind"], tuple(values["outputs"]), members)

    def _check_order(self) -> None:
        for i, later in enumerate(self.members):
            for earlier, values in zip(self.outputs[:i], self.members[:i], strict=True):
                if set(values) < set(later):
                    raise UserError(
                        f"label scheme {self.name!r}: region {self.outputs[i]!r} holds all of {earlier!r} and would "
                        "be written over it; list regions from the largest to the smallest."
                    )

    def _own_value(self, output: int) -> int:
        later = {value for member in self.members[output + 1 :] for value in member}
        own = [value for value in self.members[output] if value not in later]
        return (own or self.members[output])[0]


def scheme_from_labels(labels: Mapping[str, Any], name: str = "classes") -> LabelScheme:
    """The scheme of a `dataset.json`: {"0": "background", "1": "Anterior"} (MSD) or {"background": 0, ...} (nnU-Net).

    A name with several values, as in {"whole tumour": [1, 2, 3]}, makes it a scheme of regions, those with the most
    values first. Raises `UserError`, also for nnU-Net's label "ignore".
    """
    given: dict[str, tuple[int, ...]] = {}
    for key, entry in labels.items():
        text, values = (entry, key) if isinstance(entry, str) else (key, entry)
        if text in given:
            raise UserError(f"label name {text!r} stands twice in dataset.json; give each value a name of its own.")
        if text == IGNORE:
            raise UserError(
                f"label {IGNORE!r} in dataset.json marks voxels that were not labelled, which are not supported; label "
                "them and take it out, or give it another name to train it as a class."
            )
        given[text] = tuple(_whole(value, text) for value in (values if isinstance(values, list) else [values]))
    background = [text for text, values in given.items() if values == (0,)]
    if len(background) != 1:
        raise UserError("labels in dataset.json name no background or several; give the value 0 to exactly one.")
    if any(len(values) > 1 for values in given.values()):
        regions = [(text, values) for text, values in given.items() if text != background[0]]
        regions.sort(key=lambda region: -len(set(region[1])))
        return LabelScheme(name, "regions", tuple(t for t, _ in regions), tuple(v for _, v in regions))
    ordered = sorted(given.items(), key=lambda item: item[1])
    return LabelScheme(name, "softmax", tuple(t for t, _ in ordered), tuple(v for _, v in ordered))


def _whole(value: object, name: str) -> int:
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise UserError(f"label {name!r} in dataset.json has the value {value!r}; give a whole number of 0 to 254.")
    return int(number)


BRATS_REGIONS = LabelScheme(
    "brats_regions",
    "regions",
    ("whole tumour", "tumour core", "enhancing tumour"),
    ((1, 2, 3), (2, 3), (3,)),
)

# name -> the scheme, made from the labels of a dataset.json where it depends on them
SCHEMES: dict[str, Callable[[Mapping[str, Any]], LabelScheme]] = {
    "classes": scheme_from_labels,
    "brats_regions": lambda labels: BRATS_REGIONS,
}


def label_scheme(scheme: "str | LabelScheme", labels: Mapping[str, Any]) -> LabelScheme:
    """A scheme by its name in `SCHEMES`, for a data set with these `labels`; a value is passed through."""
    if isinstance(scheme, LabelScheme):
        return scheme
    check_choice("scheme", scheme, SCHEMES)
    return SCHEMES[scheme](labels)
