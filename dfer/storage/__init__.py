"""Files and stage outputs, on this machine or in an object store."""
