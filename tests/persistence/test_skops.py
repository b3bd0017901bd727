"""skops: models are written by it, and only classes of this package have to be trusted."""

import pytest
from sklearn.impute import SimpleImputer

from tests.persistence.models import MODELS, fitted, hold_same, said

skops_io = pytest.importorskip("skops.io")
pytestmark = pytest.mark.slow


def untrusted_of(model):
    return set(skops_io.get_untrusted_types(data=skops_io.dumps(model)))


# What scikit-learn's own imputer asks trust for, which fills the gaps of tables.
IMPUTER = untrusted_of(SimpleImputer().fit([[1.0], [2.0]]))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_says_the_same(name):
    model, X = fitted(name)
    written = skops_io.dumps(model)
    untrusted = skops_io.get_untrusted_types(data=written)
    others = {kind for kind in untrusted if not kind.startswith("sklearn_gflow.")}
    # A splitter is the user's own choice.
    folds = set() if getattr(model, "cv", None) is None else untrusted_of(model.cv)
    assert others <= IMPUTER | folds
    hold_same(said(skops_io.loads(written, trusted=untrusted), X), said(model, X))
