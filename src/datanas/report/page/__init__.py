"""The report: one HTML file, made from run folders alone."""
