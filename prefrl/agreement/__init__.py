"""People beside oracles: how the labellers of one preference store answered the same questions (`prefrl compare`).

labellers.py reads a store; scores.py says how far apart the segments of each query are; krippendorff.py, shares.py and
teacher_fit.py say what the answers come to; page.py and terminal.py show it.
"""

from prefrl.agreement.command import CompareOptions, Comparison, compare
from prefrl.agreement.krippendorff import alpha
from prefrl.agreement.labellers import Labeller, Survey, read_survey
from prefrl.agreement.results import Results, work_out
from prefrl.agreement.teacher_fit import FittedTeacher, fit_teacher

__all__ = [
    "CompareOptions",
    "Comparison",
    "FittedTeacher",
    "Labeller",
    "Results",
    "Survey",
    "alpha",
    "compare",
    "fit_teacher",
    "read_survey",
    "work_out",
]
