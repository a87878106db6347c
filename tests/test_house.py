"""The rules of the house, each checked on the source and known to be able to fail.

A rule for one file is a function (parsed source -> breaches) in the table `RULES`, beside sources that break it and
one that keeps it. A rule for the whole package takes a dictionary (module name -> parsed source) and is tested on a
planted package in the same way. The tables `LONG_*` excuse one place, with a reason.
"""

import ast
import importlib
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = "onceforall"

Breach = tuple[int, str]  # (line, what was found there)
Modules = dict[str, ast.Module]


def module_name(path: Path) -> str:
    """`src/onceforall/data/cache.py` -> `onceforall.data.cache`."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted((SOURCE / PACKAGE).rglob("*.py"))}
MODULES: Modules = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())

LONG_FILES: dict[str, str] = {}  # module -> why more than 400 lines
LONG_FUNCTIONS: dict[str, str] = {}  # function -> why more than 100 lines

# -- small tools -----------------------------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def dotted(node: ast.AST) -> str:
    """`torch.nn.Module` for the expression of that text; `` for anything that is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def last(node: ast.AST) -> str:
    """`Module` for `torch.nn.Module`, also for a call of it (a decorator) and with `[...]` behind it (a base)."""
    node = node.func if isinstance(node, ast.Call) else node.value if isinstance(node, ast.Subscript) else node
    return dotted(node).rpartition(".")[2]


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """Last names of the decorators."""
    return {last(decorator) for decorator in node.decorator_list}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name of what is called, with `from x import y` and `import x as y` undone."""
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            origin |= {alias.asname: prefix + alias.name for alias in node.names if alias.asname}
            origin |= {alias.name: prefix + alias.name for alias in node.names if prefix and not alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = dotted(node.func).partition(".")
            yield node, origin.get(first, first) + dot + rest


# -- rules for one file ------------------------------------------------------------------------------------------------

BANNED = {"hasattr", "eval", "exec", "pickle.load", "pickle.loads", "copy.deepcopy"}


def banned_constructs(tree: ast.Module) -> Iterator[Breach]:
    """Calls and statements that hide what the code does."""
    for node, name in calls(tree):
        if name in BANNED:
            yield node.lineno, f"{name}()"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, "global"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"


SEEDS = {"seed", "manual_seed", "manual_seed_all", "set_rng_state"}
OWN_GENERATORS = {"Random", "SystemRandom", "Generator", "default_rng", "SeedSequence", "PCG64", "Philox"}


def global_generators(tree: ast.Module) -> Iterator[Breach]:
    """Draws from, or seeds, the generators that the whole process shares.

    Seeding is allowed inside `with torch.random.fork_rng(...)`, which puts the state back: dropout takes no generator.
    """
    forked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any(last(item.context_expr) == "fork_rng" for item in node.items)
        for inner in ast.walk(node)
    }
    for node, name in calls(tree):
        where, _, function = name.rpartition(".")
        where = where.replace("np.", "numpy.")
        drawn = where in ("random", "numpy.random") and function not in OWN_GENERATORS
        if drawn or (where.split(".")[0] == "torch" and function in SEEDS and id(node) not in forked):
            yield node.lineno, f"{name}()"


MUTABLE = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict"}


def mutable_class_variables(tree: ast.Module) -> Iterator[Breach]:
    """Containers that all instances of a class share, and writes to a class from its methods."""
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    for node in ast.walk(tree):
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            value = item.value if isinstance(item, ast.Assign | ast.AnnAssign) else None
            if isinstance(value, displays) or (isinstance(value, ast.Call) and last(value) in MUTABLE):
                yield item.lineno, f"mutable class variable of {node.name}"
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Attribute) and dotted(target.value) == "cls":
                yield node.lineno, f"assignment to {dotted(target)}"


EXEMPT_BASES = {"Protocol", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "TypedDict", "NamedTuple"}
EXCEPTION_ENDINGS = ("Error", "Exception", "Warning", "Interrupt")


def open_classes(tree: ast.Module) -> Iterator[Breach]:
    """Classes that are neither abstract nor final."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {last(base) for base in node.bases}
        methods = [item for item in node.body if isinstance(item, Function)]
        abstract = "ABC" in bases or any("abstractmethod" in decorators(method) for method in methods)
        exempt = bases & EXEMPT_BASES or any(base.endswith(EXCEPTION_ENDINGS) for base in bases)
        if not (abstract or exempt or "final" in decorators(node)):
            yield node.lineno, f"class {node.name}"


