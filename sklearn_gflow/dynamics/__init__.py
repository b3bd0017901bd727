"""The flows over the geometry: §2.1, §2.2 and §3.1 of the paper."""

from sklearn_gflow.dynamics.blocks import (
    BlockOptions,
    Epoch,
    EpochObserver,
    RowSource,
    block_flow,
    decaying_epochs,
    timed_epochs,
)
from sklearn_gflow.dynamics.fields import Metric, family_function, output_field, parameter_field
from sklearn_gflow.dynamics.flow import (
    FlowOptions,
    Monitor,
    Observer,
    flow,
    mean_diagonal,
    metric_scale,
)
from sklearn_gflow.dynamics.frozen import exponential
from sklearn_gflow.dynamics.monitor import BestPoint, LossReached
from sklearn_gflow.dynamics.paths import Steering, follow_path, linear_path, sampled_path
from sklearn_gflow.dynamics.point import Point
from sklearn_gflow.dynamics.reference import METHODS, Companion, reference_flow
from sklearn_gflow.dynamics.schedule import Adaptive, Fixed, Schedule, equal_steps
from sklearn_gflow.dynamics.step import Step, Stepper
from sklearn_gflow.dynamics.time import s_from_tau, t_from_tau, tau_from_t
from sklearn_gflow.dynamics.trajectory import Outcome, Trajectory

__all__ = [
    "METHODS",
    "Adaptive",
    "BestPoint",
    "BlockOptions",
    "Companion",
    "Epoch",
    "EpochObserver",
    "Fixed",
    "FlowOptions",
    "LossReached",
    "Metric",
    "Monitor",
    "Observer",
    "Outcome",
    "Point",
    "RowSource",
    "Schedule",
    "Steering",
    "Step",
    "Stepper",
    "Trajectory",
    "block_flow",
    "decaying_epochs",
    "equal_steps",
    "exponential",
    "family_function",
    "flow",
    "follow_path",
    "linear_path",
    "mean_diagonal",
    "metric_scale",
    "output_field",
    "parameter_field",
    "reference_flow",
    "s_from_tau",
    "sampled_path",
    "t_from_tau",
    "tau_from_t",
    "timed_epochs",
]
