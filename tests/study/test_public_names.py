"""The names of the package's root."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import milp_search


# GPyTorch scripts functions when it is imported, which Torch no longer likes.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
# Ax imports modules of its own by their former names.
@pytest.mark.filterwarnings("ignore:ax.service:DeprecationWarning")
@pytest.mark.slow  # importing Ax takes seconds
def test_every_public_name_is_there() -> None:
    assert set(dir(milp_search)) == set(milp_search.__all__)
    for name in milp_search.__all__:
        assert getattr(milp_search, name) is not None


def test_the_version_is_the_distributions() -> None:
    assert milp_search.__version__ == version("milp-search")


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        milp_search.optimise  # noqa: B018