def public_definitions(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    """Functions and classes whose names a user sees, and the methods of these classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            for item in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(item, Function) and (not item.name.startswith("_") or item.name.startswith("__")):
                    yield item


def untyped(tree: ast.Module) -> Iterator[Breach]:
    """Public functions with an argument or a result that has no type."""
    methods = {id(item) for node in tree.body if isinstance(node, ast.ClassDef) for item in node.body}
    for node in public_definitions(tree):
        if not isinstance(node, Function):
            continue
        bound = id(node) in methods and "staticmethod" not in decorators(node)
        arguments = [*node.args.posonlyargs, *node.args.args][bound:]
        arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
        for argument in arguments:
            if argument.annotation is None:
                yield node.lineno, f"{node.name}({argument.arg})"
        if node.returns is None:
            yield node.lineno, f"{node.name}() -> ?"


WORDS = {"ks": "kernel_size", "nd": "depth", "nw": "width", "utils2": "a name that says what it holds"}


def foreign_words(tree: ast.Module) -> Iterator[Breach]:
    """Names, where they are made, that are not in the vocabulary of docs/architecture.md."""
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = last(node) or node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            name = node.arg or ""
        elif isinstance(node, Function | ast.ClassDef):
            name = node.name
        if name in WORDS:
            yield node.lineno, f"{name}: say {WORDS[name]}"
        elif name.lstrip("_").startswith(("my_", "new_")):
            yield node.lineno, f"{name}: say what it is"


def long_functions(tree: ast.Module) -> Iterator[Breach]:
    """Functions that one does not see whole."""
    for node in ast.walk(tree):
        length = node.end_lineno - node.lineno + 1 if isinstance(node, Function) else 0
        if length > 100 and node.name not in LONG_FUNCTIONS:
            yield node.lineno, f"{node.name} has {length} lines"


@dataclass(frozen=True)
class Rule:
    """A check of one file, what to do about a breach, sources that break it, and one that keeps it."""

    check: Callable[[ast.Module], Iterator[Breach]]
    advice: str
    bad: tuple[str, ...]
    good: str


RULES = {
    rule.check.__name__: rule
    for rule in (
        Rule(
            banned_constructs,
            "ask for a type or pass a value in; name the exceptions; load with weights_only or safetensors; build anew",
            (
                "if hasattr(x, 'y'): pass",
                "eval('1')",
                "exec('1')",
                "import pickle\npickle.load(f)",
                "from pickle import loads as read\nread(b)",
                "def f():\n    global x",
                "try:\n    f()\nexcept:\n    pass",
                "from copy import deepcopy\ndeepcopy(net)",
                "import copy as c\nc.deepcopy(net)",
            ),
            "net.eval()\nimport copy, re\ncopy.copy(x)\npattern.exec()\ntry:\n    f()\nexcept OSError:\n    pass",
        ),
        Rule(
            global_generators,
            "take a random.Random, numpy Generator or torch.Generator as an argument",
            (
                "import random\nrandom.seed(0)",
                "import random\nrandom.choice(x)",
                "from random import shuffle\nshuffle(x)",
                "import numpy as np\nnp.random.rand(3)",
                "import torch\ntorch.manual_seed(0)",
                "import torch\ntorch.cuda.manual_seed_all(0)",
            ),
            "import random, torch\nimport numpy as np\nrng = random.Random(0)\nrng.choice(x)\nrng.seed(1)\n"
            "np.random.default_rng(0)\ntorch.Generator().manual_seed(0)\ntorch.rand(3, generator=g)\n"
            "with torch.random.fork_rng([]):\n    torch.manual_seed(0)",
        ),
        Rule(
            mutable_class_variables,
            "give each instance its own (dataclasses.field(default_factory=...)), or use a tuple",
            (
                "class A:\n    x = []",
                "class A:\n    x: dict[str, int] = {}",
                "class A:\n    x = defaultdict(list)",
                "class A:\n    def f(cls):\n        cls.x = 1",
            ),
            "class A:\n    x = (1, 2)\n    y: list[int] = field(default_factory=list)\n"
            "    def f(self):\n        self.z = []",
        ),
        Rule(
            open_classes,
            "decorate it with @typing.final, or make it abstract (ABC); a variant is a value or a flag, not a subclass",
            ("class A:\n    pass", "@dataclass(frozen=True)\nclass A:\n    x: int", "class A(nn.Module):\n    pass"),
            "@final\nclass A:\n    pass\nclass B(ABC):\n    pass\nclass C:\n    @abstractmethod\n    def f(self): ...\n"
            "class D(Protocol[T]):\n    pass\nclass E(enum.Enum):\n    x = 1\nclass F(ValueError):\n    pass",
        ),
        Rule(
            untyped,
            "annotate every argument and the result",
            (
                "def f(x) -> int: ...",
                "def f(x: int): ...",
                "def f(*xs) -> int: ...",
                "def f(*, x=1) -> int: ...",
                "class A:\n    def f(self, x) -> int: ...",
                "class A:\n    @staticmethod\n    def f(x) -> int: ...",
                "class A:\n    def __init__(self): ...",
            ),
            "def f(x: int, *xs: int, y: int = 1, **k: int) -> int: ...\ndef _g(x): ...\n"
            "class A:\n    def f(self, x: int) -> int: ...\n    @classmethod\n    def g(cls) -> int: ...",
        ),
        Rule(
            foreign_words,
            "one word per thing: use the vocabulary of docs/architecture.md",
            (
                "ks = 3",
                "def f(nd): ...",
                "self.nw = 1",
                "f(ks=3)",
                "def my_loss(): ...",
                "for new_x in y: pass",
                "class utils2: ...",
            ),
            "kernel_size = x.new_zeros(3)\nnews = new = 1",
        ),
        Rule(
            long_functions,
            "split it where its comments are",
            ("def f():\n" + "    x = 1\n" * 100,),
            "def f():\n" + "    x = 1\n" * 99,
        ),
    )
}


@pytest.mark.parametrize("name", RULES)
def test_rule_of_one_file_is_kept(name):
    rule = RULES[name]
    found = [
        f"  {FILES[module].relative_to(ROOT)}:{line}: {what}"
        for module, tree in MODULES.items()
        for line, what in rule.check(tree)
    ]
    assert not found, f"{rule.check.__doc__}\n{chr(10).join(found)}\nWhat to do: {rule.advice}."


@pytest.mark.parametrize(("name", "source"), [(name, bad) for name, rule in RULES.items() for bad in rule.bad])
def test_rule_of_one_file_can_be_broken(name, source):
    assert len(list(RULES[name].check(ast.parse(source)))) == 1


@pytest.mark.parametrize("name", RULES)
def test_rule_of_one_file_can_be_kept(name):
    assert list(RULES[name].check(ast.parse(RULES[name].good))) == []


def test_there_is_something_to_check():
    assert len(MODULES) > 1, "src/ holds no modules: every rule would be kept"
    assert any(isinstance(node, ast.ClassDef) for tree in MODULES.values() for node in ast.walk(tree))


# -- imports -----------------------------------------------------------------------------------------------------------


def layers() -> list[set[str]]:
    """The layers of the package from the top, as pyproject.toml states them for import-linter."""
    contracts = CONFIG["tool"]["importlinter"]["contracts"]
    (stated,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [{name.strip(" ()") for name in line.split("|")} for line in stated]


def imports(modules: Modules) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere, in functions and under TYPE_CHECKING too.

    `__init__` of the package itself is its public face: it points at everything, so its imports do not count.
    """
    graph: dict[str, set[str]] = {name: set() for name in modules if name != PACKAGE}
    for name in graph:
        is_folder = any(other.startswith(f"{name}.") for other in modules)
        for node in ast.walk(modules[name]):
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                parts = name.split(".") + ["__init__"] * is_folder
                near = ".".join(parts[: -node.level]) if node.level else ""
                origin = ".".join(filter(None, (near, node.module)))
                whole = [f"{origin}.{alias.name}" for alias in node.names]
                targets = [target if target in modules else origin for target in whole]
            graph[name] |= {target for target in targets if target in modules} - {name, PACKAGE}
    return graph


def wrong_imports(modules: Modules, order: list[set[str]]) -> list[str]:
    """Imports that point upwards or sideways, and modules that have no layer."""
    rank = {name: i for i, layer in enumerate(order) for name in layer} | {"__main__": -1}
    top = {name: name.split(".")[1] for name in modules if name != PACKAGE}
    found = [f"{name} has no place in the layers of pyproject.toml" for name in top if top[name] not in rank]
    for name, targets in imports(modules).items():
        for target in sorted(targets):
            inside = top[name] == top[target]
            if not inside and rank.get(top[name], -1) >= rank.get(top[target], -1):
                found.append(f"{name} imports {target}")
    return found


def import_cycles(modules: Modules) -> list[str]:
    """Modules that import themselves through others."""
    graph = imports(modules)
    found = []
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        found += [start] if start in seen else []
    return found


def planted(**sources: str) -> Modules:
    """A package with these modules; `data__cache` stands for `onceforall.data.cache`."""
    return {f"{PACKAGE}.{name.replace('__', '.')}": ast.parse(text) for name, text in sources.items()}


def test_imports_point_downwards_and_have_no_cycle():
    wrong = wrong_imports(MODULES, layers())
    assert not wrong, f"{wrong}\nWhat to do: move the code down, or pass the value in as an argument."
    cycles = import_cycles(MODULES)
    assert not cycles, f"{cycles} import themselves through each other.\nWhat to do: move what they share into a third."
    assert any(imports(MODULES).values()), "no module imports another: the graph was not read"


@pytest.mark.parametrize(
    ("sources", "wrong", "cycles"),
    [
        ({"errors": "", "data__cache": "from onceforall.errors import UserError"}, 0, 0),
        ({"errors": "from onceforall import data", "data": ""}, 1, 0),
        ({"errors": "def f():\n    import onceforall.data.cache", "data": "", "data__cache": ""}, 1, 0),
        ({"export": "from . import predict", "predict": ""}, 1, 0),
        ({"data": "", "data__cache": "from .folder import x", "data__folder": "from .cache import y"}, 0, 2),
        ({"data": "from .cache import x", "data__cache": "from ..errors import y", "errors": ""}, 0, 0),
        ({"data": "from .cache import x", "data__cache": "from onceforall.data import y"}, 0, 2),
        ({"helpers": ""}, 1, 0),
    ],
)
def test_wrong_imports_are_found(sources, wrong, cycles):
    modules = planted(**sources)
    assert len(wrong_imports(modules, layers())) == wrong
    assert len(import_cycles(modules)) == cycles


WITHOUT_TORCH = ["onceforall", "errors", "architecture", "choices", "search_space", "data.preparation", "cli"]
WITHOUT_TORCH += ["bundles", "predict"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds this source tree."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_importable_without_torch(name):
    module = name if name == PACKAGE else f"{PACKAGE}.{name}"
    done = run_python(f"sys.modules['torch'] = None; import {module}")
    assert done.returncode == 0, f"{module} imports torch (inside a function is allowed):\n{done.stderr}"


def test_help_does_not_load_torch():
    code = (
        "import time; start = time.perf_counter()\n"
        "from onceforall.cli import main\n"
        "sys.argv = ['onceforall', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules, 'onceforall --help loads torch'\n"
        "print(f'{time.perf_counter() - start:.3f}', file=sys.stderr)"
    )
    start = time.perf_counter()
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    print(f"onceforall --help: {done.stderr.strip()} s, with the interpreter {time.perf_counter() - start:.3f} s")


def test_no_torch_check_can_fail():
    assert run_python("sys.modules['torch'] = None; import torch").returncode != 0


# -- rules for the whole package ---------------------------------------------------------------------------------------


def backward_calls(modules: Modules) -> list[str]:
    """Places that start a backward pass."""
    return [
        f"{name}:{node.lineno}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
    ]


def inheritance_depths(modules: Modules) -> dict[str, int]:
    """Class -> length of the longest chain of our own classes that ends in it."""
    bases: dict[str, set[str]] = {}
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(last(base) for base in node.bases)

    def depth(name: str, below: frozenset[str] = frozenset()) -> int:
        ours = [base for base in bases[name] if base in bases and base not in below | {name}]
        return 1 + max((depth(base, below | {name}) for base in ours), default=0)

    return {name: depth(name) for name in bases}


def undocumented(modules: Modules) -> list[str]:
    """Public names without a docstring.

    Special methods are described by their class, and a method that a documented class of ours declares by that.
    """
    classes = [node for tree in modules.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: [last(base) for base in node.bases] for node in classes}
    own = {
        node.name: {item.name for item in node.body if isinstance(item, Function) and ast.get_docstring(item)}
        for node in classes
    }

    def declared(name: str) -> set[str]:
        return own.get(name, set()).union(*(declared(base) for base in bases.get(name, []) if base != name))

    found = [name for name, tree in modules.items() if tree.body and ast.get_docstring(tree) is None]
    for name, tree in modules.items():
        for node in public_definitions(tree):
            excused = node.name.startswith("__") or {"overload", "setter"} & decorators(node)
            if ast.get_docstring(node) is None and not excused and node.name not in declared(owner(tree, node)):
                found.append(f"{name}:{node.lineno} {node.name}")
    return found


def owner(tree: ast.Module, node: ast.AST) -> str:
    """Name of the class that `node` is a method of, or an empty string."""
    return next((top.name for top in tree.body if isinstance(top, ast.ClassDef) and node in top.body), "")


def test_public_names_are_documented():
    found = undocumented(MODULES)
    assert not found, f"{found}\nWhat to do: one sentence; then shape, unit, range, error, section of the paper."


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = 1", 1),
        ('"""M."""\ndef f(): ...\ndef _g(): ...', 1),
        ('"""M."""\nclass A: ...\nclass _B: ...', 1),
        ('"""M."""\nclass A:\n    """A."""\n    def f(self): ...\n    def __init__(self): ...', 1),
        ('"""M."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n    def _g(self): ...', 0),
        ('"""M."""\nclass B(A):\n    """B."""\n    def f(self): ...\n    def h(self): ...', 1),
    ],
)
def test_missing_docstrings_are_found(source, count):
    base = '"""M."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""'
    assert len(undocumented(planted(base=base, other=source))) == count


