"""PostgreSQL, Prefect's server, MLflow's server and Prefect's workers as processes of one machine, on loopback.

They are other programs here: neither Prefect nor MLflow is imported.
"""
