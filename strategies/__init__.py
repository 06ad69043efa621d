"""Built-in strategies, one algorithm a file."""
