"""The report: one HTML file that shows how good a detector is, and where it goes wrong."""
