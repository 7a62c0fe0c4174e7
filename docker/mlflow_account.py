"""Make the MLflow account that the workers log in with; one that is there gets the password that is in force.

From the environment: MLFLOW_TRACKING_URI, the admin's MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and
the account's MLFLOW_ACCOUNT_USERNAME and MLFLOW_ACCOUNT_PASSWORD.
"""

from __future__ import annotations

import os

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client


def main() -> None:
    name, password = os.environ["MLFLOW_ACCOUNT_USERNAME"], os.environ["MLFLOW_ACCOUNT_PASSWORD"]
    accounts = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    try:
        accounts.create_user(name, password)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        accounts.update_user_password(name, password)


if __name__ == "__main__":
    main()
