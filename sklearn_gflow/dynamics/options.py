"""Constants of a flow, and the unit c in which eigenvalues of the Gram are measured.

They are shared by the flows in the full batch, over blocks and by scipy. Notation:
docs/notation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn_gflow.geometry import Shape, Solver, TangentMap, solver_for

__all__ = ["FlowOptions", "mean_diagonal", "metric_scale"]


@dataclass(frozen=True)
class FlowOptions:
    """Constants of a flow.

    Parameters
    ----------
    alpha : float
        α of (2.32): 0 the standard flow, 1 the adapted one.
    solver : str or Solver
        See `factorize`.
    rcond : float or None
        See `relative_threshold`.
    damping : float
        Ridge added to G, relative to the mean of its diagonal.
    metric_scale : float or None
        c, the unit in which the eigenvalues of G are measured: the flow is
        θ' = −N(α(DᵀD)⁺ + (1−α)/c)∇C in τ. None: the mean of the diagonal of G at the start,
        tr(G₀)/QN. 1.0: the field of the paper.
    tol : float
        The flow has converged at |r| ≤ tol·|r₀|, and is in equilibrium at |P r| ≤ tol·|r₀|.
    max_iter : int
        Bound on the number of accepted steps.
    n_iter_no_change : int
        This many steps in a row that bring |r|/|r₀| down by less than ``tol`` end the flow.
    store_path : bool
        Keep θ of every point.
    """

    alpha: float = 1.0
    solver: str | Solver = "auto"
    rcond: float | None = None
    damping: float = 0.0
    metric_scale: float | None = None
    tol: float = 1e-10
    max_iter: int = 500
    n_iter_no_change: int = 10
    store_path: bool = False

    def forms(self, tangent: TangentMap) -> str:
        """Which matrix the solver forms at a point, see `Solver.forms`."""
        return solver_for(self.solver, tangent.n_outputs).forms(Shape.of(tangent))

    def ridge(self, tangent: TangentMap) -> float:
        """The ridge of a block, absolute."""
        if not self.damping:
            return 0.0
        forms = self.forms(tangent)
        if forms == "G":  # which the factor asks for anyway, and whose diagonal is then at hand
            tangent.hold_gram()
        return self.damping * mean_diagonal(tangent, shared=forms == "K̄")


def metric_scale(start: TangentMap, options: FlowOptions) -> float:
    """c of the flow from a start: the option, or tr(G₀)/QN."""
    return mean_diagonal(start) if options.metric_scale is None else options.metric_scale


def mean_diagonal(tangent: TangentMap, *, shared: bool = False) -> float:
    """tr(G)/QN, with N the sum of the weights: copies of a row count as its weight does.

    Of a network that ignores its parameters (G = 0) it is 1; of one whose derivatives are not
    finite it is not finite either. ``shared`` reads it off K̄, for which no output is
    differentiated alone: tr(G)/Q = tr(K̄).
    """
    if shared:
        trace = float(tangent.shared_gram.trace())
    else:
        trace = tangent.trace() / tangent.n_outputs
    return 1.0 if trace == 0 else trace / tangent.total_weight
