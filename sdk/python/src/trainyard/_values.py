"""What programs give the package, checked and made into what JSON can hold.

Knows no framework: whatever has `item()` and holds a single number is a number (NumPy, PyTorch, JAX).
Every error names the argument, what was given and what is accepted.
"""

from __future__ import annotations

import math
import operator
import os
from typing import Any, Dict, Mapping, Optional, Union

Number = Union[int, float]

# Both are the worker's own limits (one report is one message to the coordinator).
MAX_METRICS = 256
MAX_NAME_BYTES = 256
# Beyond it a float skips whole numbers, and so does most of what reads JSON.
MAX_WHOLE = 2**53


def metrics(given: Any) -> Dict[str, Number]:
    """A report's metrics: names to plain numbers.

    Raises:
        TypeError: not a mapping, a name that is not text, a value that is no number.
        ValueError: no metric, too many, a name that is too long, a value of several numbers.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"metrics is {_shown(given)}, expected a mapping of names to numbers")
    if not given:
        raise ValueError("metrics is empty, expected at least one number")
    if len(given) > MAX_METRICS:
        raise ValueError(f"metrics has {len(given)} entries, at most {MAX_METRICS} are accepted")
    return {_name(name): number(f"metrics[{name!r}]", value) for name, value in given.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a metric's name is {_shown(name)}, expected text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a metric's name is {name!r}, expected text in Unicode") from None
    if not name or size > MAX_NAME_BYTES or any(map(_is_control, name)):
        raise ValueError(
            f"a metric's name is {name[:40]!r} ({size} bytes), expected 1 to {MAX_NAME_BYTES} bytes "
            "without control characters"
        )
    return name


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160


def number(what: str, given: Any) -> Number:
    """A plain `int` or `float` of any scalar: Python's, NumPy's, a tensor of one element.

    Raises:
        TypeError: it is no number.
        ValueError: it holds several numbers.
    """
    value = _item(what, given)
    if isinstance(value, bool):
        return int(value)
    if type(value) is int:
        return value if abs(value) <= MAX_WHOLE else _as_float(what, given, value)
    if type(value) is float:
        return value
    if isinstance(value, (str, bytes, complex)) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} is {_shown(given)}, expected a number")
    return _as_float(what, given, value)


def _item(what: str, given: Any) -> Any:
    """The element of what holds exactly one (`item()`: NumPy, PyTorch, JAX, CuPy), else `given`."""
    item = getattr(given, "item", None)
    if item is None or isinstance(given, (int, float, type)):
        return given
    try:
        return item()
    except (TypeError, ValueError, RuntimeError) as error:
        shape = getattr(given, "shape", None)
        held = "" if shape is None else f" of shape {tuple(shape)}"
        raise ValueError(
            f"{what} is of type {type(given).__name__}{held}, expected a single number ({error})"
        ) from None


def _as_float(what: str, given: Any, value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, 1 if value > 0 else -1)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} is {_shown(given)}, expected a number ({error})") from None


def count(what: str, given: Any) -> Optional[int]:
    """A whole number from 0 on (an epoch, a step), of Python, NumPy or a tensor; `None` stays.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative, or beyond 2**53.
    """
    if given is None:
        return None
    try:
        if isinstance(given, bool):
            raise TypeError
        value = operator.index(given)
    except (TypeError, RuntimeError):
        raise TypeError(f"{what} is {_shown(given)}, expected a whole number") from None
    if not 0 <= value <= MAX_WHOLE:
        raise ValueError(f"{what} is {value}, expected a whole number from 0 to {MAX_WHOLE}")
    return value


def fraction(what: str, given: Any) -> float:
    """A number from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is not from 0 to 1.
    """
    value = float(number(what, given))
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} is {value}, expected a number from 0 to 1")
    return value


def text(what: str, given: Any) -> str:
    """Text that can be sent.

    Raises:
        TypeError: it is no text.
        ValueError: it is not Unicode.
    """
    if not isinstance(given, str):
        raise TypeError(f"{what} is {_shown(given)}, expected text")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is {given!r}, expected text in Unicode") from None
    return given


def existing_path(what: str, given: Any) -> str:
    """The absolute path of a file or folder that is there.

    Raises:
        TypeError: it is no path.
        ValueError: nothing is there, or its name is not Unicode.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{what} is {_shown(given)}, expected a path")
    path = os.fspath(given)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    path = os.path.abspath(text(what, path))
    if not os.path.exists(path):
        raise ValueError(f"{what} is {os.fspath(given)!r}, expected a file or folder that exists")
    return path


def jsonable(value: Number) -> Union[Number, str]:
    """NaN and the infinities as the words of the protocol, since they are no numbers of JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _shown(given: Any) -> str:
    shown = repr(given)
    return f"{shown[:80]}{'...' if len(shown) > 80 else ''} ({type(given).__name__})"
