"""Where the code of a function lies: its module's name, and the folder that has to be there to import it.

Functions of a notebook or an interactive session have no file: for them a module is written of their source,
and of what they use. Imports nothing of the program that is not imported already.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import linecache
import sys
import sysconfig
import textwrap
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Set, Tuple

# The module that is written of an interactive function.
WRITTEN = "trainyard_cells"


@dataclass(frozen=True)
class Code:
    """A function as another process can import it.

    Attributes:
        target: `module:function`.
        folder: what has to be on the path for it; `None`: its module is installed.
        source: the text of the module `WRITTEN`, where there is no file.
    """

    target: str
    folder: Optional[Path]
    source: Optional[str] = None


def locate(function: Callable[..., Any]) -> Code:
    """Where `function` lies.

    Raises:
        TypeError: it is no function of a module: a class, a method, a function within a function.
        ValueError: its source is not to be had, or uses what cannot be written into a module.
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"@remote was given {function!r:.80}, expected a function")
    name = function.__qualname__
    if not name.isidentifier():
        raise TypeError(
            f"@remote was given {name}, expected a function at the top level of its module"
        )
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if module is None or not file or not _lies_in(function, file):
        return Code(f"{WRITTEN}:{name}", None, written(function))
    spec = module.__spec__
    if function.__module__ != "__main__" or spec is not None:
        full = spec.name if spec is not None else module.__name__
        return Code(f"{full}:{name}", _folder_of(Path(file), full))
    path = Path(file).resolve()
    if path.suffix != ".py":
        raise ValueError(
            f"trials cannot import {function.__name__} from {path.name}: expected a file whose name ends with .py"
        )
    if "." in path.stem:
        raise ValueError(f"{path.name} cannot be imported: expected a file's name without dots")
    return Code(f"{path.stem}:{name}", path.parent)


def _lies_in(function: types.FunctionType, file: str) -> bool:
    # Of one that another decorator has wrapped, where it was written itself.
    inner = inspect.unwrap(function)
    path = Path(inner.__code__.co_filename if isinstance(inner, types.FunctionType) else "")
    return path.is_file() and path.resolve() == Path(file).resolve()


def _folder_of(file: Path, module: str) -> Optional[Path]:
    """The folder that holds the module's outermost package; `None` where packages are installed."""
    path = file.resolve()
    above = len(module.split(".")) + (path.name == "__init__.py")
    folder = path.parents[above - 1]
    return None if is_installed(folder) else folder


def is_installed(folder: Path) -> bool:
    """Whether it is one of those into which packages are installed."""
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    return folder.resolve() in places or folder.name in ("site-packages", "dist-packages")


def written(function: types.FunctionType) -> str:
    """A module with `function` and what it uses of its session: imports, plain values, other functions and classes.

    Raises:
        ValueError: it uses something else.
    """
    imports: List[str] = []
    values: List[str] = []
    sources: List[str] = []
    done: Set[str] = set()
    waiting: List[Any] = [function]
    while waiting:
        item = waiting.pop()
        if item.__name__ in done:
            continue
        done.add(item.__name__)
        node, text = _source(item)
        sources.append(text)
        for name in sorted(_names(node) - done):
            if name not in function.__globals__:
                continue
            value = _plain(function.__globals__[name])
            line = _import(name, value)
            if line is not None:
                imports.append(line)
            elif isinstance(value, (types.FunctionType, type)) and value.__name__ == name:
                waiting.append(value)
                continue
            elif _is_literal(value):
                values.append(f"{name} = {value!r}")
            else:
                raise ValueError(
                    f"{item.__name__} uses {name}, a {type(value).__name__} of this session, which cannot be "
                    "shipped: make it inside of the function, or put both into a file"
                )
            done.add(name)
    head = ["from __future__ import annotations", *sorted(set(imports)), *values]
    return "\n".join(head) + "\n\n\n" + "\n\n".join(reversed(sources))


def _plain(value: Any) -> Any:
    """The function that a decorator of this package holds; else the value."""
    return getattr(value, "function", value) if hasattr(value, "search") else value


def _source(item: Any) -> Tuple[ast.AST, str]:
    """The definition of a function or class, parsed and as text, without the decorator `remote`."""
    try:
        text = textwrap.dedent(
            _class_source(item) if isinstance(item, type) else inspect.getsource(item)
        )
        node = ast.parse(text).body[0]
        # Of what `exec` has made, Python finds the line of another text.
        if getattr(node, "name", None) != item.__name__:
            raise OSError("it is not where Python looks for it")
    except (OSError, TypeError, SyntaxError) as error:
        raise ValueError(
            f"the source of {item.__name__} is not to be had ({error}): expected a function in a file"
        ) from None
    lines = text.splitlines()
    for decorator in getattr(node, "decorator_list", []):
        if _is_remote(decorator):
            # What is being carried out.
            for number in range(decorator.lineno - 1, decorator.end_lineno):
                lines[number] = ""
    return node, "\n".join(lines).strip("\n") + "\n"


def _class_source(item: type) -> str:
    # `inspect` looks for a class in its module's file, which a session does not have.
    for value in vars(item).values():
        if isinstance(value, types.FunctionType):
            text = "".join(linecache.getlines(value.__code__.co_filename))
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef) and node.name == item.__name__:
                    begin = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    return "\n".join(text.splitlines()[begin - 1 : node.end_lineno])
    raise OSError("no method of it shows where it is defined")


def _is_remote(decorator: ast.expr) -> bool:
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(named, "attr", getattr(named, "id", None)) == "remote"


def _names(node: ast.AST) -> Set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _import(name: str, value: Any) -> Optional[str]:
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__} as {name}"
    home, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(home, str) or not isinstance(own, str) or home == "__main__":
        return None
    try:
        found = getattr(importlib.import_module(home), own, None)
    except ImportError:
        return None
    return f"from {home} import {own} as {name}" if found is value else None


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
