"""Publish a run's preferences and predictor as a folder that needs no prefrl to read, and read such a folder back.

Takes RUN/preferences.db, gives a new preference store. A stranger's folder is data: nothing in it is executed, none of
its texts becomes a path, and what an export does not write is refused. What the columns mean stands in
templates/data_card.md.j2.
"""

from prefrl.dataset.contents import Dataset
from prefrl.dataset.exchange import export_dataset, import_dataset
from prefrl.dataset.files import read_dataset

__all__ = ["Dataset", "export_dataset", "import_dataset", "read_dataset"]
