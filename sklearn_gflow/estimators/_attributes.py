"""What the docstrings say of every fitted attribute, once: ``{name: (type, text)}`` in groups.

A class names its groups in `described`. What differs between regressors, classifiers and searches
is told in one text for all. Notation: docs/notation.md.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CALIBRATION",
    "CLASSES",
    "IMPORTANCE",
    "INPUTS",
    "KERNEL",
    "LABELS",
    "LAYERS",
    "PATH",
    "SEARCH",
    "START",
    "TARGETS",
]

Group = dict[str, tuple[str, str]]

PATH: Final[Group] = {
    "history_": (
        "dict of ndarray of shape (n_iter_ + 1,)",
        """
        "t", "s" (time), "loss", "rank", "condition" (of the Gram there), "step_error"
        (distance from the frozen-D flow), "deviation" from the straight line and
        "predicted_deviation" (Prop. 2.5, ``alpha=1``), all relative to |y − x₀|, and "ntk_drift"
        (|G − G₀|/|G₀|, estimated by random probes), and "sensitivity" (the share of the way of θ
        that rounding moves, estimated by `diagnostics.Sensitivity`); of a classifier also
        "within_class" and "between_class", the parts of the loss (3.11). Index 0 is the start; NaN
        where a mode does not compute it. Rank and condition at the solution are those of the
        unweighted Gram; before, with Cholesky, the condition is an estimate from below, with
        ``damping`` it is that of the Gram and its ridge and the rank is NaN, and in blocks they
        are those of ``kernel_rows_``. With ``early_stopping=True`` also "validation_score" and
        "validation_loss"; the path then goes on past the solution. With ``warm_start``, and after
        ``partial_fit``, it is the record of all fits, of each up to its solution.
        """,
    ),
    "validation_scores_": (
        "ndarray of shape (n_iter_ + 1,)",
        "With ``early_stopping=True``: score on the held-out rows at every point of the path.",
    ),
    "best_validation_score_": (
        "float",
        "With ``early_stopping=True``: score on the held-out rows at the solution.",
    ),
    "loo_times_": (
        "ndarray of shape (n_times,)",
        'With ``early_stopping="loo"``: times t that were tried, 0 the first.',
    ),
    "loo_scores_": (
        "ndarray of shape (n_times,)",
        'With ``early_stopping="loo"``: score of the leave-one-out predictions at these times.',
    ),
    "loo_losses_": (
        "ndarray of shape (n_times,)",
        'With ``early_stopping="loo"``: C of the leave-one-out predictions at these times.',
    ),
    "deviation_": (
        "float",
        "|x̃(t) − line(t)|/|y − x₀| at the solution, measured.",
    ),
    "predicted_deviation_": (
        "float",
        "The same by Prop. 2.5.",
    ),
    "loss_curve_": (
        "list of float",
        """
        C (2.48), of a regressor on the scaled targets, from the start on. In blocks without a given
        end it is that of 2,000 random training rows, since rows held out decide there.
        """,
    ),
    "loss_": ("float", "C at the solution."),
    "best_loss_": ("float", "The least C of the path."),
    "t_": ("float", "Time of the solution."),
    "outcome_": ("str", "Why the flow stopped."),
}

KERNEL: Final[Group] = {
    "solver_": ("str", "Back ends used, fallbacks included."),
    "kernel_rows_": (
        "ndarray of int",
        """
        Training rows of positive weight to which ``ntk_gram_``, its eigenvalues, rank and
        condition belong: all, or a random subsample of at most 128 outputs in blocks, and with
        ``solver="krylov"`` where the Gram of all has more than 64 MiB.
        """,
    ),
    "ntk_gram_": (
        "ndarray of shape (n·Q, n·Q) or None",
        """
        G = DDᵀ at the solution on the training rows of positive weight, without the weights,
        sample-major. None when not stored, and after unpickling, but for ``store_gram=True``.
        """,
    ),
    "ntk_eigenvalues_": ("ndarray of shape (n·Q,)", "Of G, descending."),
    "ntk_rank_": ("int", "Rank of G."),
    "ntk_condition_": (
        "float",
        "λ_max/λ_min over the eigenvalues that count towards the rank.",
    ),
}

LAYERS: Final[Group] = {
    "coefs_": (
        "list of ndarray",
        """
        Weights of the network f_θ, one array a layer; predictions use f_θ − f_θ₀. Not with
        ``module``.
        """,
    ),
    "intercepts_": (
        "list of ndarray",
        "Biases of the network f_θ, one array a layer. Not with ``module``.",
    ),
    "coefs_init_": (
        "list of ndarray",
        """
        Weights at the start θ₀, one array a layer: with ``intercepts_init_`` those of the network
        f_θ₀ that predictions subtract. Not with ``module``.
        """,
    ),
    "intercepts_init_": (
        "list of ndarray",
        "Biases at the start θ₀, one array a layer. Not with ``module``.",
    ),
    "parameters_": ("dict of ndarray", "Parameters by name; only with ``module``."),
    "parameters_init_": ("dict of ndarray", "The same at the start; only with ``module``."),
    "n_layers_": ("int", "Layers, inputs and outputs included. Not with ``module``."),
    "n_outputs_": (
        "int",
        "Outputs of the network; one for two classes.",
    ),
    "n_members_": ("int", "Of how many networks the model is the mean; see ``n_members``."),
}

IMPORTANCE: Final[Group] = {
    "feature_importances_": (
        "ndarray of shape (n_features_in_,)",
        """
        Share of each column of X in Σⱼ ⟨(∂f/∂xⱼ)²⟩ var(xⱼ), f being the model f_θ − f_θ₀, the sum
        over the columns that the network sees and the mean over at most 256 training rows. Columns
        that the encoding made of one count for that one; NaN where the names of its columns do not
        tell that one.
        """,
    ),
}

INPUTS: Final[Group] = {
    "n_iter_": (
        "int",
        """
        Points of the path after the start: accepted steps, and with ``early_stopping=True``
        further points on their way, also past the solution. Of a search: in the fit of the best
        pair.
        """,
    ),
    "rescalings_": (
        "int",
        "How often columns were stretched before the flow; of a search, of the best candidate.",
    ),
    "n_features_in_": ("int", "Features."),
    "feature_names_in_": (
        "ndarray of shape (n_features_in_,)",
        "Column names, where X had them.",
    ),
    "forgotten_": (
        "dict",
        """
        After `forget`: "n_rows", how many training rows were forgotten; "distance", the estimated
        distance |θ − θ'|/|θ − θ₀| to the θ' of a fit without them, which rounding makes;
        "old_columns" and "old_table", whether encodings, or what `TableEncoder` learnt (medians in
        gaps, levels, target means), are still those of all rows.
        """,
    ),
}

TARGETS: Final[Group] = {
    "target_mean_": (
        "ndarray of shape (n_outputs_,)",
        """
        Centre of y: its mean, or with another loss its median, quantile, or zero where the link
        is a logarithm. The prediction is ``target_mean_ + target_scale_ * h(initial_output_ + f_θ
        − f_θ₀)``, h being the inverse of the link: the identity, or the exponential function.
        """,
    ),
    "target_scale_": (
        "ndarray of shape (n_outputs_,)",
        """
        Unit of y: its standard deviation, or 1 where y is constant. "huber": the robust one by
        the median deviation; "poisson" and "gamma": the mean; "quantile": 1/density of y there.
        """,
    ),
    "X_train_": (
        "ndarray of shape (n, n_features_in_)",
        """
        Inputs that ``predict(X, return_std=True)`` stands on: of all rows of positive weight
        where one Gram holds them (up to 2,000 outputs, or the full batch of a larger network),
        else of a random subsample of at most 256 rows.
        """,
    ),
    "y_train_": (
        "ndarray of shape (n, n_outputs_)",
        "Scaled targets of the rows of ``X_train_``.",
    ),
}

START: Final[Group] = {
    "initial_output_": (
        "ndarray of shape (n_outputs_,)",
        """
        Output of the model before training, the constant of least cost: zero with the squared
        error of a regressor; class frequencies, or their logarithms, of two classes the logit.
        """,
    ),
}

LABELS: Final[Group] = {
    "classes_": (
        "ndarray of shape (n_classes,)",
        "Labels in sorted order; where rows have several, the numbers of the columns of y.",
    ),
}

CLASSES: Final[Group] = {
    "loss_name_": ("str", "The loss that was trained on, by its name."),
    "collapse_": (
        "Collapse or None",
        """
        Class means, labels, and the loss as within + between classes (3.9)–(3.11), at the
        solution. With "log_loss" it is the squared error of the probabilities that is split.
        None where rows have several labels.
        """,
    ),
    "neural_collapse_": (
        "dict of NeuralCollapse",
        'NC1–NC4 of the "outputs" and, for layered networks, of the last "hidden" layer.',
    ),
    "limit_distance_": (
        "float",
        """
        |x − x*|/|x* − x₀| at the solution: with "log_loss" and label smoothing the distance from
        the limit of the adapted flow, with "squared_error" from the labels. NaN where there
        is no limit.
        """,
    ),
}

CALIBRATION: Final[Group] = {
    "temperature_": (
        "float",
        """
        T of the probabilities softmax(x/T) of outputs x, of least log-loss on the rows held out;
        where rows have several labels, one for all of these.
        """,
    ),
}

SEARCH: Final[Group] = {
    "encoding_": ("str, transformer or None", "Encoding of the best candidate."),
    "init_scale_": ("float", "Scale of its first layer at the start."),
    "alpha_": ("float", "Its α."),
    "activation_": ("str", "Its activation."),
    "t_end_": (
        "float or str",
        """
        Its stopping time; between equal scores that of the lower loss. "auto" where rows that it
        kept apart ended it.
        """,
    ),
    "best_score_": (
        "float",
        """
        Its score on rows held out: with ``cv=None`` of all of them together, else the mean over
        the folds.
        """,
    ),
    "best_params_": (
        "dict",
        "What the best candidate has, and its stopping time, as parameters of an estimator.",
    ),
    "best_index_": ("int", "Its row in ``cv_results_``."),
    "best_estimator_": (
        "estimator",
        "The estimator without the search, fitted on all rows as the best candidate.",
    ),
    "estimators_": (
        "list of estimators",
        "All members of the ensemble, fitted on all rows, ``best_estimator_`` the first.",
    ),
    "ensemble_weights_": ("ndarray of shape (n_members,)", "Their weights, with the sum 1."),
    "cv_results_": (
        "dict",
        """
        As in `sklearn.model_selection.GridSearchCV`, a row for each candidate and time: "params",
        "param_encoding", "param_init_scale", "param_rescalings", "param_alpha", "param_t_end",
        "mean_test_score", "rank_test_score", with a splitter "split0_test_score", … and
        "std_test_score"; also "mean_test_loss", C of the predictions of rows held out, and with
        ``cv=None`` "loo_loss", C of the leave-one-out predictions by the kernel of the start.
        With ``return_train_score`` also "split0_train_score", …, "mean_train_score" and
        "std_train_score". Scores of candidates that were not followed are NaN. Over blocks without
        a given end also "param_activation" and "n_iter", the epochs of each; "param_t_end" is
        "auto" there, and "loo_loss" is missing.
        """,
    ),
}
