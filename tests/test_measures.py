"""Success measures and judges on motions written by hand."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from prefrl import measures
from prefrl.errors import UserError
from prefrl.kinematics import planar_kinematics
from prefrl.oracles.judges import judge_backflip, judge_one_leg
from prefrl.robots import HOPPER
from prefrl.segments import Segment
from prefrl.tasks import TASKS, load_model

HOPPER_DT = 0.008
EIGHT_SECONDS = 1000  # hopper steps
AIR = 3.0  # metres: nothing touches the floor
STANDING = 1.2095  # metres: the foot touches, nothing else does
LYING = 0.0  # metres: whichever way it turns, the torso is in the floor


def hopper_states(
    revolutions: NDArray[np.float64] | list[float], height: NDArray[np.float64] | float = AIR
) -> NDArray[np.float64]:
    """(T, 6) states of a stretched hopper whose torso has turned backwards by so much since upright."""
    revolutions = np.asarray(revolutions, np.float64)
    qpos = np.zeros((len(revolutions), 6))
    qpos[:, 1] = height
    qpos[:, 2] = -2 * np.pi * revolutions
    return qpos


def flips(count: float, steps: int = EIGHT_SECONDS, start: float = -0.001) -> NDArray[np.float64]:
    """(steps + 1,) even turning through `count` backward revolutions."""
    return np.linspace(start, start + count + 0.002, steps + 1)


def backflip(qpos: NDArray[np.float64]) -> dict[str, float]:
    return measures.backflip(qpos, HOPPER_DT)


def segment_of(qpos: NDArray[np.float64]) -> Segment:
    zeros = np.zeros((len(qpos), 1), np.float32)
    return Segment(zeros, zeros, zeros[:, 0], qpos, np.zeros_like(qpos))


def test_the_hand_made_heights_are_what_they_claim() -> None:
    lowest = planar_kinematics(HOPPER).lowest_points
    geoms = [*measures.HOPPER_BODY, measures.HOPPER_FOOT]
    assert (lowest(hopper_states([0.0], AIR), geoms) > 1).all()
    assert (lowest(hopper_states([0.0], STANDING), geoms) < 0.001).tolist() == [[False, False, False, True]]
    assert (lowest(hopper_states([0.25], LYING), geoms) < 0.001)[0, :3].any()


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_flips_in_the_air_are_turns_and_clean(count: int) -> None:
    assert backflip(hopper_states(flips(count))) == {"turns": count, "clean_flips": count, "body_down": 0.0}


def test_positive_pitch_is_forward_and_forward_turns_do_not_count() -> None:
    """A torso that pitches forward by MuJoCo's own kinematics moves its top towards +x."""
    model = load_model(TASKS["hopper"])
    data = mujoco.MjData(model)
    data.qpos[:] = hopper_states([-0.1])[0]
    mujoco.mj_kinematics(model, data)
    top_of_torso = data.geom("torso_geom").xmat.reshape(3, 3)[:, 2]
    assert abs(top_of_torso[0]) > 0.5
    assert np.sign(top_of_torso[0] * top_of_torso[2]) == 1, "leaning towards +x"
    assert backflip(hopper_states(-flips(5))) == {"turns": 0, "clean_flips": 0, "body_down": 0.0}


def test_turns_need_a_whole_revolution() -> None:
    assert backflip(hopper_states(np.linspace(0.0, 0.99, EIGHT_SECONDS + 1)))["turns"] == 0
    assert backflip(hopper_states(np.linspace(0.5, 1.51, EIGHT_SECONDS + 1)))["turns"] == 1


def test_rocking_to_and_fro_earns_a_turn_only_once() -> None:
    rocking = 0.6 + 0.6 * np.sin(np.linspace(-np.pi / 2, 20 * np.pi, EIGHT_SECONDS + 1))  # 0 to 1.2 and back, 10 times
    measured = backflip(hopper_states(rocking))
    assert measured["turns"] == 1
    assert measured["clean_flips"] == 1


