"""Why a flow stopped, as a reason with a sentence that a user can be shown.

Flows return a failure as an outcome and do not raise it. The estimators alone turn some outcomes
into errors or warnings.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Outcome"]


class Outcome(Enum):
    """Why a flow stopped."""

    REACHED_END = "reached t_end"
    CONVERGED = "the relative residual fell to tol"
    EQUILIBRIUM = "equilibrium: what is left of the residual is outside the range of D"
    STALLED = "the loss stopped improving"
    LEFT_RANGE = "the path left the range of D"
    MAX_ITER = "max_iter steps were taken before t_end"
    STEP_UNDERFLOW = "no step, however short, met the step tolerance"
    DIVERGED = "outputs or loss became non-finite"
    FACTORIZATION_FAILED = "the Gram could not be factorised"
    EARLY_STOPPED = "the score stopped improving"
    LOSS_REACHED = "the loss fell to the bound that was set"
    NOTHING_GAINED = "rows held out gained nothing more"
    OUT_OF_EPOCHS = "the epochs were used up while rows held out still gained"
    REJECTED = "a callback rejected the step"
    STOPPED = "a callback ended the flow"

    @property
    def complete(self) -> bool:
        """Whether the flow came to an end that was asked for, or to an equilibrium."""
        return self in (
            Outcome.REACHED_END, Outcome.CONVERGED, Outcome.EQUILIBRIUM, Outcome.EARLY_STOPPED,
            Outcome.LOSS_REACHED, Outcome.NOTHING_GAINED, Outcome.OUT_OF_EPOCHS, Outcome.STOPPED,
        )  # fmt: skip
