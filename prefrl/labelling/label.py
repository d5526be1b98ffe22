"""`prefrl label`: the labelling page of a run or of a store, without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from prefrl.errors import UserError
from prefrl.labelling.access import token_file
from prefrl.labelling.options import LabellingOptions, Serving
from prefrl.run_directory import read_json, refuse_links
from prefrl.trust import refuse_untrusted


@dataclass(frozen=True)
class LabelOptions(LabellingOptions):
    """Serve the labelling page of a run or of any store of preferences, until Ctrl-C."""

    run: tyro.conf.Positional[Path | None] = None
    """folder of a run"""
    store: str | None = None
    """database of segments, queries and answers, a file or postgresql://USER@HOST/NAME, instead of a run"""
    clips: Path | None = None
    """folder for the clips; RUN/clips by default, beside a --store that is a file, or clips/ here"""
    trust: bool = False
    """import the module and connect to the server that the run or store names, which somebody else's could misuse"""


def label(options: LabelOptions, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        options: of the command line.
        on_ready: called with the address.

    Raises:
        UserError: there is nothing to label, or it can't be served.
    """
    from prefrl.labelling.serve import serve  # FastAPI: not for the other commands

    own = {field.name: getattr(options, field.name) for field in fields(LabellingOptions)}
    serve(_serving(options), LabellingOptions(**own), on_ready)


def _serving(options: LabelOptions) -> Serving:
    if (options.run is None) == (options.store is None):
        raise UserError("name one: the folder of a run, or a --store")
    if options.store is not None:
        beside = Path.cwd() if "://" in options.store else Path(options.store).absolute().parent
        clips = options.clips or beside / "clips"
        return Serving(options.store, clips, None, token_file(clips), options.trust)
    assert options.run is not None
    refuse_links(options.run)
    config = read_json(options.run / "config.json")
    named = (config.get("options") or {}).get("store")
    refuse_untrusted(options.run, options.trust, "", named if isinstance(named, str) else None)
    clips = options.clips or options.run / "clips"
    return Serving(named or str(options.run / "preferences.db"), clips, options.run, token_file(clips), options.trust)