def test_figures_are_per_eight_seconds() -> None:
    assert backflip(hopper_states(flips(2, steps=500)))["turns"] == 4
    assert backflip(hopper_states(flips(2, steps=500)))["clean_flips"] == 4
    assert backflip(hopper_states(flips(2, steps=2000)))["turns"] == 1


def test_a_flip_that_touches_the_floor_with_the_body_is_a_turn_but_not_clean() -> None:
    revolutions = flips(3)
    height = np.where(np.abs(revolutions - 1.5) < 0.05, LYING, AIR)  # once, in the second of three
    measured = backflip(hopper_states(revolutions, height))
    assert (measured["turns"], measured["clean_flips"]) == (3, 2)
    assert measured["body_down"] == pytest.approx(0.1 / 3, rel=0.05)


def test_landing_on_the_foot_is_clean_and_never_leaving_the_floor_is_not() -> None:
    revolutions = flips(2)
    near_upright = np.abs(revolutions - np.round(revolutions)) < 0.02
    landing = np.where(near_upright, STANDING, AIR)
    assert backflip(hopper_states(revolutions, landing))["clean_flips"] == 2
    # A hopper that spins its torso alone, on a leg that stands still: the thigh turns against the torso.
    spinning = hopper_states(revolutions)
    spinning[:, 3] = spinning[:, 2]
    spinning[:, 1] = STANDING - 0.2 + 0.2 * np.cos(spinning[:, 2])
    lowest = planar_kinematics(HOPPER).lowest_points
    assert (lowest(spinning, [measures.HOPPER_FOOT]) < 0.001).all()
    assert backflip(spinning) == {"turns": 2, "clean_flips": 0, "body_down": 0}


def test_an_unfinished_flip_is_not_clean_and_one_that_starts_tilted_counts_from_upright() -> None:
    assert backflip(hopper_states(np.linspace(0.1, 0.9, EIGHT_SECONDS + 1)))["clean_flips"] == 0
    assert backflip(hopper_states(np.linspace(0.4, 1.6, EIGHT_SECONDS + 1))) == pytest.approx(
        {"turns": 1, "clean_flips": 0, "body_down": 0}
    )
    assert backflip(hopper_states(np.linspace(0.4, 2.1, EIGHT_SECONDS + 1)))["clean_flips"] == 1


def test_a_flip_right_from_the_start_is_clean_whichever_way_the_start_noise_leans() -> None:
    for noise in (-0.0008, 0.0008):
        measured = backflip(hopper_states(flips(2, start=noise)))
        assert (measured["turns"], measured["clean_flips"]) == (2, 2)


def test_the_judge_counts_turning_in_the_air_in_full_on_the_foot_less_and_lying_least() -> None:
    half_turn = np.linspace(0, 0.5, 61)
    assert judge_backflip(segment_of(hopper_states(half_turn))) == pytest.approx(0.5)
    assert judge_backflip(segment_of(hopper_states(half_turn, LYING))) == pytest.approx(0.15, abs=0.09)
    nodding = np.linspace(0, 0.01, 61)
    assert judge_backflip(segment_of(hopper_states(nodding, STANDING))) == pytest.approx(0.007)


def test_the_judge_counts_the_furthest_turn_wherever_in_the_clip_it_is() -> None:
    there_and_back = np.concatenate([np.linspace(0, 0.4, 31), np.linspace(0.4, 0, 31)])
    assert judge_backflip(segment_of(hopper_states(there_and_back))) == pytest.approx(0.4)
    two_attempts = np.concatenate([there_and_back, np.linspace(0, 0.3, 31)])
    assert judge_backflip(segment_of(hopper_states(two_attempts))) == pytest.approx(0.4)
    # What touches the floor before and after the furthest turn does not matter to it.
    heights = np.concatenate([np.full(31, AIR), np.full(31, LYING)])
    assert judge_backflip(segment_of(hopper_states(there_and_back, heights))) == pytest.approx(0.4)


