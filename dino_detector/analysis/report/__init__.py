"""The report: one HTML file that shows how good a detector is, and where it goes wrong."""

from dino_detector.analysis.report.page import write_report

__all__ = ["write_report"]
