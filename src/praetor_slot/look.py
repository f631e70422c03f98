"""Finds a program and imports what it is made of, without running it: `look.py PROGRAM [ARGUMENT...]`, in the program's own environment.

A worker that cannot be imported must be found before it takes the place of one that works; and it must not take work while it is looked at.
"""

import ast
import importlib
import importlib.util
import re
import runpy
import shutil
import sys
from pathlib import Path

# Programs that are told the app's own module, and behind which option; where there is none it is the first argument that is no option.
_TOLD = {
    "celery": ("-A", "--app"),
    "dramatiq": (),
    "flask": ("-A", "--app"),
    "huey_consumer": (),
    "huey_consumer.py": (),
    "procrastinate": ("-a", "--app"),
}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def look(program: str, arguments: list[str]) -> None:
    """Import the program, and the app's module that it is told.

    Raises:
        FileNotFoundError: there is no such program.
        BaseException: whatever the import raises.
    """
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"no program '{program}' in the release's virtualenv or on the host")
    # As Python does it for `python -m` and for scripts of packages, which lie elsewhere.
    sys.path[:0] = [str(Path.cwd())]
    name = Path(found).name
    if re.fullmatch(r"python3?(\.\d+)?", name):
        name, arguments = _of_python(arguments)
    elif _is_python(found):
        _import_script(Path(found))
    told = _told(name, arguments)
    if told:
        importlib.import_module(told)


def _of_python(arguments: list[str]) -> tuple[str, list[str]]:
    """Import what Python is told to run; its name and arguments."""
    while arguments:
        first, *arguments = arguments
        if first == "-m" and arguments:
            _import_main(arguments[0])
            return arguments[0].partition(".")[0], arguments[1:]
        if first in {"-W", "-X"}:
            arguments = arguments[1:]
        elif first == "-c" or not first.startswith("-"):
            if first != "-c":
                _import_script(Path(first))
            return Path(first).name, arguments
    return "", []


def _import_main(module: str) -> None:
    """Import a module as `python -m` finds it."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        importlib.import_module(module)
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{module}' that can be run")
    if spec.origin and spec.origin.endswith(".py") and not _is_guarded(Path(spec.origin)):
        parent = spec.parent or ""
        if parent:
            importlib.import_module(parent)
        _import_imports(Path(spec.origin), parent)
    else:
        importlib.import_module(spec.name)


def _import_script(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} in the project")
    sys.path[:0] = [str(path.resolve().parent)]
    if _is_guarded(path):
        runpy.run_path(str(path), run_name="looked_at")
    else:
        _import_imports(path, "")


def _is_guarded(path: Path) -> bool:
    """Whether a module runs nothing when it is imported: it asks for the name that only a program has."""
    tests = (ast.unparse(each.test) for each in _parsed(path).body if isinstance(each, ast.If))
    return any("__name__" in test and "__main__" in test for test in tests)


def _import_imports(path: Path, package: str) -> None:
    """Import what a module imports: what else it does, it does when it runs."""
    tree = _parsed(path)
    tree.body = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    names = {"__name__": "looked_at", "__package__": package, "__file__": str(path)}
    exec(compile(tree, str(path), "exec"), names)  # noqa: S102  the app's own statements, as the app's user


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def _is_python(path: str) -> bool:
    with Path(path).open("rb") as file:
        first, second = file.readline(200), file.readline(200)
    # Where the path of the interpreter is too long for a first line, installers let a shell start it.
    return first.startswith(b"#!") and (b"python" in first or b"python" in second)


def _told(program: str, arguments: list[str]) -> str:
    """The app's module that a program is told; empty where none is."""
    options, value = _TOLD.get(program), ""
    if options is None:
        return ""
    for place, argument in enumerate(arguments):
        before, equals, after = argument.partition("=")
        if argument in options:
            value = next(iter(arguments[place + 1 :]), "")
        elif equals and before in options:
            value = after
        elif not options and not argument.startswith("-"):
            value = argument
        if value:
            break
    module = value.partition(":")[0]
    if not _MODULE.fullmatch(module):
        return ""
    # procrastinate and huey name an object in a module, as module.object; the others a module.
    whole, _, parent = module, "", module.rpartition(".")[0]
    return parent if parent and _is_no_module(whole) else whole


def _is_no_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


if __name__ == "__main__":
    look(sys.argv[1], sys.argv[2:])
