"""What holds for every test."""

import os

# Read by PyTorch when it is imported, and by the commands that tests start: the tests share the cores among processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis

import prefrl  # noqa: F401  chooses MuJoCo's off-screen renderer before any test imports mujoco

# No deadline: the first example of a property pays for compilation and imports.
hypothesis.settings.register_profile("prefrl", deadline=None)
hypothesis.settings.load_profile("prefrl")
