"""The map θ ↦ x(θ) and its geometry: §2 and appendix A of the paper.

Families of functions, output maps, costs, and functions of the Gram G = DDᵀ by several back ends.
The room needs torch and scipy, and nothing else of this package. Notation: docs/notation.md.
"""

from sklearn_gflow.geometry.cost import Cost, Loss, RowCost, SquaredError
from sklearn_gflow.geometry.functions import (
    PSEUDOINVERSE,
    FactorizationError,
    GramFunction,
    Spectrum,
)
from sklearn_gflow.geometry.ladder import enough_damping
from sklearn_gflow.geometry.layered import ACTIVATIONS, LayeredNetwork
from sklearn_gflow.geometry.losses import (
    BinaryLogLoss,
    CrossEntropy,
    Gamma,
    Huber,
    LogLoss,
    Poisson,
    Quantile,
    SquaredLoss,
)
from sklearn_gflow.geometry.maps import DifferentiableMap, Family, Linearization, TangentMap
from sklearn_gflow.geometry.members import MeanFamily
from sklearn_gflow.geometry.module import ModuleFamily
from sklearn_gflow.geometry.output_map import OutputMap, Tangent
from sklearn_gflow.geometry.ranks import DividedMap, Ranks, RanksError, ShardedCost, ShardedMap
from sklearn_gflow.geometry.sharded import Sharded, Shares
from sklearn_gflow.geometry.single import (
    factorize_in_single,
    in_single,
    resolved_in_single,
)
from sklearn_gflow.geometry.solvers import (
    SOLVERS,
    Request,
    Shape,
    Solver,
    TangentFactor,
    factorize,
    solver_for,
)
from sklearn_gflow.geometry.solvers.combined import CombinedSolver, joined_ways
from sklearn_gflow.geometry.spectrum import gram_eigenvectors, gram_spectrum, tangent_spectrum

__all__ = [
    "ACTIVATIONS",
    "PSEUDOINVERSE",
    "SOLVERS",
    "BinaryLogLoss",
    "CombinedSolver",
    "Cost",
    "CrossEntropy",
    "DifferentiableMap",
    "DividedMap",
    "FactorizationError",
    "Family",
    "Gamma",
    "GramFunction",
    "Huber",
    "LayeredNetwork",
    "Linearization",
    "LogLoss",
    "Loss",
    "MeanFamily",
    "ModuleFamily",
    "OutputMap",
    "Poisson",
    "Quantile",
    "Ranks",
    "RanksError",
    "Request",
    "RowCost",
    "Shape",
    "Sharded",
    "ShardedCost",
    "ShardedMap",
    "Shares",
    "Solver",
    "Spectrum",
    "SquaredError",
    "SquaredLoss",
    "Tangent",
    "TangentFactor",
    "TangentMap",
    "enough_damping",
    "factorize",
    "factorize_in_single",
    "gram_eigenvectors",
    "gram_spectrum",
    "in_single",
    "joined_ways",
    "resolved_in_single",
    "solver_for",
    "tangent_spectrum",
]
