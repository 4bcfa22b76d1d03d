"""A finished evaluation, and how its report is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.evaluation.tables import ReportTable, score_table
from zoo.models.task import Task


class ReportView(ABC):
    """Shows a finished report."""

    @abstractmethod
    def tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the table of the scores, then any others."""

    @abstractmethod
    def plots(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return figures by file name."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        report: as JSON: scores, counts, the clips left out with the reason for each, and all that
            it takes to do the same again.
        view: knows how to show the report.
    """

    report: dict[str, Any]
    view: ReportView


@dataclass(frozen=True)
class TaskView(ReportView):
    """Shows what a task asked of the samples."""

    task: Task

    def tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the table of the scores, then what the task adds."""
        task, rows = self.task, self.task.report_rows(report)
        scores = score_table(report, task.report_columns, _summary(report), task.all_samples, rows)
        return [scores, *task.report_tables(report)]

    def plots(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the task draws."""
        return self.task.plot_report(report)


def _summary(report: Mapping[str, Any]) -> str:
    """Say in one line what was evaluated on what."""
    each = "one fixed offset" if report["is_fixed"] else f"{report['rounds']} random samples"
    return f"{report['model']} on {report['num_clips']} {report['split']} clips x {each}"
