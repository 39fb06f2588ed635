"""All that this user's feeds have on this host: listed, and cleaned."""
