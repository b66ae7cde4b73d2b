"""What every registered layer is held to."""

import pytest

pytest.register_assert_rewrite("conformance.features", "conformance.observe")