def test_the_judge_takes_off_forward_turns() -> None:
    for height in (AIR, LYING):
        assert judge_backflip(segment_of(hopper_states(np.linspace(0, -0.5, 61), height))) == pytest.approx(-0.5)
    wiggling = np.concatenate([[0.0, 0.01], np.linspace(0.01, -1, 59)])
    assert judge_backflip(segment_of(hopper_states(wiggling))) == pytest.approx(-1)
    assert judge_backflip(segment_of(hopper_states(np.zeros(61)))) == 0


def cheetah_states(front_leg_up: NDArray[np.bool_], metres_per_step: float = 0.1) -> NDArray[np.float64]:
    """(T, 9) states of a cheetah that glides forward, tilted onto its back leg where the front leg is up."""
    qpos = np.zeros((len(front_leg_up), 9))
    qpos[:, 0] = metres_per_step * np.arange(len(front_leg_up))
    qpos[:, 1] = np.where(front_leg_up, 0.0, -0.2)
    qpos[:, 2] = np.where(front_leg_up, -0.4, 0.0)
    return qpos


def test_one_leg_speed_counts_only_steps_that_end_with_the_front_leg_up() -> None:
    up = np.array([True] + [True] * 6 + [False] * 4)
    measured = measures.one_leg(cheetah_states(up), dt=0.05)
    assert measured["speed"] == pytest.approx(2.0)
    assert measured["one_leg_speed"] == pytest.approx(2.0 * 6 / 10)
    assert measured["front_leg_down"] == pytest.approx(4 / 10)


def test_one_leg_speed_takes_off_every_step_back() -> None:
    up = np.array([True] + [True] * 5 + [False] * 5)
    back = measures.one_leg(cheetah_states(up, -0.1), dt=0.05)
    assert back["one_leg_speed"] == back["speed"] == pytest.approx(-2.0)


def test_the_one_leg_judge_gives_a_tenth_for_any_touch_and_takes_steps_back_in_full() -> None:
    up, touched = np.ones(11, bool), np.arange(11) != 5
    assert judge_one_leg(segment_of(cheetah_states(up))) == pytest.approx(1.0)
    assert judge_one_leg(segment_of(cheetah_states(touched))) == pytest.approx(0.1)
    for front_leg_up in (up, touched):
        assert judge_one_leg(segment_of(cheetah_states(front_leg_up, -0.1))) == pytest.approx(-1.0)


def test_judges_need_exact_states() -> None:
    blind = Segment(np.zeros((3, 11), np.float32), np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
    for judge in (judge_backflip, judge_one_leg):
        with pytest.raises(UserError, match="exact states"):
            judge(blind)


def test_speed_is_distance_over_time() -> None:
    qpos = np.zeros((101, 6))
    qpos[:, 0] = np.linspace(1.0, 5.0, 101)
    assert measures.distance(qpos, dt=0.02) == {"speed": pytest.approx(2.0)}


def test_the_reachers_distance_is_that_of_mujocos_fingertip_over_the_last_half() -> None:
    model = load_model(TASKS["reacher"])
    data = mujoco.MjData(model)
    qpos = np.random.default_rng(0).uniform(-0.2, 0.2, (11, 4)) * [10, 10, 1, 1]
    away = []
    for state in qpos:
        data.qpos[:] = state
        mujoco.mj_kinematics(model, data)
        away.append(np.linalg.norm((data.body("fingertip").xpos - data.body("target").xpos)[:2]))
    assert measures.reach(qpos, dt=0.02)["final_distance"] == pytest.approx(np.mean(away[5:]))


def test_upright_shares_of_both_pendulums() -> None:
    single = np.zeros((10, 2))
    single[3:, 1] = 0.21
    assert measures.upright(single, dt=0.04) == {"upright": pytest.approx(0.3)}
    double = np.zeros((10, 3))
    double[4:, 1] = np.pi / 2
    assert measures.tip_up(double, dt=0.05) == {"upright": pytest.approx(0.4)}
