"""What is read off a flow. Arrays or a trajectory in, small frozen records out.

What needs every step of a flow is a callback that returns columns. Notation: docs/notation.md.
"""

from sklearn_gflow.diagnostics.alignment import KernelAlignment, KernelShape, kernel_shape
from sklearn_gflow.diagnostics.collapse import Collapse, NeuralCollapse, collapse, neural_collapse
from sklearn_gflow.diagnostics.critical import CriticalSet, RankAt, critical_set, rank_by_shape
from sklearn_gflow.diagnostics.deviation import Deviation, unreachable_loss
from sklearn_gflow.diagnostics.fibres import Fibre, FibreDrift
from sklearn_gflow.diagnostics.generalization import (
    GeneralizationBound,
    generalization_bound,
    lipschitz_bound,
)
from sklearn_gflow.diagnostics.influence import LeftOutAlong, contributions, mean_kernel
from sklearn_gflow.diagnostics.kernel import (
    Definiteness,
    KernelDrift,
    adapted_kernel,
    kernel_blocks,
    kernel_drift,
    positive_definite,
)
from sklearn_gflow.diagnostics.leave_one_out import LeaveOneOut
from sklearn_gflow.diagnostics.posterior import OutputPosterior, TangentPosterior
from sklearn_gflow.diagnostics.sensitivity import Sensitivity
from sklearn_gflow.diagnostics.stopping import StoppingTime, stopping_time

__all__ = [
    "Collapse",
    "CriticalSet",
    "Definiteness",
    "Deviation",
    "Fibre",
    "FibreDrift",
    "GeneralizationBound",
    "KernelAlignment",
    "KernelDrift",
    "KernelShape",
    "LeaveOneOut",
    "LeftOutAlong",
    "NeuralCollapse",
    "OutputPosterior",
    "RankAt",
    "Sensitivity",
    "StoppingTime",
    "TangentPosterior",
    "adapted_kernel",
    "collapse",
    "contributions",
    "critical_set",
    "generalization_bound",
    "kernel_blocks",
    "kernel_drift",
    "kernel_shape",
    "lipschitz_bound",
    "mean_kernel",
    "neural_collapse",
    "positive_definite",
    "rank_by_shape",
    "stopping_time",
    "unreachable_loss",
]
