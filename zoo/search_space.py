"""What a search may vary: values to choose from, or a range of numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

Value = bool | int | float | str | None
Number = Annotated[int | float, Field(allow_inf_nan=False)]
MAX_STEPS = 1000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Choice(_Frozen):
    """One of some values; in a file a list, ``[1, 2, 4]``."""

    values: tuple[Value, ...] = Field(min_length=1)

    @field_validator("values", mode="before")
    @classmethod
    def _simple(cls, values: Any) -> Any:
        for value in values if isinstance(values, list | tuple) else ():
            if not isinstance(value, bool | int | float | str | None):
                raise ValueError(f"values are numbers, words, true, false or null, not {value!r}")
        return values

    @field_validator("values")
    @classmethod
    def _all_differ(cls, values: tuple[Value, ...]) -> tuple[Value, ...]:
        if len({repr(value) for value in values}) < len(values):
            raise ValueError("a value is given twice")
        return values

    @property
    def grid(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Values that a component must be able to take for it to take them all."""
        return self.values


class Range(_Frozen):
    """Numbers between two bounds, both included; in a file ``{low: 1e-4, high: 1e-2, log: true}``.

    Whole numbers are tried if both bounds, and ``step`` if there is one, are whole.
    """

    low: Number
    high: Number
    step: Number | None = Field(None, gt=0, description="distance of the values tried")
    log: bool = Field(False, description="even in the logarithm")

    @field_validator("low", "high", "step", mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"must be a number, got {value!r}")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high={self.high:g} must be above low={self.low:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0, and no step")
        if self.step is not None and (self.high - self.low) / self.step > MAX_STEPS:
            raise ValueError(f"step={self.step:g} makes more than {MAX_STEPS} values")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers are tried."""
        return all(isinstance(n, int) for n in (self.low, self.high, self.step or 1))

    @property
    def grid(self) -> tuple[Value, ...] | None:
        """The values that a step makes; None without one."""
        if self.step is None:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        values = [self.low + i * self.step for i in range(count)]
        return tuple(values if self.is_whole else [round(v, 12) for v in values])

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The bounds."""
        return self.low, self.high


def _kind(raw: Any) -> Literal["choice", "range"]:
    is_range = isinstance(raw, Range) or (isinstance(raw, dict) and "values" not in raw)
    return "range" if is_range else "choice"


Dimension = Annotated[
    Annotated[Choice, Tag("choice")] | Annotated[Range, Tag("range")], Discriminator(_kind)
]