def test_one_loop():
    found = backward_calls(MODULES)
    assert len(found) == 1, f"{found} call .backward(); there is one training loop.\nWhat to do: give Phase a field."
    assert (
        len(backward_calls(planted(a="loss.backward()", b="class F:\n    def backward(ctx): ...\nf = x.backward"))) == 1
    )


def test_inheritance_is_shallow():
    deep = {name: depth for name, depth in inheritance_depths(MODULES).items() if depth > 2}
    assert not deep, f"{deep}: a chain of more than two.\nWhat to do: make the variant a value or a flag."
    chain = planted(a="class A(nn.Module): ...\nclass B(A): ...", b="class C(a.B[int]): ...")
    assert inheritance_depths(chain) == {"A": 1, "B": 2, "C": 3}


def test_files_are_a_few_pages():
    lengths = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    long = {name: length for name, length in lengths.items() if length > 400 and name not in LONG_FILES}
    assert not long, f"{long}\nWhat to do: split where the concept ends, or give a reason in LONG_FILES."
    stale = [name for name in LONG_FILES if lengths.get(name, 0) <= 400]
    stale += [name for name in LONG_FUNCTIONS if not any(name in path.read_text() for path in FILES.values())]
    assert not stale, f"{stale} need no excuse any more: remove them from LONG_FILES or LONG_FUNCTIONS."


