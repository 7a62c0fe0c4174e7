"""How stages run: caching, slots, retries, progress, logs and failures."""
