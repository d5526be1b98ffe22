"""Check that MuJoCo can render without a display; as root, install the system libraries it lacks.

Run by `make setup` and `make system`: .venv/bin/python scripts/rendering.py
Exit code 0 if rendering works in the end. If not, prints the one line to type and exits with 1.
"""

import subprocess
import sys

from packages import install_with_apt, may_use_apt, print_line_to_type

# In a process of its own: MuJoCo chooses its renderer when it is imported, and libraries are loaded once.
RENDER = """
from prefrl.clips import ClipRenderer, RenderingUnavailable
from prefrl.tasks import get_task, load_model
task = get_task("pendulum")
model = load_model(task)
try:
    with ClipRenderer(model, task.camera, 64, 64) as renderer:
        assert renderer.frames(model.qpos0[None]).std() > 0, "the picture is blank"
except RenderingUnavailable as error:
    raise SystemExit(str(error.__cause__ or error).split("\\n")[0])
"""

APT_PACKAGES = ["libegl1", "libegl-mesa0", "libgl1", "libgl1-mesa-dri"]
PACKAGES = {
    "apt-get install -y": " ".join(APT_PACKAGES),
    "dnf install -y": "mesa-libEGL mesa-libGL mesa-dri-drivers",
    "pacman -S --noconfirm": "libglvnd mesa",
    "zypper install -y": "Mesa-libEGL1 Mesa-libGL1 Mesa-dri",
    "apk add": "mesa-egl mesa-gl mesa-dri-gallium",
}


def rendering_error() -> str | None:
    """The last line of what went wrong, None if a small picture was rendered."""
    result = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, text=True)
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]


def main() -> int:
    """Check, install where allowed, check again."""
    error = rendering_error()
    if error and may_use_apt():
        print(f"MuJoCo cannot render yet ({error}); installing {' '.join(APT_PACKAGES)}")
        install_with_apt(APT_PACKAGES)
        error = rendering_error()
    if error is None:
        return 0
    print(f"MuJoCo cannot render here ({error}), so training leaves no videos", file=sys.stderr)
    print_line_to_type(PACKAGES, otherwise="EGL and Mesa's software renderer")
    return 1


if __name__ == "__main__":
    sys.exit(main())
