"""Events of a feed, told to a webhook or a command of its operator."""
