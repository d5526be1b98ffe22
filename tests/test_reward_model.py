from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prefrl.errors import UserError
from prefrl.queries import Query
from prefrl.reward_model import RewardEnsemble, preference_loss, preference_probability
from prefrl.segments import Segment

finite = st.floats(-1e4, 1e4, width=32)


def plain_networks(ensemble: RewardEnsemble) -> list[nn.Sequential]:
    """Each member as an ordinary torch network with the same weights."""
    networks = []
    for member in range(ensemble.members):
        layers: list[nn.Module] = []
        for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            linear.weight.data, linear.bias.data = weight.data[member].T, bias.data[member, 0]
            layers += [linear, nn.LeakyReLU(0.01)]
        networks.append(nn.Sequential(*layers[:-1]))
    return networks


def make_ensemble(members: int = 3, dropout: float = 0.0, risk_aversion: float = 0.0) -> RewardEnsemble:
    ensemble = RewardEnsemble(4, 2, members, (8, 5), dropout, 2.0, seed=1, risk_aversion=risk_aversion)
    ensemble.set_observation_statistics(np.arange(4.0), np.array([1.0, 2.0, 0.0, 0.5]))
    ensemble.normalise_rewards_over(torch.randn(members, 50, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    return ensemble


def make_inputs(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, 4)).astype(np.float32), rng.normal(size=(*shape, 2)).astype(np.float32)


# Equation 1 and the error model.


def test_equation_1_by_hand() -> None:
    """Segment rewards (1, 2, 0) against (0.5, 0.5, 1): returns 3 and 2, so P = e³/(e³+e²) = 0.7311."""
    returns = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.5, 1.0]]).sum(dim=-1)
    exact = math.exp(3) / (math.exp(3) + math.exp(2))
    assert preference_probability(returns, error_rate=0.0).tolist() == pytest.approx([exact, 1 - exact])
    assert preference_probability(returns, 0.1).tolist() == pytest.approx([0.9 * exact + 0.05, 0.95 - 0.9 * exact])


def test_the_loss_by_hand_for_left_right_and_equal() -> None:
    returns = torch.tensor([3.0, 2.0])
    left = 0.9 * math.exp(3) / (math.exp(3) + math.exp(2)) + 0.05
    for mu, expected in [
        ((1.0, 0.0), -math.log(left)),
        ((0.0, 1.0), -math.log(1 - left)),
        ((0.5, 0.5), -(math.log(left) + math.log(1 - left)) / 2),
    ]:
        assert float(preference_loss(returns, torch.tensor(mu), 0.1)) == pytest.approx(expected, rel=1e-5)


@given(st.lists(finite, min_size=2, max_size=5), st.floats(0, 0.9))
def test_error_rate_bounds_the_probability(returns: list[float], error_rate: float) -> None:
    k = len(returns)
    probability = preference_probability(torch.tensor(returns), error_rate)
    assert probability.min() >= error_rate / k - 1e-6
    assert probability.max() <= 1 - error_rate + error_rate / k + 1e-6
    assert float(probability.sum()) == pytest.approx(1, abs=1e-5)


def test_one_wrong_answer_cannot_cost_more_than_the_error_rate_allows() -> None:
    returns = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = preference_loss(returns, torch.tensor([0.0, 1.0]), error_rate=0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-math.log(0.05))
    assert returns.grad is not None
    assert torch.isfinite(returns.grad).all()


# The ensemble.


def test_batched_members_equal_a_plain_network_each() -> None:
    ensemble = make_ensemble()
    observations, actions = make_inputs(7)
    inputs = ensemble.inputs(torch.from_numpy(observations), torch.from_numpy(actions))
    expected = torch.stack([network(inputs).squeeze(-1) for network in plain_networks(ensemble)])
    torch.testing.assert_close(ensemble(inputs), expected)
    assert len(set(ensemble(inputs)[:, 0].tolist())) == 3, "the members start out different"


def test_each_member_can_have_a_batch_of_its_own() -> None:
    ensemble = make_ensemble()
    inputs = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(0))
    for member, network in enumerate(plain_networks(ensemble)):
        torch.testing.assert_close(ensemble(inputs)[member], network(inputs[member]).squeeze(-1))


