"""What the labelling page can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from prefrl.errors import UserError

PORT = 8765
PORTS = 50  # that are tried


@dataclass(frozen=True)
class LeaseOptions:
    """How queries are shared out."""

    lease_seconds: float = 120.0
    """time for an answer, after which a query goes to somebody else"""
    overlap: float = 0.0
    """share of queries that a second labeller is asked as well"""
    repeat: float = 0.05
    """share of a labeller's own queries that come back with the sides swapped"""
    repeat_after: int = 20
    """answers in between"""
    gold: str | None = None
    """labeller whose answers are known to be right; what they answered is asked of everybody; none by default"""
    gold_share: float = 0.05
    """share of such queries among a labeller's own"""

    def __post_init__(self) -> None:
        if not 0 < self.lease_seconds < math.inf:
            raise UserError(f"a lease of {self.lease_seconds} seconds; it needs more than 0")
        for name, share in (("overlap", self.overlap), ("repeat", self.repeat), ("gold-share", self.gold_share)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} {share} is no share; give a number from 0 to 1")
        if self.repeat_after < 0:
            raise UserError(f"{self.repeat_after} answers between a query and its repeat; give 0 or more")


@dataclass(frozen=True)
class LabellingOptions(LeaseOptions):
    """Where the page is served, and how queries are shared out."""

    host: str = "127.0.0.1"
    """address to bind to; any other than this one lets other machines ask, who still need the token"""
    port: int = PORT
    """port; the next free one where it is taken"""
    instruction: str | None = None
    """what people are told to prefer; the task's own words by default"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 2**16:
            raise UserError(f"port {self.port} is none; give one from 0 (any) to {2**16 - 1}")
        if self.instruction is not None and not 1 <= len(self.instruction.strip()) <= 500:
            raise UserError(f"an instruction of {len(self.instruction)} characters; give 1 to 500")
        if not self.host:
            raise UserError("the host is empty; give an address of this machine, such as 127.0.0.1")


@dataclass(frozen=True)
class PeopleOptions(LabellingOptions):
    """People who answer while training runs."""

    wait_above: int | None = None
    """unanswered queries above which training waits for answers; 0 makes it strictly synchronous; by default it waits
    for the answers about the random policy alone"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait_above is not None and self.wait_above < 0:
            raise UserError(f"training can't wait above {self.wait_above} unanswered queries; give 0 or more")


@dataclass(frozen=True)
class Serving:
    """What is served."""

    store: str  # path or URL
    clips: Path
    run: Path | None
    token: Path  # file of the secret in the address
    trust: bool = False  # import the module that the store names
