"""What is read off a flow. Arrays or a trajectory in, small frozen records out."""

from sklearn_gflow.diagnostics.collapse import Collapse, collapse

__all__ = ["Collapse", "collapse"]
