"""How good the methods are: rows of metrics, averages, plots and the results page."""
