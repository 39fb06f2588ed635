"""Settings: the model of a feeder, its schema, and where values come from."""
