"""What is accepted as a number, an epoch, a path; and what is said about the rest."""

from __future__ import annotations

import decimal
import enum
import fractions
import math
import unittest
from typing import Any

from support import Case

from trainyard import _values


class Scalar:
    """As NumPy, PyTorch and JAX have them: one element, given by `item()`."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value


class Array:
    shape = (3, 2)

    def item(self) -> Any:
        raise RuntimeError("a Tensor with 6 elements cannot be converted to Scalar")


class FloatOnly:
    """As an eager tensor of TensorFlow: no `item`."""

    def __float__(self) -> float:
        return 0.5


class Size(enum.IntEnum):
    SMALL = 2


class Numbers(Case):
    def test_scalars_of_every_kind(self) -> None:
        table = [
            (1, 1),
            (0.5, 0.5),
            (True, 1),
            (Scalar(0.25), 0.25),
            (Scalar(7), 7),
            (Scalar(False), 0),
            (FloatOnly(), 0.5),
            (Size.SMALL, 2.0),
            (decimal.Decimal("0.5"), 0.5),
            (fractions.Fraction(1, 4), 0.25),
            (2**53 + 1, float(2**53)),
            (10**400, math.inf),
        ]
        for given, expected in table:
            number = _values.number("metrics['a']", given)
            self.assertEqual(number, expected, given)
            self.assertIn(type(number), (int, float), given)

    def test_no_number_is_named_with_what_was_given(self) -> None:
        table = [
            ("0.3", TypeError, "metrics['a'] is '0.3' (str), expected a number"),
            (None, TypeError, "metrics['a'] is None (NoneType), expected a number"),
            ([1.0], TypeError, "[1.0] (list)"),
            ({"b": 1}, TypeError, "(dict)"),
            (1j, TypeError, "(complex)"),
            (Scalar("x"), TypeError, "(Scalar)"),
            (Array(), ValueError, "of type Array of shape (3, 2), expected a single number"),
            (float, TypeError, "(type)"),
        ]
        for given, kind, told in table:
            with self.assertRaises(kind) as caught:
                _values.metrics({"a": given})
            self.assertIn(told, str(caught.exception))

    def test_metrics_and_their_names(self) -> None:
        table = [
            ([("a", 1)], TypeError, "expected a mapping"),
            ({}, ValueError, "metrics is empty"),
            ({1: 1}, TypeError, "a metric's name is 1 (int)"),
            ({"": 1}, ValueError, "a metric's name is ''"),
            ({"a\n": 1}, ValueError, "without control characters"),
            ({"n" * 257: 1}, ValueError, "(257 bytes)"),
            ({"\ud800": 1}, ValueError, "Unicode"),
            ({str(i): 1 for i in range(257)}, ValueError, "257 entries, at most 256"),
        ]
        for given, kind, told in table:
            with self.assertRaises(kind) as caught:
                _values.metrics(given)
            self.assertIn(told, str(caught.exception))

    def test_epochs_and_steps(self) -> None:
        class Whole:
            def __index__(self) -> int:
                return 3

        self.assertEqual(_values.count("epoch", Whole()), 3)
        self.assertEqual(_values.count("epoch", 0), 0)
        self.assertIsNone(_values.count("epoch", None))
        for given, kind in [
            (True, TypeError),
            (1.0, TypeError),
            ("3", TypeError),
            (-1, ValueError),
            (2**53 + 1, ValueError),
        ]:
            with self.assertRaises(kind) as caught:
                _values.count("epoch", given)
            self.assertIn(f"epoch is {given!r}", str(caught.exception))

    def test_fractions_texts_and_paths(self) -> None:
        self.assertEqual(_values.fraction("fraction", 1), 1.0)
        for given in (-0.1, 1.1, math.nan):
            with self.assertRaises(ValueError):
                _values.fraction("fraction", given)
        with self.assertRaises(TypeError):
            _values.text("reason", 3)
        (self.folder / "a").write_text("")
        path = _values.existing_path("path", "a")
        self.assertTrue(path.startswith("/") and path.endswith("/a"), path)
        with self.assertRaisesRegex(ValueError, "path is 'b', expected a file or folder"):
            _values.existing_path("path", "b")
        with self.assertRaisesRegex(TypeError, "path is 3 .int., expected a path"):
            _values.existing_path("path", 3)

    def test_what_json_has_no_number_for(self) -> None:
        table = [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (1, 1)]
        for given, expected in table:
            self.assertEqual(_values.jsonable(given), expected)

    def test_numpy(self) -> None:
        try:
            import numpy
        except ImportError:
            self.skipTest("NumPy is not installed")
        for given in (numpy.float32(0.5), numpy.array(0.5), numpy.array([0.5])):
            self.assertEqual(_values.number("a", given), 0.5)
        self.assertEqual(_values.number("a", numpy.bool_(True)), 1)
        self.assertEqual(_values.count("epoch", numpy.int64(3)), 3)
        with self.assertRaisesRegex(ValueError, r"ndarray of shape \(2,\)"):
            _values.number("a", numpy.zeros(2))
        with self.assertRaises(TypeError):
            _values.count("epoch", numpy.float64(3))


if __name__ == "__main__":
    unittest.main()
