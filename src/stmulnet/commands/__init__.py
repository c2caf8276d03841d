"""One module per command-line verb; the only package that may import everything."""
