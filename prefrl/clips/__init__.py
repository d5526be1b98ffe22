"""Turn the exact states of a segment into pictures: frames, H.264 clips, contact sheets, GIFs.

Reads qpos and qvel as stored in segments.Segment and the camera of tasks.Task; feeds the labelling page, `prefrl watch`
and the report. Never called while stepping: a clip is drawn from stored states when somebody wants to see it.

    with ClipRenderer(load_model(task), task.camera) as renderer:
        write_video(path, renderer.iter_frames(segment.qpos, segment.qvel), task.playback_fps)
"""

from prefrl.clips.files import annotate, frame_strip, write_gif, write_video
from prefrl.clips.gl import RenderingUnavailable
from prefrl.clips.renderer import ClipRenderer

__all__ = ["ClipRenderer", "RenderingUnavailable", "annotate", "frame_strip", "write_gif", "write_video"]
