"""Settings: their schema, the checked model, and the sources of values."""
