import pytest


@pytest.fixture(autouse=True)
def _exports(one_table_of_operators: None) -> None:
    """Nearly every test here exports."""
