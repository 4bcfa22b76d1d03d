"""What the tests of broken components share."""

from collections.abc import Callable

import pytest


def sentence_of(check: Callable[[str], None]) -> str:
    """Return the one sentence with which the check of the component ``defect`` fails."""
    with pytest.raises(AssertionError) as caught:
        check("defect")
    (sentence,) = str(caught.value).splitlines()
    return sentence
