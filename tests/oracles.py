"""Dense oracles: slow, obvious, and independent of the package (nothing of it is imported)."""

import itertools
import math

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.optimize
import torch

ACTIVATIONS = {
    "tanh": torch.tanh,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "softplus": torch.nn.functional.softplus,
    "relu": torch.relu,
    "identity": lambda z: z,
}


# -- networks ---------------------------------------------------------------------------------


def parameter_count(sizes):
    return sum(n_in * n_out + n_out for n_in, n_out in itertools.pairwise(sizes))


def split(theta, sizes):
    """θ as (W, b) a layer: W of shape (n_in, n_out) in row order, then b."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        W, b = theta[: n_in * n_out], theta[n_in * n_out : (n_in + 1) * n_out]
        layers.append((W.reshape(n_in, n_out), b))
        theta = theta[(n_in + 1) * n_out :]
    return layers


def forward(theta, X, sizes, activation):
    """f_θ(X), shape (n_samples, n_outputs)."""
    layers = split(theta, sizes)
    a = X
    for W, b in layers[:-1]:
        a = ACTIVATIONS[activation](a @ W + b)
    W, b = layers[-1]
    return a @ W + b


def jacobian(theta, X, sizes, activation):
    """D of shape (n·Q, K), sample-major, by torch.func."""
    D = torch.func.jacrev(lambda p: forward(p, X, sizes, activation))(theta)
    return D.reshape(-1, len(theta))


def problem(n_samples, sizes, *, seed=0, bias=0.5, dtype=torch.float64):
    """θ and X with normal entries."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n_in, n_out in itertools.pairwise(sizes):
        parts.append(torch.randn(n_in * n_out, generator=generator, dtype=dtype) / n_in**0.5)
        parts.append(bias * torch.randn(n_out, generator=generator, dtype=dtype))
    X = torch.randn(n_samples, sizes[0], generator=generator, dtype=dtype)
    return torch.cat(parts), X


# -- linear algebra ---------------------------------------------------------------------------


def thin_svd(D, rtol=None):
    """U, σ, Vᵀ of the singular values above rtol·σ_max, float64 numpy."""
    D = np.asarray(D, dtype=np.float64)
    U, sigma, Vh = scipy.linalg.svd(D, full_matrices=False, lapack_driver="gesvd")
    if rtol is None:
        rtol = max(D.shape) * np.finfo(np.float64).eps
    keep = sigma > rtol * sigma[0] if sigma[0] > 0 else np.zeros(len(sigma), dtype=bool)
    return U[:, keep], sigma[keep], Vh[keep]


def lift(D, f, r, rtol=None):
    """Dᵀ f(DDᵀ) r, f zero on the kernel."""
    U, sigma, Vh = thin_svd(D, rtol)
    return Vh.T @ (sigma * f(sigma**2) * (U.T @ np.asarray(r, dtype=np.float64)))


def pinv_solve(D, r, rtol=None):
    """D⁺r."""
    return lift(D, lambda lam: 1 / lam, r, rtol)


def project(D, r, rtol=None):
    """P r = DD⁺r."""
    U, _, _ = thin_svd(D, rtol)
    return U @ (U.T @ np.asarray(r, dtype=np.float64))


def frozen_flow(D, r, h, alpha, c, ridge=0.0):
    """(Δθ, Δx) of θ' = (α(DᵀD)⁺ + (1−α)/c) Dᵀ(r − D(θ − θ₀)) over a time h, by one matrix
    exponential of the system augmented by a constant; D is frozen. With a ridge μ,
    (DᵀD + μ)⁻¹ stands for (DᵀD)⁺.
    """
    D, r = np.asarray(D, dtype=np.float64), np.asarray(r, dtype=np.float64)
    K = D.shape[1]
    inverse = np.linalg.pinv(D)
    if ridge:
        inverse = np.linalg.solve(D.T @ D + ridge * np.eye(K), D.T)
    B = alpha * inverse + (1 - alpha) / c * D.T
    A = np.zeros((K + 1, K + 1))
    A[:K, :K] = -B @ D
    A[:K, K] = B @ r
    delta = scipy.linalg.expm(h * A)[:K, K]
    return delta, D @ delta


def reference_flow(theta, X, sizes, activation, y, *, alpha, c, tau_end, weights=None):
    """θ(τ) of θ' = (α(DᵀD)⁺ + (1−α)/c) Dᵀ W(y − x), x = f_θ − f_θ₀, by DOP853 with a dense D."""
    K, Q = len(theta), sizes[-1]
    root = np.repeat(np.ones(len(X)) if weights is None else weights.sqrt().numpy(), Q)
    start = forward(theta, X, sizes, activation).numpy().reshape(-1)
    y = np.asarray(y, dtype=np.float64).reshape(-1)

    def rate(_, p):
        p = torch.from_numpy(p.copy())
        x = forward(p, X, sizes, activation).numpy().reshape(-1) - start
        D = root[:, None] * jacobian(p, X, sizes, activation).numpy()
        r = root * (y - x)
        adapted = np.linalg.pinv(D, rcond=1e-9) @ r if alpha else np.zeros(K)
        return alpha * adapted + (1 - alpha) / c * (D.T @ r)

    path = scipy.integrate.solve_ivp(
        rate, (0, tau_end), theta.numpy(), method="DOP853", rtol=1e-8, atol=1e-9
    )
    return torch.from_numpy(path.y[:, -1])


