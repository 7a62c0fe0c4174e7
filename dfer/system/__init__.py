"""The machine: processes, memory, GPUs, logs, downloads."""
