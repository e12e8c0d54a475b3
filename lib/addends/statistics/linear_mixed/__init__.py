"""The engine of mixed models: from a formula and a table to a fit. Its face is `addends.statistics.mixed`."""
