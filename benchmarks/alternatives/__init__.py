"""Common alternatives to our code, to measure against. The project does not use them."""
