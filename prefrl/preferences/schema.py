"""The tables of a preference database, the same on SQLite and PostgreSQL.

When they change, migrations.py says how a database of before is brought up to date.
"""

from __future__ import annotations

import sqlalchemy as sa

from prefrl.preferences.arrays import ARRAYS, OPTIONAL_ARRAYS

TABLES = sa.MetaData()

meta = sa.Table(
    "meta",
    TABLES,
    sa.Column("key", sa.Text, primary_key=True),  # schema_version, task, mujoco_version, created
    sa.Column("value", sa.Text, nullable=False),
)

segments = sa.Table(
    "segments",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("task", sa.Text),
    sa.Column("mujoco_version", sa.Text),  # of the exact states; empty where there are none
    sa.Column("env_steps", sa.BigInteger, nullable=False),  # of the run, when it was recorded
    sa.Column("length", sa.Integer, nullable=False),  # steps
    sa.Column("true_return", sa.Double, nullable=False),  # undiscounted sum of true_rewards
    *(
        column
        for name in ARRAYS
        for column in (
            sa.Column(name, sa.LargeBinary, nullable=name in OPTIONAL_ARRAYS),  # little-endian, row-major
            sa.Column(f"{name}_dtype", sa.Text, nullable=name in OPTIONAL_ARRAYS),  # as numpy writes it: "<f4"
            sa.Column(f"{name}_shape", sa.Text, nullable=name in OPTIONAL_ARRAYS),  # "60,11"
        )
    ),
)

queries = sa.Table(
    "queries",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),  # unix seconds
)

query_segments = sa.Table(
    "query_segments",
    TABLES,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # on screen, 0 = leftmost
    sa.Column("segment_id", sa.ForeignKey("segments.id"), nullable=False),
)

answers = sa.Table(
    "answers",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("ranking", sa.Text, nullable=False),  # "0>1", "0=1", "2>0=1", "cant_tell", "skip"
    sa.Column("labeller", sa.Text, nullable=False),
    sa.Column("shown_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("answered_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("replays", sa.Integer, nullable=False),
    # Unique: two tabs can't both undo the same answer and leave two current ones.
    sa.Column("supersedes", sa.ForeignKey("answers.id"), unique=True),
)

# People who label on the page; who comes again under the same name is the same one.
labellers = sa.Table(
    "labellers",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("consent", sa.Text, nullable=False),  # version of the text that they agreed to
    sa.Column("joined_at", sa.Double, nullable=False),  # unix seconds
)

# A query that one labeller is to answer, until it lapses; labelling/leases.py.
leases = sa.Table(
    "leases",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("labeller_id", sa.ForeignKey("labellers.id"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),  # first, repeat, gold, undo
    sa.Column("swapped", sa.Boolean, nullable=False),  # the query's segments were shown in reverse order
    sa.Column("leased_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("supersedes", sa.ForeignKey("answers.id")),  # of an undo
    sa.Column("answer_id", sa.ForeignKey("answers.id"), unique=True),  # once it is answered
)

# How an answer of the page came about, by the browser's own clock, which nobody sets.
viewings = sa.Table(
    "viewings",
    TABLES,
    sa.Column("answer_id", sa.ForeignKey("answers.id"), primary_key=True),
    sa.Column("shown_ms", sa.Double, nullable=False),  # when both clips played, since the page was loaded
    sa.Column("answered_ms", sa.Double, nullable=False),
    sa.Column("active_ms", sa.Double, nullable=False),  # in between, while the page was in view
    sa.Column("speed", sa.Double, nullable=False),  # of playback; 1 is the task's own
    sa.Column("page_version", sa.Text, nullable=False),
)

# When a run asked a query and took an answer, in its environment steps: with that it can be repeated.
# What was in the database before the run has 0.
asked, taken = (
    sa.Table(
        name,
        TABLES,
        sa.Column("run", sa.Text, primary_key=True),  # hexadecimal digits
        sa.Column(column, sa.ForeignKey(referred), primary_key=True),
        sa.Column("env_steps", sa.BigInteger, nullable=False),
    )
    for name, column, referred in (("asked", "query_id", "queries.id"), ("taken", "answer_id", "answers.id"))
)