def file_of_tests(path: Path) -> Path:
    """`src/onceforall/data/cache.py` -> `tests/data/test_cache.py`."""
    inside = path.relative_to(SOURCE / PACKAGE)
    return ROOT / "tests" / inside.with_name(f"test_{inside.name}")


def test_every_source_file_has_its_test_file():
    sources = [path for path in FILES.values() if not path.name.startswith("__")]
    missing = [str(file_of_tests(path).relative_to(ROOT)) for path in sources if not file_of_tests(path).exists()]
    assert not missing, f"missing: {missing}"
    empty = [path.name for path in map(file_of_tests, sources) if "def test_" not in path.read_text()]
    assert not empty, f"without a test: {empty}"
    assert file_of_tests(SOURCE / PACKAGE / "data/cache.py") == ROOT / "tests/data/test_cache.py"


# -- registries --------------------------------------------------------------------------------------------------------


def golden_breaches(schedules: set[str], runs: dict[str, str]) -> list[str]:
    """What is wrong between the schedules and the golden runs (file stem -> JSON text)."""
    found = [f"schedule {name} has no tests/golden/{name}.json" for name in sorted(schedules - set(runs))]
    found += [f"tests/golden/{name}.json belongs to no schedule" for name in sorted(set(runs) - schedules)]
    for name, text in sorted(runs.items()):
        content = json.loads(text)
        losses = content["losses"] if isinstance(content, dict) else content
        if len(losses) < 20 or not all(isinstance(loss, float) and loss == loss for loss in losses):
            found.append(f"tests/golden/{name}.json does not hold 20 losses")
    return found


