"""Pictures of runs that log other things than ours."""

import matplotlib.pyplot as plt

from zoo.plots import _training_curve


def test_an_objective_need_not_log_what_ours_does() -> None:
    figure, axis = plt.subplots()
    _training_curve(axis, [{"step": 1, "loss": 2.0}], "segment_accuracy")
    assert axis.lines
    assert not any(len(line.get_xdata()) for line in axis.lines)  # type: ignore[arg-type]
    plt.close(figure)