def left_out_residuals(D, y, weights, *, alpha, tau, c, ridge=0.0, estimated_mean=True):
    """y − x at each row, shape (n, Q), of the flow with this D on all other rows, one refit a row.

    D has the shape (n, Q, K) and no weights in it. Each refit integrates
    θ' = (α D_w⁺ + (1−α)/c D_wᵀ) r_w over τ exactly, in the SVD of the D_w of its own rows;
    with a ridge μ, (D_wᵀD_w + μ)⁻¹D_wᵀ stands for D_w⁺.
    """
    D, y, w = (np.asarray(array, dtype=np.float64) for array in (D, y, weights))
    n, n_outputs, K = D.shape
    residuals = []
    for i in range(n):
        rest = np.arange(n) != i
        mean = (
            np.average(y[rest], axis=0, weights=w[rest]) if estimated_mean else np.zeros(n_outputs)
        )
        root = np.repeat(np.sqrt(w[rest]), n_outputs)
        r = root * (y[rest] - mean).reshape(-1)
        U, sigma, Vh = thin_svd(root[:, None] * D[rest].reshape(-1, K), rtol=1e-10)
        rate = alpha * sigma**2 / (sigma**2 + ridge) + (1 - alpha) * sigma**2 / c
        theta = Vh.T @ (-np.expm1(-tau * rate) / sigma * (U.T @ r))
        residuals.append(y[i] - mean - D[i] @ theta)
    return np.array(residuals)


def damped_flow(kernel, cross, residual, taus, *, alpha, c, ridge):
    """Residuals on rows, and outputs elsewhere, of the flow of a linear model, step after step.

    ``kernel`` is DDᵀ on the rows and ``cross`` that of other samples with them, both with the
    weights of the rows; outputs elsewhere begin at zero.
    """
    lam, V = np.linalg.eigh(kernel)
    m = lam.clip(0) + ridge
    outputs, r, now = 0.0, residual, 0.0
    for tau in taus:
        u = V @ (-np.expm1(-(tau - now) * (alpha + (1 - alpha) * m / c)) / m * (V.T @ r))
        r, outputs, now = r - kernel @ u, outputs + cross @ u, tau
    return r, outputs


def gaussian_process(kernel, y, weights, cross, diagonal, *, amplitude, noise):
    """Mean and variance of new observations: covariance σ_f²Θ, noise of variance σ_n²/w a row."""
    covariance = amplitude * kernel + np.diag(noise / weights)
    k = amplitude * cross
    mean = k.T @ np.linalg.solve(covariance, y)
    explained = (k * np.linalg.solve(covariance, k)).sum(axis=0)
    return mean, amplitude * diagonal - explained + noise


def left_out_density(kernel, y, weights, ratio):
    """Mean log density of each row given the others, and its best σ_f², for σ_n² = ratio·σ_f²."""
    residuals, variances = [], []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        mean, variance = gaussian_process(
            kernel[np.ix_(rest, rest)], y[rest], weights[rest],
            kernel[rest, i, None], kernel[i, i, None], amplitude=1.0, noise=ratio,
        )  # fmt: skip
        residuals.append(y[i] - mean[0])
        variances.append(variance[0])
    e, v = np.array(residuals), np.array(variances)
    amplitude = np.average(e**2 / v, weights=weights)
    densities = -(e**2 / (amplitude * v) + np.log(2 * np.pi * amplitude * v)) / 2
    return np.average(densities, weights=weights), amplitude


def matrix(rows, columns, rank, *, seed=0, condition=100.0):
    """A matrix of the given rank with singular values from 1 down to 1/condition."""
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.standard_normal((rows, rank)))
    V, _ = np.linalg.qr(rng.standard_normal((columns, rank)))
    return torch.from_numpy((U * np.geomspace(1, 1 / condition, rank)) @ V.T)


# -- others -----------------------------------------------------------------------------------


def simplex_projection(p):
    """Nearest point of the simplex to each row of p: Σ max(p − ν, 0) = 1, ν by bisection."""
    projected = []
    for row in np.asarray(p, dtype=np.float64):
        low, high = row.min() - 1, row.max()
        nu = scipy.optimize.brentq(
            lambda v, row=row: np.maximum(row - v, 0).sum() - 1, low, high, xtol=1e-15
        )
        projected.append(np.maximum(row - nu, 0))
    return np.array(projected)


def within_between(outputs, labels, targets, weights):
    """(3.9)–(3.11) with loops."""
    total, within, between, means = weights.sum(), 0.0, 0.0, []
    for j, target in enumerate(targets):
        w, x = weights[labels == j], outputs[labels == j]
        mean = sum(wi * xi for wi, xi in zip(w, x, strict=True)) / w.sum()
        means.append(mean)
        within += sum(wi * ((xi - mean) ** 2).sum() for wi, xi in zip(w, x, strict=True))
        between += w.sum() * ((mean - target) ** 2).sum()
    return np.array(means), within / (2 * total), between / (2 * total)


def observed_order(step_sizes, errors):
    """Slope of log error over log step, by least squares."""
    slope, _ = np.polyfit([math.log(h) for h in step_sizes], [math.log(e) for e in errors], 1)
    return slope


# -- partial derivatives ----------------------------------------------------------------------


def input_derivatives(coefs, intercepts, x):
    """∂f/∂x of a tanh network at one row, (n_outputs, n_features), layer by layer."""
    J, a = np.eye(len(x)), np.asarray(x, dtype=np.float64)
    for W, b in zip(coefs[:-1], intercepts[:-1], strict=True):
        a = np.tanh(a @ W + b)
        J = np.diag(1 - a**2) @ W.T @ J
    return coefs[-1].T @ J


def scaled_slopes(X, clip):
    """Columns scaled by median and quartiles and bent to ±clip, and how steep that is."""
    first, median, third = np.quantile(X, [0.25, 0.5, 0.75], axis=0, method="inverted_cdf")
    s = (third - first) / 1.3489795003921634
    z = (X - median) / s
    root = np.sqrt(1 + (z / clip) ** 2)
    return z / root, 1 / (s * root**3)
