"""Where settings come from and how each is checked; `shmfeed.config` is their face."""