def test_every_schedule_has_its_golden_run():
    schedules = importlib.import_module(f"{PACKAGE}.training.schedules").SCHEDULES
    assert schedules
    undocumented_ones = [name for name, function in schedules.items() if not function.__doc__]
    assert not undocumented_ones, f"without a docstring: {undocumented_ones}"
    runs = {path.stem: path.read_text() for path in (ROOT / "tests/golden").glob("*.json")}
    found = golden_breaches(set(schedules), runs)
    assert not found, f"{found}\nWhat to do: run tests/golden/runs.py and keep its losses."


def test_missing_golden_runs_are_found():
    good = json.dumps([0.5] * 20)
    assert golden_breaches({"a"}, {"a": good}) == []
    assert golden_breaches({"a"}, {"a": json.dumps({"losses": [0.5] * 20})}) == []
    assert len(golden_breaches({"a", "b"}, {"a": good})) == 1
    assert len(golden_breaches({"a"}, {"a": good, "b": good})) == 1
    assert len(golden_breaches({"a"}, {"a": json.dumps([0.5] * 19)})) == 1


RECIPE_FACTS = ("paper", "command", "time", "hardware", "metric")


def recipe_breaches(name: str, documentation: str | None, type_name: str) -> list[str]:
    """What a recipe lacks."""
    text = (documentation or "").lower()
    found = [f"recipe {name} does not state its {fact}" for fact in RECIPE_FACTS if fact not in text]
    found += [] if f"onceforall train {name}" in text else [f"recipe {name} does not show 'onceforall train {name}'"]
    found += [] if type_name == "Recipe" else [f"recipe {name} returns a {type_name}, not a Recipe"]
    return found


