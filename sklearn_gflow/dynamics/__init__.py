"""The flows over the geometry: §2.1, §2.2 and §3.1 of the paper.

`flow` is the exponential flow in the full batch, `block_flow` goes over blocks of rows, and
`reference_flow` uses integrators of scipy. All three take any cost and any output map, and call the
same callbacks. Notation: docs/notation.md.
"""

from sklearn_gflow.dynamics.blocks import block_flow
from sklearn_gflow.dynamics.callbacks import Callback, Callbacks, Event
from sklearn_gflow.dynamics.dual import DualStep, dual_steps
from sklearn_gflow.dynamics.epochs import (
    Epoch,
    decaying_epochs,
    open_epochs,
    share_of,
    timed_epochs,
)
from sklearn_gflow.dynamics.fast import Fast
from sklearn_gflow.dynamics.fields import Metric, family_function, output_field, parameter_field
from sklearn_gflow.dynamics.fisher import FisherCost, FisherMap, FisherTangent, fisher
from sklearn_gflow.dynamics.flow import flow
from sklearn_gflow.dynamics.frozen import FrozenFlow, exponential, needs_eigenvectors
from sklearn_gflow.dynamics.options import FlowOptions, mean_diagonal, metric_scale
from sklearn_gflow.dynamics.outcome import Outcome
from sklearn_gflow.dynamics.paths import Steering, follow_path, linear_path, sampled_path
from sklearn_gflow.dynamics.point import Origin, Point
from sklearn_gflow.dynamics.reference import METHODS, reference_flow
from sklearn_gflow.dynamics.rows import BlockOptions, RowSource, Runs
from sklearn_gflow.dynamics.schedule import Adaptive, Fixed, Schedule, equal_steps
from sklearn_gflow.dynamics.state import Keeper, Resumable, State
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.dynamics.stopping import BestPoint, LossReached, WhileGaining, WhileMeanGains
from sklearn_gflow.dynamics.time import s_from_tau, t_from_tau, tau_from_t
from sklearn_gflow.dynamics.trajectory import Carried, Trajectory
from sklearn_gflow.dynamics.walks import Walk

__all__ = [
    "METHODS",
    "Adaptive",
    "BestPoint",
    "BlockOptions",
    "Callback",
    "Callbacks",
    "Carried",
    "DualStep",
    "Epoch",
    "Event",
    "Fast",
    "FisherCost",
    "FisherMap",
    "FisherTangent",
    "Fixed",
    "FlowOptions",
    "FrozenFlow",
    "Keeper",
    "LossReached",
    "Metric",
    "Origin",
    "Outcome",
    "Point",
    "Resumable",
    "RowSource",
    "Runs",
    "Schedule",
    "State",
    "Steering",
    "Step",
    "Stepper",
    "Trajectory",
    "Walk",
    "WhileGaining",
    "WhileMeanGains",
    "block_flow",
    "decaying_epochs",
    "dual_steps",
    "equal_steps",
    "exponential",
    "family_function",
    "fisher",
    "flow",
    "follow_path",
    "linear_path",
    "mean_diagonal",
    "metric_scale",
    "needs_eigenvectors",
    "open_epochs",
    "output_field",
    "parameter_field",
    "reference_flow",
    "s_from_tau",
    "sampled_path",
    "share_of",
    "t_from_tau",
    "tau_from_t",
    "timed_epochs",
]
