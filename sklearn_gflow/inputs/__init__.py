"""What the columns of a table become before a network sees them: transformers of scikit-learn."""

from sklearn_gflow.inputs._columns import origins_of, read_columns
from sklearn_gflow.inputs._frequent import FrequentValueEncoder
from sklearn_gflow.inputs._periodic import PeriodicEncoder
from sklearn_gflow.inputs._piecewise import PiecewiseLinearEncoder
from sklearn_gflow.inputs._scaler import SmoothRobustScaler
from sklearn_gflow.inputs._table import TableEncoder

__all__ = [
    "FrequentValueEncoder",
    "PeriodicEncoder",
    "PiecewiseLinearEncoder",
    "SmoothRobustScaler",
    "TableEncoder",
    "origins_of",
    "read_columns",
]
