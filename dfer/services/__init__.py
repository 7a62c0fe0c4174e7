"""Prefect's server, MLflow's server, their database and Prefect's workers as processes of one machine, on loopback.

They are programs here: neither Prefect nor MLflow is imported.
"""