def parametrised_over(tree: ast.Module, registry: str) -> list[str]:
    """Test functions that run once for each entry of `registry`."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("test_")
        for decorator in node.decorator_list
        if last(decorator) == "parametrize" and registry in {last(part) for part in ast.walk(decorator)}
    ]


def test_every_recipe_is_documented_and_tested():
    recipes = importlib.import_module(f"{PACKAGE}.recipes").RECIPES
    assert recipes
    found = [
        breach
        for name, function in recipes.items()
        for breach in recipe_breaches(name, function.__doc__, type(function()).__name__)
    ]
    assert not found, f"{found}\nWhat to do: say in the docstring what a reader has to know before starting it."
    tests = ROOT / "tests/test_recipes.py"
    assert tests.exists(), "tests/test_recipes.py has to run two steps of every recipe"
    assert parametrised_over(ast.parse(tests.read_text()), "RECIPES"), f"{tests.name} does not run over RECIPES"


def test_poor_recipes_are_found():
    text = "Paper: x. Command: onceforall train digits-ps. Time: 1 min. Hardware: 2 cores. Metric: accuracy."
    assert recipe_breaches("digits-ps", text, "Recipe") == []
    assert len(recipe_breaches("digits-ps", text, "dict")) == 1
    assert len(recipe_breaches("digits-eps", text, "Recipe")) == 1
    assert len(recipe_breaches("digits-ps", text.replace("Metric", "").replace("Time", ""), "Recipe")) == 2
    assert len(recipe_breaches("digits-ps", None, "Recipe")) == 6
    over = "@pytest.mark.parametrize('name', sorted(RECIPES))\ndef test_two_steps(name): ..."
    assert parametrised_over(ast.parse(over), "RECIPES") == ["test_two_steps"]
    assert parametrised_over(ast.parse(over.replace("RECIPES", "['digits-ps']")), "RECIPES") == []


# -- text --------------------------------------------------------------------------------------------------------------

# Pieces are joined here so that this file does not hold the words itself.
FOREIGN_TEXT = ["/wo" + "rk/", "/fa" + "rm/", "/tmp" + "/w/", "/ho" + "me/", "sub" + "agent", "../sha" + "red"]
FOREIGN_TEXT += ["py" + "pi.org", "python" + "hosted", "download.py" + "torch"]
EXCUSED = {(".ci/run", "../sha" + "red")}


def tracked_files() -> list[Path]:
    """Files of the repository, also those not yet added; every file of a tree that is no repository."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        names = subprocess.check_output(git, text=True).split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]


