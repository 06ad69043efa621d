"""Built-in search spaces, one a file; `operations` holds the layers that they choose from."""
