"""report.html: one file that opens from disk and tells what a run did.

Reads run directories and nothing else. Pictures come from prefrl.plots, videos are embedded as they lie in RUN/videos,
pages are prefrl/templates filled in with everything escaped; no script, nothing fetched.
"""

from prefrl.report.comparison import compare_report
from prefrl.report.contents import Run, load_run
from prefrl.report.run_page import build_report

__all__ = ["Run", "build_report", "compare_report", "load_run"]
