"""Effects from a table and a graph, without a model."""
