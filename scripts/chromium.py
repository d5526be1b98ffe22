"""A Chromium for the tests of the labelling page; as root, install one where there is none.

Run by `make test`: .venv/bin/python scripts/chromium.py
Exit code 0 if there is one in the end. If not, prints the one line to type and exits with 1.
"""

import shutil
import sys

from packages import install_with_apt, may_use_apt, print_line_to_type

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APT_PACKAGES = ["chromium"]
PACKAGES = {
    "apt-get install -y": "chromium",
    "dnf install -y": "chromium",
    "pacman -S --noconfirm": "chromium",
    "zypper install -y": "chromium",
    "apk add": "chromium",
}


def find_chromium() -> str | None:
    """Path of the system's Chromium or Chrome; None where there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


def main() -> int:
    """Check, install where allowed, check again."""
    if find_chromium() is None and may_use_apt():
        print(f"no Chromium to test the labelling page with yet; installing {' '.join(APT_PACKAGES)}")
        install_with_apt(APT_PACKAGES)
    if find_chromium() is not None:
        return 0
    print("no Chromium here, so the tests of the labelling page are skipped", file=sys.stderr)
    print_line_to_type(PACKAGES, otherwise="Chromium")
    return 1


if __name__ == "__main__":
    sys.exit(main())
