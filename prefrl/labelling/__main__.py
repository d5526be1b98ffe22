"""The processes that labelling takes: `python -m prefrl.labelling server|clips`, started by child.Child."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from prefrl.errors import UserError
from prefrl.labelling.child import tell, told, when_parent_ends
from prefrl.labelling.clip_maker import make_clips
from prefrl.labelling.options import LabellingOptions, LeaseOptions, Serving


def main() -> None:
    """Do what the parent says, until it ends."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    role, arguments = sys.argv[1], told()
    when_parent_ends(lambda: os._exit(0))  # nothing is left half done: the store's transactions and renamed files
    try:
        if role == "clips":
            options = LeaseOptions(**arguments["options"])
            make_clips(arguments["store"], Path(arguments["clips"]), options, lambda: tell(ready=True))
        else:
            from prefrl.labelling.serve import serve  # FastAPI: not for the clips

            run = arguments["run"]
            clips, token = Path(arguments["clips"]), Path(arguments["token"])
            serving = Serving(arguments["store"], clips, Path(run) if run else None, token, arguments["trust"])
            serve(serving, LabellingOptions(**arguments["options"]), lambda address: tell(address=address))
    except UserError as error:
        tell(error=str(error))
        logging.getLogger("prefrl.labelling").error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
