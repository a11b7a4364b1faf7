from __future__ import annotations

import numpy as np
import pytest

from milp_search.core.trial import Measurement
from milp_search.search.noise import noise_variances, within_user_sem


def test_a_shift_that_all_trials_share_is_no_noise() -> None:
    # Users differ by 10, the trials by 1, and nothing else.
    assert within_user_sem(np.array([[0.0, 10.0], [1.0, 11.0]])) == pytest.approx([0.0, 0.0])


def test_within_user_error_by_hand() -> None:
    # Trial means 2, 3; user means 1, 2, 4.5; grand mean 2.5.
    # Residuals: first 1-2-1+2.5 = .5, 1-2-2+2.5 = -.5, 4-2-4.5+2.5 = 0; second the negatives.
    # Spread (.25 + .25) / 2 = .25, Morey's 2 / 1, three users: sqrt(.25 * 2 / 3).
    values = np.array([[1.0, 1.0, 4.0], [1.0, 3.0, 5.0]])
    assert within_user_sem(values) == pytest.approx([0.408248] * 2, abs=1e-6)


def test_users_values_replace_the_error_over_users() -> None:
    rows = [
        Measurement(2.0, 1.0, (1.0, 1.0, 4.0)),
        Measurement(3.0, 1.2, (1.0, 3.0, 5.0)),
        Measurement(2.5, 0.5),
    ]
    assert noise_variances(rows) == pytest.approx([1 / 6, 1 / 6, 0.25])


def test_what_is_exact_in_every_trial_has_no_noise() -> None:
    exact = [Measurement(2.0, 0.0, (1.0, 3.0)), Measurement(3.0, 0.0, (1.0, 5.0))]
    assert noise_variances(exact) == pytest.approx([0.0, 0.0])
    # Users' residuals are .5 in both: spread .5, times 2, over two users.
    one_inexact = [exact[0], Measurement(3.0, 0.1, (1.0, 5.0))]
    assert noise_variances(one_inexact) == pytest.approx([0.5, 0.5])


def test_an_error_over_users_is_used_where_nothing_pairs() -> None:
    rows = [Measurement(2.0, 0.1, (1.0, 3.0)), Measurement(3.0, 0.2)]
    assert noise_variances(rows) == pytest.approx([0.01, 0.04])


def test_one_unknown_error_makes_noise_unknown() -> None:
    assert noise_variances([Measurement(2.0, 0.1), Measurement(3.0)]) is None


def test_values_of_other_numbers_of_users_do_not_pair() -> None:
    rows = [
        Measurement(1.0, 0.5, (0.0, 2.0)),
        Measurement(2.0, 0.5, (1.0, 3.0)),
        Measurement(2.0, 0.3, (1.0, 2.0, 3.0)),
    ]
    assert noise_variances(rows) == pytest.approx([0.0, 0.0, 0.09])
