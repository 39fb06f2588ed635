"""The runner: one strategy, live, on replay and in backtest."""
