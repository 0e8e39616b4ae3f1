"""Transformations that optax does not have, as code for the target's program.

Each keeps its state in a NamedTuple of optax where one has the fields. Formulas: torch/optim/*.py
(2.13), keras/src/optimizers/*.py (3.15).
"""

from __future__ import annotations

ADAM = '''\
def scale_by_adam_hat(b1, b2, eps):
    """Adam as Keras computes it: epsilon beside the root of the uncorrected second moment."""

    def update(updates, state, params=None):
        count = state.count + 1
        c1, c2 = 1 - b1 ** jnp.asarray(count, float), 1 - b2 ** jnp.asarray(count, float)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        new = jax.tree.map(lambda m, v: m * jnp.sqrt(c2) / c1 / (jnp.sqrt(v) + eps), mu, nu)
        return new, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)
'''
AMSGRAD = '''\
def scale_by_amsgrad_uncorrected(b1, b2, eps, hat=False):
    """AMSGrad as PyTorch (hat=False) and Keras (hat=True) compute it: the maximum is taken before
    the bias correction."""

    def update(updates, state, params=None):
        count = state.count + 1
        c1, c2 = 1 - b1 ** jnp.asarray(count, float), 1 - b2 ** jnp.asarray(count, float)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        top = jax.tree.map(jnp.maximum, state.nu_max, nu)
        beside = eps if hat else eps * jnp.sqrt(c2)
        new = jax.tree.map(lambda m, v: m * jnp.sqrt(c2) / c1 / (jnp.sqrt(v) + beside), mu, top)
        return new, state._replace(count=count, mu=mu, nu=nu, nu_max=top)

    return optax.GradientTransformation(optax.scale_by_amsgrad().init, update)
'''
ADAMAX = '''\
def scale_by_adamax_outside(b1, b2, eps):
    """Adamax as Keras computes it: epsilon is added to the norm."""

    def update(updates, state, params=None):
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda u, g: jnp.maximum(b2 * u, jnp.abs(g)), state.nu, updates)
        c1 = 1 - b1 ** jnp.asarray(count, float)
        new = jax.tree.map(lambda m, u: m / c1 / (u + eps), mu, nu)
        return new, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adamax().init, update)
'''
NADAM = '''\
class NadamState(NamedTuple):
    count: jax.Array
    mu: optax.Updates
    mu_product: jax.Array
    nu: optax.Updates


def scale_by_nadam_scheduled(b1, b2, eps, momentum_decay):
    """NAdam with the momentum schedule of PyTorch and Keras (Dozat 2016)."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return NadamState(jnp.zeros((), jnp.int32), zeros, jnp.ones((), float), zeros)

    def update(updates, state, params=None):
        count = state.count + 1
        t = jnp.asarray(count, float)
        now = b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        following = b1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        product = state.mu_product * now
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)

        def step(g, m, v):
            mean = (1 - now) / (1 - product) * g + following / (1 - product * following) * m
            return mean / (jnp.sqrt(v / (1 - b2**t)) + eps)

        return jax.tree.map(step, updates, mu, nu), NadamState(count, mu, product, nu)

    return optax.GradientTransformation(init, update)
'''
RADAM = '''\
def scale_by_radam_hat(b1, b2, eps):
    """RAdam as PyTorch computes it: epsilon beside the uncorrected root, rectified from rho > 5."""
    longest = 2 / (1 - b2) - 1

    def update(updates, state, params=None):
        count = state.count + 1
        t = jnp.asarray(count, float)
        c1, c2 = 1 - b1**t, 1 - b2**t
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        rho = longest - 2 * t * b2**t / c2
        top = (rho - 4) * (rho - 2) * longest
        rect = jnp.sqrt(jnp.maximum(top, 0) / ((longest - 4) * (longest - 2) * rho))

        def step(m, v):
            rectified = rect * jnp.sqrt(c2) / (jnp.sqrt(v) + eps)
            return m / c1 * jnp.where(rho > 5, rectified, 1.0)

        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_radam().init, update)
'''
ADAGRAD = '''\
def scale_by_rss_outside(eps):
    """Adagrad as PyTorch computes it: epsilon beside the root of the sum."""

    def update(updates, state, params=None):
        total = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        new = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, total)
        return new, state._replace(sum_of_squares=total)

    return optax.GradientTransformation(optax.scale_by_rss().init, update)
'''
RPROP = '''\
class RpropState(NamedTuple):
    prev_updates: optax.Updates
    step_sizes: optax.Updates


def scale_by_rprop_signs(eta_minus, eta_plus, step_min, step_max):
    """Rprop as PyTorch computes it: `prev_updates` are the last gradients, by their sign."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RpropState(zeros, zeros)

    def update(updates, state, params=None):
        def sized(g, p, s):
            factor = jnp.where(g * p > 0, eta_plus, jnp.where(g * p < 0, eta_minus, 1.0))
            return jnp.clip(s * factor, step_min, step_max)

        sizes = jax.tree.map(sized, updates, state.prev_updates, state.step_sizes)
        kept = jax.tree.map(lambda g, p: jnp.where(g * p < 0, 0, g), updates, state.prev_updates)
        new = jax.tree.map(lambda g, s: jnp.sign(g) * s, kept, sizes)
        return new, RpropState(kept, sizes)

    return optax.GradientTransformation(init, update)
'''
RESTORE = '''\
def as_saved(like, found):
    """The values of `found`, where NamedTuples are dicts and tuples are lists, in `like`."""
    if hasattr(like, "_fields"):
        return type(like)(*[as_saved(getattr(like, f), found[f]) for f in like._fields])
    if isinstance(like, dict):
        return {key: as_saved(item, found[key]) for key, item in like.items()}
    if isinstance(like, tuple | list):
        parts = [found[str(i)] for i in range(len(like))] if isinstance(found, dict) else found
        return type(like)(as_saved(a, b) for a, b in zip(like, parts, strict=True))
    return jnp.asarray(found, like.dtype)
'''
