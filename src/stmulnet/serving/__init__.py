"""Serving a network: a web page and an HTTP interface over the predictor."""
