"""The networks: tensors in, logits out. Knows neither video files nor data sets."""
