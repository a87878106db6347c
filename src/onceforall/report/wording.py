"""Names, numbers and values of a run as words for people."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from onceforall.architecture import Architecture
from onceforall.evaluation.results import format_count

MISSING = "–"
SHARES = ("accuracy", "sensitivity", "specificity")  # shown in percent


def escaped(text: str, longest: int = 60) -> str:
    """Text for a figure, shortened in the middle; plotly reads a few HTML tags, so it is escaped."""
    text, half = str(text), longest // 2
    short = text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
    return html.escape(short, quote=False)


def words(name: str) -> str:
    """A name of the files as one says it.

    >>> words("macs"), words("batch_size"), words("dice_Anterior")
    ('multiply-adds', 'batch size', 'Dice Anterior')
    """
    known = {
        "macs": "multiply-adds",
        "params": "parameters",
        "auc": "AUC",
        "macro_f1": "macro F1",
        "latency_ms": "latency (ms)",
        "cpu": "processor",
        "os": "operating system",
        "gpus": "accelerators",
        "memory_bytes": "memory",
        "soft_dice": "soft Dice",
    }
    if name.startswith("dice"):
        return name.replace("dice", "Dice", 1).replace("_", " ", 1)  # an output keeps its name
    return known.get(name, name.replace("_", " "))


def sentence(text: str) -> str:
    """`text` with a capital first letter and the others as they are.

    >>> sentence("validation Dice")
    'Validation Dice'
    """
    return text[:1].upper() + text[1:]


def inputs_of(run: Mapping[str, Any]) -> str:
    """What the run was trained on, by run.json: "images" or "volumes"."""
    return "volumes" if "voxels_per_class" in run["data"] else "images"


def show_number(name: str, value: Any) -> str:
    """The value of a metric or cost, in percent where it is a share.

    >>> show_number("accuracy", 0.5), show_number("log_loss", 0.5)
    ('50.00 %', '0.5')
    """
    if value is None:
        return MISSING
    return f"{100 * value:.2f} %" if name in SHARES else f"{value:.4g}"


def show_range(name: str, low: float, high: float) -> str:
    """An interval, without the unit that the value before it has."""
    return f"{100 * low:.1f}–{100 * high:.1f}" if name in SHARES else f"{low:.4g}–{high:.4g}"


def show_size(count: int) -> str:
    """A count, from a million on as a power of ten.

    >>> show_size(1234), show_size(10**19)
    ('1,234', '1 × 10¹⁹')
    """
    if count < 10**6:
        return f"{count:,}"
    exponent = len(str(count)) - 1
    power = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{count // 10 ** (exponent - 2) / 100:.2g} × 10{power}"


def show_amount(value: float | None, unit: str = "") -> tuple[str, Any]:
    """An amount as it is shown, and the number by which a table sorts it.

    >>> show_amount(1536, "B"), show_amount(None)
    (('1.536KB', 1536), ('–', ''))
    """
    if value is None:
        return (MISSING, "")
    return (f"{value:.4g} J" if unit == "J" else f"{format_count(value)}{unit}", value)


def show_duration(seconds: float) -> str:
    """Seconds in the two units that matter.

    >>> show_duration(5), show_duration(600), show_duration(7320)
    ('5.0 s', '10 min 0 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def show_choices(values: Sequence[Any]) -> str:
    """The values of an elastic factor; those of paths are tuples of names."""
    return ", ".join(
        "+".join(value) if isinstance(value, tuple) and value and isinstance(value[0], str) else show(value)
        for value in values
    )


def show(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: MISSING}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value)) or MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_items(values: Any) -> str:
    """A dictionary on one line, without what is not set."""
    if not isinstance(values, Mapping):
        return show(values)
    return "; ".join(f"{words(name)} {show_items(value)}" for name, value in values.items() if value is not None)


def show_architecture(row: Mapping[str, Any]) -> str:
    """The architecture of a row of results."""
    return str(Architecture.from_dict(row["architecture"]))
