"""Built-in stoppers, one a file; each ends trials of the search early, by their curves."""
