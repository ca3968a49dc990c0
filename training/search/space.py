"""What a search may vary: FIELD=v1,v2 and FIELD=low..high become recipes to try."""

from __future__ import annotations

import itertools
import math
import types
from dataclasses import dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypeGuard,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from training.errors import UsageError
from training.options import require_known
from training.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

HINTS: Final = {
    name: hint
    for name, hint in get_type_hints(Recipe).items()
    if name not in {"name", "dataset", "teachers"}  # these a trial has from its recipe
}
LOGARITHMIC_FROM: Final = 10.0

# A value as Optuna stores it: widths are the text "512-512", since its storage knows no tuples.
Value: TypeAlias = bool | int | float | str


@dataclass(frozen=True)
class Choices:
    """A field and the values it may take."""

    field: str
    values: tuple[Value, ...]

    def draw(self, generator: np.random.Generator) -> Value:
        return self.values[int(generator.integers(len(self.values)))]

    def __str__(self) -> str:
        return f"{self.field}: one of {', '.join(map(show, self.values))}"


@dataclass(frozen=True)
class Range:
    """A numeric field and its bounds, both included."""

    field: str
    low: float
    high: float
    whole: bool  # whole numbers alone

    @property
    def logarithmic(self) -> bool:
        """Whether every factor is as likely as every other: so where the bounds are a factor of ten apart."""
        return self.low > 0 and self.high / self.low >= LOGARITHMIC_FROM

    def draw(self, generator: np.random.Generator) -> Value:
        """Return a number of three significant digits, which is finer than any search, and reads well."""
        if self.logarithmic:
            number = float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        elif self.whole:
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        else:
            number = float(generator.uniform(self.low, self.high))
        number = min(max(float(f"{number:.3g}"), self.low), self.high)
        return round(number) if self.whole else number

    def __str__(self) -> str:
        scale = "logarithmic" if self.logarithmic else "linear"
        return f"{self.field}: {self.low:g} to {self.high:g} on a {scale} scale"


Dimension: TypeAlias = Choices | Range


def is_fixed(dimension: Dimension) -> TypeGuard[Choices]:
    """Whether there is nothing to choose."""
    return isinstance(dimension, Choices) and len(dimension.values) == 1


def parse_dimensions(words: Sequence[str], *, ranges: bool) -> list[Dimension]:
    """Turn words such as "learning_rate=1e-4..1e-1" or "widths=512-512,256" into dimensions.

    Raises:
        UsageError: a word has neither form, names no field of a recipe, has a value that the field does not
            take, or is a range where `ranges` is false.
    """
    dimensions = [_parse_dimension(word, ranges=ranges) for word in words]
    names = [dimension.field for dimension in dimensions]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is given twice: list all its values in one word.")
    return dimensions


def _parse_dimension(word: str, *, ranges: bool) -> Dimension:
    field, equals, text = word.partition("=")
    field = field.replace("-", "_")
    if not equals or not text:
        raise UsageError(f"{word} should read FIELD=v1,v2" + (" or FIELD=low..high." if ranges else "."))
    require_known("field", field, HINTS)
    if ".." not in text:
        return Choices(field, tuple(dict.fromkeys(parse_value(field, value) for value in text.split(","))))
    if not ranges:
        raise UsageError(f"{word} is a range, and a grid has single values: list them, or use --random.")
    if HINTS[field] not in {int, float}:
        raise UsageError(f"{field} is no number: list its values as {field}=v1,v2.")
    low, high = (parse_value(field, bound) for bound in text.split("..", 1))
    assert not isinstance(low, str)
    assert not isinstance(high, str)
    if low >= high:
        raise UsageError(f"{word} is empty: the lower bound comes first.")
    return Range(field, low, high, whole=HINTS[field] is int)


def parse_value(field: str, text: str) -> Value:
    """Return a value of the field as a study stores it.

    Raises:
        UsageError: the field takes no such value.
    """
    hint = HINTS[field]
    try:
        if get_origin(hint) is Literal:
            options: dict[str, Value] = {str(option): option for option in get_args(hint)}
            return options[text]
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(hint) is tuple:
            return "-".join(str(int(part)) for part in text.split("-"))
        number: int | float = hint(text)
    except (KeyError, ValueError) as exc:
        raise UsageError(f"{field} cannot be {text}: it takes {_describe(hint)}.") from exc
    if not math.isfinite(number):
        raise UsageError(f"{field} cannot be {text}: it takes {_describe(hint)}.")
    return number


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if isinstance(hint, types.GenericAlias):
        return "whole numbers joined by -, as in 512-512"
    return {bool: "true or false", int: "a whole number"}.get(hint, "a number")


def plan_grid(dimensions: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Return every combination of the choices."""
    values = [dimension.values for dimension in dimensions if isinstance(dimension, Choices)]
    names = [dimension.field for dimension in dimensions]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def plan_random(dimensions: Sequence[Dimension], trials: int, seed: int) -> list[dict[str, Value]]:
    """Return independent draws; with the same seed a longer plan begins with the shorter one."""
    generator = np.random.default_rng(seed)
    return [{dimension.field: dimension.draw(generator) for dimension in dimensions} for _ in range(trials)]


def apply(recipe: Recipe, values: dict[str, Value]) -> Recipe:
    """Return the recipe with these values in place of its own."""
    return replace(recipe, **{field: _field_value(field, value) for field, value in values.items()})


def _field_value(field: str, value: Value) -> Any:
    if get_origin(HINTS[field]) is tuple:
        return tuple(int(part) for part in str(value).split("-"))
    return value


def show(value: Value) -> str:
    """Return a value as people read it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