def test_gradients_equal_those_of_a_loop_over_pairs_and_members() -> None:
    ensemble = make_ensemble()
    inputs = torch.randn(3, 5, 2, 4, 6, generator=torch.Generator().manual_seed(0))  # (members, pairs, 2, T, input_dim)
    mu = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    returns = ensemble(inputs.flatten(1, 3)).unflatten(1, (5, 2, 4)).sum(dim=-1)
    preference_loss(returns, mu.expand(3, -1, -1)).sum().backward()

    for member, network in enumerate(plain_networks(ensemble)):
        total = torch.zeros(())
        for pair in range(5):
            both: list[Tensor] = [network(inputs[member, pair, side]).sum() for side in (0, 1)]
            left = 0.9 * torch.sigmoid(both[0] - both[1]) + 0.05
            total = total - (mu[pair, 0] * left.log() + mu[pair, 1] * (1 - left).log())
        total.backward()
        linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        for weight, bias, linear in zip(ensemble.weights, ensemble.biases, linears, strict=True):
            assert weight.grad is not None
            assert bias.grad is not None
            assert linear.weight.grad is not None
            torch.testing.assert_close(weight.grad[member].T, linear.weight.grad, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(bias.grad[member, 0], linear.bias.grad, rtol=1e-4, atol=1e-6)


def test_observations_are_normalised_inside_and_constant_ones_are_left() -> None:
    ensemble = make_ensemble()
    observations, actions = make_inputs(7)
    inputs = ensemble.inputs(torch.from_numpy(observations), torch.from_numpy(actions)).numpy()
    np.testing.assert_allclose(
        inputs[:, :4], (observations - [0, 1, 2, 3]) / [1, 2, 1, 0.5], rtol=1e-5, err_msg="deviation 0 becomes 1"
    )
    np.testing.assert_array_equal(inputs[:, 4:], actions)


def test_each_member_is_normalised_by_itself_then_averaged() -> None:
    ensemble = make_ensemble()
    observations, actions = make_inputs(200)
    raw = ensemble.member_rewards(observations, actions)
    ensemble.normalise_rewards_over(raw)
    normalised = ensemble.combine(raw)
    each = (raw.numpy() - raw.numpy().mean(axis=1, keepdims=True)) / raw.numpy().std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(normalised, 2.0 * each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(ensemble.predict(observations, actions), normalised, atol=1e-6)


def test_one_member_over_the_data_it_is_normalised_by_has_mean_0_and_the_asked_deviation() -> None:
    ensemble = make_ensemble(members=1)
    observations, actions = make_inputs(500)
    ensemble.normalise_rewards_over(ensemble.member_rewards(observations, actions))
    predicted = ensemble.predict(observations, actions)
    assert predicted.mean() == pytest.approx(0, abs=1e-5)
    assert predicted.std() == pytest.approx(2.0, rel=0.01)


def test_an_agent_averse_to_risk_is_paid_less_for_every_reward_but_the_mean_in_the_same_order() -> None:
    neutral, averse = make_ensemble(), make_ensemble(risk_aversion=0.5)
    observations, actions = make_inputs(200)
    for ensemble in (neutral, averse):
        ensemble.normalise_rewards_over(ensemble.member_rewards(observations, actions))
    rewards, paid = (ensemble.predict(observations, actions) for ensemble in (neutral, averse))
    np.testing.assert_allclose(paid, (1 - np.exp(-0.5 * rewards.astype(np.float64))) / 0.5, atol=1e-5)
    np.testing.assert_array_equal(np.argsort(paid), np.argsort(rewards))
    assert (paid < rewards + 1e-6).all()
    assert averse.utility(torch.tensor([-2.0, 0.0, 2.0])).numpy() == pytest.approx([-3.4366, 0.0, 1.2642], abs=1e-4)


def test_answers_are_about_rewards_whatever_the_agents_aversion_to_risk() -> None:
    neutral, averse = make_ensemble(), make_ensemble(risk_aversion=0.5)
    segments = [Segment(*make_inputs(7, seed=seed), np.zeros(7, np.float32)) for seed in range(4)]
    np.testing.assert_array_equal(averse.predict_returns(segments), neutral.predict_returns(segments))
    queries = [Query(tuple(segments[:2])), Query(tuple(segments[2:]))]
    np.testing.assert_array_equal(averse.predict_preferences(queries), neutral.predict_preferences(queries))


def test_a_constant_reward_is_not_blown_up() -> None:
    ensemble = make_ensemble()
    ensemble.normalise_rewards_over(torch.full((3, 10), 5.0))
    np.testing.assert_array_equal(ensemble.combine(torch.full((3, 10), 5.0)), 0.0)


def test_rewards_that_have_come_to_rest_count_as_a_quarter_apart_of_those_compared() -> None:
    ensemble = make_ensemble(members=2)
    apart = torch.linspace(-1, 1, 101).expand(2, -1)
    ensemble.normalise_rewards_over(0.001 * apart, compared=torch.stack([apart[0], 0.0001 * apart[0]]))
    own = apart[0].std()
    np.testing.assert_allclose(ensemble.reward_scale, torch.stack([0.25 * own, 0.001 * own]), rtol=1e-5)


def test_predictions_do_not_depend_on_the_batch_they_are_made_in() -> None:
    ensemble = make_ensemble()
    observations, actions = make_inputs(3, 5)
    together = ensemble.predict(observations, actions)
    assert together.shape == (3, 5)
    for i in range(3):
        for j in range(5):
            alone = ensemble.predict(observations[i, j][None], actions[i, j][None])
            assert alone[0] == pytest.approx(together[i, j], abs=1e-5)


@pytest.mark.parametrize("gap", [0.5, 200.0, -200.0])
@pytest.mark.parametrize("error_rate", [0.0, 0.1])
def test_the_loss_and_its_gradient_stay_finite_however_sure_the_prediction(gap: float, error_rate: float) -> None:
    returns = torch.tensor([[gap, 0.0]], requires_grad=True)
    loss = preference_loss(returns, torch.tensor([[1.0, 0.0]]), error_rate)
    loss.sum().backward()
    exact = np.logaddexp(0, -gap) if error_rate == 0 else -np.log(0.9 / (1 + np.exp(-gap)) + 0.05)
    assert loss.item() == pytest.approx(exact, abs=1e-5)
    assert returns.grad is not None
    assert torch.isfinite(returns.grad).all()


def test_dropout_acts_in_training_only() -> None:
    ensemble = make_ensemble(dropout=0.5)
    observations, actions = make_inputs(20)
    np.testing.assert_array_equal(ensemble.predict(observations, actions), ensemble.predict(observations, actions))
    inputs = ensemble.inputs(torch.from_numpy(observations), torch.from_numpy(actions))
    ensemble.train()
    assert not torch.equal(ensemble(inputs), ensemble(inputs))


def test_dropout_scores_both_segments_of_a_pair_by_the_same_network() -> None:
    ensemble = make_ensemble(dropout=0.5).train()
    inputs = ensemble.inputs(*map(torch.from_numpy, make_inputs(7)))
    first, second = ensemble(torch.cat([inputs, inputs])).chunk(2, dim=1)
    torch.testing.assert_close(first, second)


def test_predicted_preferences_are_the_softmax_of_each_members_returns() -> None:
    ensemble = make_ensemble()
    observations, actions = make_inputs(4, 3, 6)  # 4 queries of 3 segments of 6 steps
    rewards = np.zeros(6, np.float32)
    queries = [
        Query(tuple(Segment(o, a, rewards) for o, a in zip(*both, strict=True)))
        for both in zip(observations, actions, strict=True)
    ]
    predicted = ensemble.predict_preferences(queries)
    assert predicted.shape == (3, 4, 3)
    for member, network in enumerate(plain_networks(ensemble)):
        inputs = ensemble.inputs(torch.from_numpy(observations), torch.from_numpy(actions))
        returns = network(inputs).squeeze(-1).sum(dim=-1)
        np.testing.assert_allclose(predicted[member], torch.softmax(returns, -1).detach(), atol=1e-5)


def test_a_segment_that_is_in_many_queries_is_predicted_once() -> None:
    ensemble = make_ensemble()
    a, b, c = (Segment(o, x, np.zeros(6, np.float32)) for o, x in zip(*make_inputs(3, 6), strict=True))
    queries = [Query(pair) for pair in ((a, b), (c, a), (b, c))]
    seen = []
    handle = ensemble.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    together = ensemble.predict_preferences(queries)
    handle.remove()
    assert seen == [3 * 6]
    for i, query in enumerate(queries):
        np.testing.assert_allclose(together[:, [i]], ensemble.predict_preferences([query]), atol=1e-6)


def test_a_predictor_of_what_actions_lead_to_is_given_the_observations_after_them() -> None:
    before, after = make_ensemble(), make_ensemble()
    after.observation = "after"
    observations, actions = make_inputs(2, 7)
    ahead = np.roll(observations, -1, axis=1)
    rewards = np.zeros(7, np.float32)
    parts = zip(observations, actions, ahead, strict=True)
    segments = [Segment(o, a, rewards, next_observations=led_to) for o, a, led_to in parts]
    moved = [Segment(o, a, rewards) for o, a in zip(ahead, actions, strict=True)]
    np.testing.assert_array_equal(after.predict_returns(segments), before.predict_returns(moved))
    queries = [Query(tuple(each)) for each in (segments, moved)]
    np.testing.assert_array_equal(after.predict_preferences(queries[:1]), before.predict_preferences(queries[1:]))
    assert not np.array_equal(after.predict_returns(segments), before.predict_returns(segments))


def test_a_seed_fixes_the_weights() -> None:
    one, same, other = (RewardEnsemble(4, 2, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.weights, same.weights, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


# Files.


def test_what_is_saved_is_loaded_identically(tmp_path: Path) -> None:
    ensemble = make_ensemble(dropout=0.25, risk_aversion=0.5)
    ensemble.save(tmp_path / "predictor.safetensors")
    loaded = RewardEnsemble.load(tmp_path / "predictor.safetensors")
    observations, actions = make_inputs(9)
    assert loaded.predict(observations, actions).tobytes() == ensemble.predict(observations, actions).tobytes()
    assert {name: value.tolist() for name, value in loaded.state_dict().items()} == {
        name: value.tolist() for name, value in ensemble.state_dict().items()
    }
    sizes = ("observation_dim", "action_dim", "members", "hidden")
    for name in (*sizes, "dropout", "reward_deviation", "observation", "risk_aversion"):
        assert list(np.ravel(getattr(loaded, name))) == list(np.ravel(getattr(ensemble, name)))


def test_a_loaded_predictor_can_be_trained_on(tmp_path: Path) -> None:
    make_ensemble().save(tmp_path / "p.safetensors")
    loaded = RewardEnsemble.load(tmp_path / "p.safetensors")
    loaded(torch.ones(1, 6)).sum().backward()
    assert all(weight.grad is not None for weight in loaded.weights)


@pytest.mark.parametrize("content", ["text", "foreign", "no_shape", "other_shape", "missing"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.safetensors"
    tensors = {name: value.contiguous() for name, value in make_ensemble().state_dict().items()}
    if content == "text":
        path.write_text("hello")
    elif content == "foreign":
        safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    elif content == "no_shape":
        safetensors.torch.save_file(tensors, path, metadata={"prefrl": "{}"})
    elif content == "other_shape":
        shape = {"observation_dim": 7, "action_dim": 2}
        safetensors.torch.save_file(tensors, path, metadata={"prefrl": json.dumps(shape)})
    with pytest.raises(UserError, match=r"p\.safetensors is not a saved reward predictor") as refusal:
        RewardEnsemble.load(path)
    assert "\n" not in str(refusal.value), "one line"


@pytest.mark.parametrize(
    "declared",
    [
        {"members": 10**9},
        {"hidden": [10**6, 10**6]},
        {"hidden": [1] * 100_000},
        {"observation_dim": -2},
        {"dropout": "x"},
        {"reward_deviation": float("nan")},
    ],
)
def test_a_shape_that_its_tensors_do_not_have_is_refused_before_it_is_made(
    tmp_path: Path, declared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.safetensors"
    make_ensemble().save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["prefrl"])
    tensors = {name: value.contiguous() for name, value in make_ensemble().state_dict().items()}
    safetensors.torch.save_file(tensors, path, metadata={"prefrl": json.dumps(shape | declared)})
    monkeypatch.setattr(RewardEnsemble, "__init__", lambda *arguments, **shape: pytest.fail("made"))
    with pytest.raises(UserError, match=r"p\.safetensors is not a saved reward predictor: "):
        RewardEnsemble.load(path)
