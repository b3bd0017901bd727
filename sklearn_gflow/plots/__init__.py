"""Pictures of a fit, in the form of scikit-learn's displays.

A display holds data: `from_estimator` and `from_data` make it, and nothing is drawn before
``plot``, which can be called again with other options and is the only thing that needs matplotlib.
What is shown are public fitted attributes. Notation: docs/notation.md.
"""

from sklearn_gflow.plots._collapse import CollapseDisplay
from sklearn_gflow.plots._explanation import ExplanationDisplay
from sklearn_gflow.plots._flow import FlowDisplay
from sklearn_gflow.plots._kernel import KernelDisplay
from sklearn_gflow.plots._search import SearchDisplay
from sklearn_gflow.plots._spectrum import SpectrumDisplay
from sklearn_gflow.plots._stages import StagesDisplay

__all__ = [
    "CollapseDisplay",
    "ExplanationDisplay",
    "FlowDisplay",
    "KernelDisplay",
    "SearchDisplay",
    "SpectrumDisplay",
    "StagesDisplay",
]
