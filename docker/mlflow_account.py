"""Make the MLflow account that the workers log in with; one that is there gets the password that is in force.

From the environment: MLFLOW_TRACKING_URI, the administrator's MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
and the account's MLFLOW_ACCOUNT_USERNAME and MLFLOW_ACCOUNT_PASSWORD.
"""

from __future__ import annotations

import os

import requests


def main() -> None:
    # MLflow's own client of accounts loads the whole server for these two requests
    users = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users"
    administrator = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    account = {"username": os.environ["MLFLOW_ACCOUNT_USERNAME"], "password": os.environ["MLFLOW_ACCOUNT_PASSWORD"]}
    answer = requests.post(f"{users}/create", json=account, auth=administrator, timeout=60)
    if answer.status_code == 400 and answer.json().get("error_code") == "RESOURCE_ALREADY_EXISTS":
        answer = requests.patch(f"{users}/update-password", json=account, auth=administrator, timeout=60)
    answer.raise_for_status()


if __name__ == "__main__":
    main()
