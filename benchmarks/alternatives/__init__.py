"""What people do otherwise, written down once, to measure against. Nothing of the project uses it."""
