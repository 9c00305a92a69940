"""The rules of the architecture (docs/architecture.md), as far as a program can check them."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement

import pretrainrl

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# Layers of the package, lowest first: a module imports from its own layer and those below it.
# The lowest layer holds the single modules beside __init__.py: registry, cards, weights, games, errors, ...
LAYERS = (
    set[str](),
    {"runs", "reports", "encoders", "networks", "data"},
    {"objectives", "probing"},
    {"parity", "pretraining"},
    {"integrations"},
    {"finetuning", "results"},
    {"benchmarking"},
    {"cli", "commands", "demo", "__main__", "pretrainrl"},
)
FACADE = "pretrainrl"  # takes names and dataset ids, so its functions reach every layer, when they are called
LONGEST_MODULE, LONGEST_EXAMPLE = 350, 120


class Import(NamedTuple):
    """One imported module, and whether importing the importer imports it too."""

    target: str
    eager: bool


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    paths = [*(ROOT / "pretrainrl").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]
    found = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] == ("pretrainrl", "integrations"):
            continue  # the symlink, on Pythons whose rglob follows it
        parts = parts if parts[0] == "pretrainrl" else ("pretrainrl", *parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def targets(node: ast.AST) -> Iterator[str]:
    """Modules that an import statement names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in modules() else str(node.module)


def imports(name: str) -> list[Import]:
    """All imports of a module; those within functions and for type checking only are not eager."""
    found: list[Import] = []

    def visit(node: ast.AST, eager: bool) -> None:
        found.extend(Import(target, eager) for target in targets(node))
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            visit(child, eager and not lazy)

    visit(tree(modules()[name]), True)
    return found


def layer(name: str) -> int:
    """Number of the layer a module of the package is on."""
    package = name.split(".")[1] if "." in name else name
    levels = [level for level, packages in enumerate(LAYERS) if package in packages]
    assert levels or not (ROOT / "pretrainrl" / package).is_dir(), f"{name} is on no layer: give its package one in LAYERS"
    return levels[0] if levels else 0


