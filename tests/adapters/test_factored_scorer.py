from __future__ import annotations

import math

import pytest
import torch

from milp_search.adapters.factored_scorer import FactoredScorer, pair_features, train_scorer


def test_features_are_both_vectors_normalised_and_their_product() -> None:
    features = pair_features(torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0, 1.0]]))
    # Two numbers normalise to -1 and 1, up to layer_norm's 1e-5 beside the variance.
    expected = torch.tensor([[-1.0, 1.0, 1.0, -1.0, -1.0, -1.0]])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


def test_equal_numbers_have_no_features_of_their_own() -> None:
    assert not pair_features(torch.ones(1, 4), torch.zeros(1, 4)).any()


def test_a_score_is_the_users_head_on_the_shared_layer() -> None:
    scorer = FactoredScorer(
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        torch.tensor([0.0, 0.5]),
        torch.tensor([1.0, 1.0]),
        {"anna": torch.tensor([2.0, 0.0])},
    )
    scores = scorer.scores(torch.tensor([[0.3, 0.1], [0.3, 0.1]]), ["anna", "newt"])
    common = math.tanh(0.3) + math.tanh(0.7)
    assert scores.tolist() == pytest.approx([common + 2 * math.tanh(0.3), common])


ROWS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def test_what_all_users_have_in_common_serves_a_user_who_taught_nothing() -> None:
    users = ["anna"] * 4 + ["bert"] * 4
    scorer = train_scorer(ROWS.repeat(2, 1), users, [True, False, True, False] * 2, 0)
    scores = scorer.scores(ROWS, ["newt"] * 4).tolist()
    assert min(scores[0], scores[2]) > max(scores[1], scores[3])


def test_users_who_want_the_opposite_each_have_a_head_of_their_own() -> None:
    users = ["anna"] * 4 + ["bert"] * 4
    wanted = [True, False, True, False]
    scorer = train_scorer(ROWS.repeat(2, 1), users, wanted + [not one for one in wanted], 0)
    anna, bert = (scorer.scores(ROWS, [user] * 4).tolist() for user in ("anna", "bert"))
    assert min(anna[0], anna[2]) > 0 > max(anna[1], anna[3])
    assert max(bert[0], bert[2]) < 0 < min(bert[1], bert[3])


def test_scores_become_the_log_odds_of_the_labels() -> None:
    """Three in four of the first kind are true, one in four of the second: odds 3 and 1/3."""
    same = torch.tensor([[1.0, 0.0]] * 4 + [[-1.0, 0.0]] * 4)
    labels = [True, True, True, False, False, False, False, True]
    scorer = train_scorer(same, ["anna"] * 8, labels, 0, steps=300)
    high, low = scorer.scores(same[[0, 4]], ["anna"] * 2).tolist()
    assert (high - low) / 2 == pytest.approx(math.log(3), abs=0.1)


def test_a_scorer_is_a_function_of_its_rows_and_key() -> None:
    made = [
        train_scorer(ROWS, ["anna"] * 4, [True, False, False, False], "name", seed)
        for seed in (0, 0, 1)
    ]
    first, same, other = (scorer.scores(ROWS, ["anna"] * 4).tolist() for scorer in made)
    assert first == same
    assert first != other


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_scorer(ROWS, ["anna"] * 4, [True, False, False, False], 0)
    assert torch.equal(torch.get_rng_state(), before)