def foreign_text(name: str, text: str) -> list[str]:
    """Words that tie a file to one machine or one way of working."""
    lines = enumerate(text.splitlines(), 1)
    return [
        f"{name}:{number}: {word}"
        for number, line in lines
        for word in FOREIGN_TEXT
        if word in line.lower() and (name, word) not in EXCUSED
    ]


def test_the_project_speaks_of_itself_alone():
    found = []
    for path in tracked_files():
        try:
            found += foreign_text(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:  # a picture
            continue
    assert not found, f"{found}\nWhat to do: use a relative path, an option or an environment variable."


def test_foreign_text_is_found():
    for word in FOREIGN_TEXT:
        assert foreign_text("README.md", f"first line\nsee {word}x") == [f"README.md:2: {word}"]
    assert foreign_text(*[".ci/run", "cd " + FOREIGN_TEXT[5]]) == []


def test_version_has_one_place():
    assert CONFIG["tool"]["setuptools"]["dynamic"]["version"] == {"attr": f"{PACKAGE}.__version__"}
    assigned = [
        node.value.value
        for node in MODULES[PACKAGE].body
        if isinstance(node, ast.Assign) and [dotted(target) for target in node.targets] == ["__version__"]
    ]
    assert len(assigned) == 1, "src/onceforall/__init__.py states __version__ = '...' once, as a literal"


def test_console_script():
    assert CONFIG["project"]["scripts"] == {PACKAGE: f"{PACKAGE}.cli:main"}
    assert callable(importlib.import_module(f"{PACKAGE}.cli").main)


def test_optional_parts_are_all_in_all():
    extras = CONFIG["project"]["optional-dependencies"]
    clusters = {"dask", "ray"}  # large, and of use only with many machines
    parts = sorted(set(extras) - {"all", "dev"} - clusters)
    assert extras["all"] == [f"{PACKAGE}[{','.join(parts)}]"]
