"""What the page may say to the server, and how it is told that something is wrong: server.py's requests and errors."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

Id = Annotated[int, pydantic.Field(ge=1, lt=2**31)]
Milliseconds = Annotated[float, pydantic.Field(ge=0, le=1e10, allow_inf_nan=False)]


class Message(pydantic.BaseModel):
    """What the page says; anything else in it is refused."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class Join(Message):
    """Somebody wants to label."""

    name: Annotated[str, pydantic.Field(max_length=200)]
    consent: Annotated[str, pydantic.Field(max_length=20)]  # version of the text that was shown


class Next(Message):
    """The page wants to have so many pairs, the one on screen included."""

    count: Annotated[int, pydantic.Field(ge=1, le=12)]


class Said(Message):
    """An answer; times in milliseconds of the page's own clock."""

    lease: Id
    choice: Literal["left", "right", "equal", "cant_tell", "skip"]
    shown_ms: Milliseconds  # when both clips played
    answered_ms: Milliseconds
    age_ms: Milliseconds  # since then: it may have waited for a connection
    active_ms: Milliseconds  # between shown and answered, while the page was in view
    replays: Annotated[int, pydantic.Field(ge=0, lt=100_000)]
    speed: Annotated[float, pydantic.Field(gt=0, le=16, allow_inf_nan=False)]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Said:
        if not self.shown_ms <= self.answered_ms or self.active_ms > self.answered_ms - self.shown_ms + 1:
            raise ValueError("answered before it was shown, or longer in view than shown")
        return self


class Undo(Message):
    """Take back the answer before this one; the last one where there is none."""

    before: Id | None = None


class Problem(pydantic.BaseModel):
    """Why a request was not answered, in one line."""

    error: str