def own(found: list[Import]) -> list[Import]:
    return [item for item in found if item.target.split(".")[0] == "pretrainrl"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down(name: str) -> None:
    upward = [item.target for item in own(imports(name)) if layer(item.target) > layer(name)]
    assert upward == [], f"{name} imports from layers above its own"


def test_facade_reaches_up_only_when_called() -> None:
    eager = [item.target for item in own(imports(FACADE)) if item.eager]
    assert [target for target in eager if layer(target) > 0] == []


def test_no_import_cycles() -> None:
    graph = {name: {item.target for item in own(imports(name)) if item.eager and item.target != name} for name in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which prints the cycle


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_third_party_imports_are_declared() -> None:
    """An undeclared import works only as long as another dependency happens to bring the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [project["optional-dependencies"][extra] for extra in ("hub", "import", "plot", "ray", "zoo")]
    always = {canonical(Requirement(line).name) for line in project["dependencies"]}
    optional = {canonical(Requirement(line).name) for extra in extras for line in extra}
    owners = importlib.metadata.packages_distributions()
    undeclared = {}
    for name in modules():
        for item in imports(name):
            brought_by = {canonical(owner) for owner in owners.get(item.target.split(".")[0], [])} - {"pretrainrl"}
            if brought_by and not brought_by & (always if item.eager else always | optional):
                undeclared[item.target] = name
    assert undeclared == {}


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_modules_are_small() -> None:
    sizes: dict[str, Any] = {name: lines(path) for name, path in modules().items()}
    tests: dict[str, Any] = {path.name: lines(path) for path in (ROOT / "tests").rglob("*.py")}
    scripts: dict[str, Any] = {path.name: lines(path) for path in (ROOT / "speed").rglob("*.py")}
    everything = {**sizes, **tests, **scripts}
    assert {name: size for name, size in everything.items() if size > LONGEST_MODULE} == {}
    assert statistics.median(sizes.values()) <= 150


def test_examples_are_small() -> None:
    sizes: dict[str, Any] = {path.name: lines(path) for path in (ROOT / "examples").glob("*.py")}
    assert {name: size for name, size in sizes.items() if size > LONGEST_EXAMPLE} == {}


def in_new_process(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


HEAVY = ("torch", "torchvision", "stable_baselines3", "minari", "gymnasium", "lightning_fabric")


def test_importing_the_package_is_light() -> None:
    script = "import sys, pretrainrl; print(*sys.modules, sep='\\n')"
    assert set(HEAVY) & set(in_new_process(script).split()) == set()


@pytest.mark.parametrize("call", ["pretrainrl.list_encoders()", "pretrainrl.encoder_card('random')"])
def test_looking_around_is_light(call: str) -> None:
    script = f"import sys, pretrainrl; {call}; print(*sys.modules, sep='\\n')"
    assert set(HEAVY) & set(in_new_process(script).split()) == set()


@pytest.mark.parametrize("arguments", [["encoders"], ["info", "random"], ["--help"]])
def test_looking_around_on_the_command_line_is_light(arguments: list[str]) -> None:
    script = f"""
import sys
from pretrainrl.cli import main
sys.argv = ["pretrainrl", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("modules:", *sys.modules, sep="\\n")
"""
    loaded = in_new_process(script).split("modules:")[1].split()
    assert set(HEAVY) & set(loaded) == set()


def named_by_commands(*commands: str) -> list[str]:
    """Modules of the package that the command modules import, when they are imported and when they are called."""
    return sorted({item.target for command in commands for item in own(imports(f"pretrainrl.cli.{command}"))})


@pytest.mark.parametrize(
    "names",
    [["pretrainrl.integrations.sb3"], named_by_commands("collect", "import_")],
    ids=["integrations.sb3", "collect and import"],
)
def test_only_pretraining_imports_lightning(names: list[str]) -> None:
    loaded = in_new_process(f"import sys, {', '.join(names)}; print(*sys.modules, sep='\\n')").split()
    assert names[0] in loaded and [name for name in loaded if name.startswith("lightning")] == []


# Calls and assignments of which the effect is seen by the whole process, and the functions of the package that make them.
PROCESS_WIDE = re.compile(
    r"os\.(environ(\[.*|\.(update|setdefault|pop|clear))|putenv|unsetenv|chdir|umask|dup2)|sys\.std(out|err)|redirect_std\w+"
    r"|torch\.(backends\..*enabled|set_(num|default|float|flush|deterministic)\w+)|.*\b(mallopt|setLoggerMode|setNumThreads)"
    r"|keep_freed_memory|silence_emulator|environment_variables|logging\.(basicConfig|disable)"
)
# Where they are defined, what prepares worker processes, and where Minari's functions read nothing but the environment.
MAY_CHANGE_THE_PROCESS = {
    "malloc",
    "games",
    "paths",
    "forked",
    "runs.pool",
    "benchmarking.worker",
    "integrations.minari.remote",
}


def test_libraries_leave_the_process_alone() -> None:
    """The allocator, threads, environment variables and log levels are set by the command line and by worker processes."""
    found = {}
    for name in sorted(modules()):
        if layer(name) >= layer("pretrainrl.cli") or name.removeprefix("pretrainrl.") in MAY_CHANGE_THE_PROCESS:
            continue
        changed = [function for function, _ in calls(modules()[name])]
        for node in ast.walk(tree(modules()[name])):
            if isinstance(node, ast.Assign | ast.Delete):
                changed += [ast.unparse(target) for target in node.targets]
        if hits := [each for each in changed if PROCESS_WIDE.fullmatch(each)]:
            found[name] = hits
    assert found == {}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_is_unpickled(name: str) -> None:
    """A pickle runs whatever it says; weights and checkpoints come from strangers."""
    for function, call in calls(modules()[name]):
        assert function.split(".")[0] not in {"pickle", "cloudpickle", "dill", "joblib"}, f"line {call.lineno}"
        if function == "torch.load":
            safe = [keyword.value for keyword in call.keywords if keyword.arg == "weights_only"]
            assert [ast.unparse(value) for value in safe] == ["True"], f"line {call.lineno}: weights_only=True"
        if function in {"np.load", "numpy.load"}:
            assert all(keyword.arg != "allow_pickle" for keyword in call.keywords), f"line {call.lineno}"


# Written in pieces, so that this file does not find itself.
LOCAL = re.compile(
    r"(?<![\w.])/(?:home|Users|root|work|opt|mnt)" + r"/\w"
    r"|files\.python" + r"hosted|pypi\.org/" + r"simple|--(?:extra-)?index" + r"-url|--find" + r"-links"
)


def test_no_file_knows_a_machine() -> None:
    """No paths of one machine, no package index: those are the user's to choose."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("needs a git clone")
    found = {}
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in {".safetensors", ".pth", ".png", ".gif", ".webp", ".npz", ".rec"}:
            continue
        hits = LOCAL.findall(path.read_text(encoding="utf-8"))
        found.update({name: hits} if hits else {})
    assert found == {}


@pytest.mark.parametrize("name", pretrainrl.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    item = getattr(pretrainrl, name)
    if inspect.isclass(item) or inspect.isroutine(item):
        assert inspect.getdoc(item), f"pretrainrl.{name} has no docstring"


def integration_names() -> list[str]:
    packages = [name for name in modules() if name.startswith("pretrainrl.integrations.")]
    return sorted(
        f"{name}:{item}"
        for name in packages
        for node in tree(modules()[name]).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for item in ast.literal_eval(node.value)
    )


@pytest.mark.parametrize("target", integration_names())
def test_integrations_export_what_they_say(target: str) -> None:
    module, name = target.split(":")
    item = getattr(importlib.import_module(module), name)
    if inspect.isclass(item) or inspect.isroutine(item):
        assert inspect.getdoc(item), f"{target} has no docstring"


def test_the_page_names_files_that_exist() -> None:
    """The walks of docs/architecture.md go from file to file."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:pretrainrl|integrations|registry|tests)/[\w/.-]+\.(?:py|toml))`", page)
    assert len(named) > 20 and [path for path in named if not (ROOT / path).is_file()] == []
