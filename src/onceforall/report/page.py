@final
@dataclass(frozen=True)
class Table:
    """Rows under a head; a cell is what is shown, or a pair of that and the number by which it is sorted."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = False
    folded: bool = False


@final
@dataclass(frozen=True)
class Section:
    """A part of the page; what it lacks is not shown. A figure holds plotly's data and layout, and a caption."""

    title: str
    text: str = ""
    notices: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


