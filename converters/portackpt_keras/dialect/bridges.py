"""Steps that Keras' own classes do not take, as code: `update_step` of a small subclass.

A subclass has the variables of the class it is made from, so that files fit it. Its step is the
source's formula; where no formula is needed it calls the class's own. Checked against the sources
in torch/optim (2.13) and optax (0.2.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.errors import UnsupportedError
from portackpt.optimizers import Algorithm, Epsilon

OWN = "super().update_step(gradient, variable, learning_rate)"
_INDEX = "index = self._get_variable_index(variable)"
_COUNT = "t = ops.cast(self.iterations + 1, variable.dtype)"
_BETA1 = "beta1 = ops.cast(self.beta_1, variable.dtype)"
_BETA2 = "beta2 = ops.cast(self.beta_2, variable.dtype)"
_FIRST = "self.assign_add(m, (gradient - m) * (1 - self.beta_1))"
_SECOND = "self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A step: `told` says in words what is other than in Keras, `step` are the statements of
    `update_step` on `gradient`, `variable` and `learning_rate`; `methods` are further ones. The
    momentum is without the learning rate where it stands `apart`."""

    told: str
    step: tuple[str, ...] = (OWN,)
    methods: tuple[str, ...] = ()
    apart: bool = False


Hyper = Mapping[str, Any]


def bridge(algorithm: Algorithm, hyper: Hyper, rate_moves: bool) -> Bridge | None:
    """The step that goes on as the source does; None where Keras' own class takes it.

    `rate_moves`: the learning rate changes from step to step. Raises `UnsupportedError`.
    """
    build = _BUILDERS.get(algorithm)
    return build(hyper, rate_moves) if build else None


def _slots(*attributes: str) -> tuple[str, ...]:
    letters = {"_momentums": "m", "momentums": "m", "_velocities": "v", "_velocity_hats": "v_hat",
               "_m": "m", "_u": "u", "_average_gradients": "g", "_accumulators": "s"}  # fmt: skip
    return (_INDEX, *[f"{letters[name]} = self.{name}[index]" for name in attributes])


def _cast() -> tuple[str, ...]:
    return (
        "learning_rate = ops.cast(learning_rate, variable.dtype)",
        "gradient = ops.cast(gradient, variable.dtype)",
    )


def _outside(hyper: Hyper) -> bool:
    return bool(hyper.get("eps")) and hyper.get("eps_form") is Epsilon.OUTSIDE


def _sgd(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    if not hyper.get("momentum") or hyper.get("lr_in_momentum") or not rate_moves:
        return None
    share = 1 - (hyper.get("dampening") or 0.0)
    gradient = "gradient" if share == 1 else f"{share!r} * gradient"
    step = "gradient + self.momentum * m" if hyper.get("nesterov") else "m"
    return Bridge(
        "the learning rate is no part of the momentum",
        (*_cast(), *_slots("momentums"), f"self.assign(m, self.momentum * m + {gradient})",
         f"self.assign_sub(variable, learning_rate * ({step}))"),
        apart=True,
    )  # fmt: skip


def _adam(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    inside = hyper.get("eps_inside") or 0.0
    if inside or hyper.get("amsgrad") == "corrected":
        hats = ("_velocity_hats",) if hyper.get("amsgrad") else ()
        largest = {
            None: ("v_hat = v / (1 - beta2**t)",),
            "corrected": ("self.assign(v_hat, ops.maximum(v_hat, v / (1 - beta2**t)))",),
            "uncorrected": ("self.assign(v_hat, ops.maximum(v_hat, v))",
                            "v_hat = v_hat / (1 - beta2**t)"),
        }[hyper.get("amsgrad")]  # fmt: skip
        root = f"ops.sqrt(v_hat + {inside!r})" if inside else "ops.sqrt(v_hat)"
        return Bridge(
            "epsilon and the largest second moment are where optax has them",
            (*_cast(), *_slots("_momentums", "_velocities", *hats), _COUNT, _BETA1, _BETA2, _FIRST,
             _SECOND, *largest, f"step = m / (1 - beta1**t) / ({root} + self.epsilon)",
             "self.assign_sub(variable, learning_rate * step)"),
        )  # fmt: skip
    if not _outside(hyper):
        return None
    return Bridge(
        "epsilon is added to the corrected second moment",
        (_COUNT, _BETA2, "epsilon = self.epsilon",
         "self.epsilon = epsilon * ops.sqrt(1 - beta2**t)", OWN, "self.epsilon = epsilon"),
    )  # fmt: skip


def _adamax(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    if not hyper.get("eps") or hyper.get("eps_form") is not Epsilon.IN_MAX:
        return None
    return Bridge(
        "epsilon is part of the maximum",
        (*_cast(), *_slots("_m", "_u"), _COUNT, _BETA1, _FIRST,
         "self.assign(u, ops.maximum(self.beta_2 * u, ops.abs(gradient) + self.epsilon))",
         "self.assign_sub(variable, learning_rate * m / ((1 - beta1**t) * u))"),
    )  # fmt: skip


def _nadam(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    decay = hyper.get("momentum_decay")
    if decay == 1:
        return None
    momentum = f"self.beta_1 * (1 - 0.5 * 0.96 ** (t * {decay!r}))"
    if decay is None:
        momentum = "self.beta_1 * ops.ones_like(t)"
    return Bridge(
        "the momentum grows as in the source",
        (*_cast(), *_slots("_momentums", "_velocities"), _COUNT, _BETA2,
         "product = ops.cast(self._u_product, variable.dtype)",
         "now, after = self.momentum_at(t), self.momentum_at(t + 1)", _FIRST, _SECOND,
         "step = (1 - now) / (1 - product) * gradient + after / (1 - product * after) * m",
         "root = ops.sqrt(v / (1 - beta2**t)) + self.epsilon",
         "self.assign_sub(variable, learning_rate * step / root)"),
        (f"def momentum_at(self, t):\n    return {momentum}",
         "def _backend_update_step(self, grads, trainable_variables, learning_rate):\n"
         "    t = ops.cast(self.iterations + 1, self._u_product.dtype)\n"
         "    self.assign(self._u_product, self._u_product * self.momentum_at(t))\n"
         "    update = super(keras.optimizers.Nadam, self)._backend_update_step\n"
         "    update(grads, trainable_variables, learning_rate)"),
    )  # fmt: skip


def _radam(hyper: Hyper, rate_moves: bool) -> Bridge:
    threshold = hyper.get("threshold", 5.0)
    sign = ">=" if hyper.get("threshold_inclusive") else ">"
    root = "ops.sqrt(v / (1 - beta2**t)) + self.epsilon"
    if hyper.get("eps_form") is Epsilon.HAT:
        root = "(ops.sqrt(v) + self.epsilon) / ops.sqrt(1 - beta2**t)"
    return Bridge(
        "the step is rectified (Liu et al. 2019), which no class of Keras does",
        (*_cast(), *_slots("_momentums", "_velocities"), _COUNT, _BETA1, _BETA2, _FIRST, _SECOND,
         "longest = 2 / (1 - self.beta_2) - 1",
         "length = longest - 2 * t * beta2**t / (1 - beta2**t)",
         "known = ops.maximum(length, 4.5)",
         "rectified = ops.sqrt(",
         "    (known - 4) * (known - 2) * longest / ((longest - 4) * (longest - 2) * known)",
         ")",
         "step = m / (1 - beta1**t)",
         f"step = ops.where(length {sign} {threshold!r}, rectified * step / ({root}), step)",
         "self.assign_sub(variable, learning_rate * step)"),
    )  # fmt: skip


def _rmsprop(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    momentum, carries = hyper.get("momentum"), hyper.get("lr_in_momentum")
    apart = bool(momentum) and not carries and (rate_moves or _outside(hyper))
    if not _outside(hyper) and not apart and not (momentum and hyper.get("nesterov")):
        return None
    centered = hyper.get("centered")
    names = ["_velocities", *(["_average_gradients"] if centered else [])]
    variance = "v - ops.square(g)" if centered else "v"
    outside = hyper.get("eps_form") is Epsilon.OUTSIDE
    lines = [
        *_cast(), *_slots(*names, *(["_momentums"] if momentum else [])),
        "self.assign(v, self.rho * v + (1 - self.rho) * ops.square(gradient))",
    ]  # fmt: skip
    if centered:
        lines.append("self.assign(g, self.rho * g + (1 - self.rho) * gradient)")
    root = f"ops.sqrt({variance}) + self.epsilon" if outside else (
        f"ops.sqrt({variance} + self.epsilon)"
    )  # fmt: skip
    lines.append(f"step = gradient / ({root})")
    if not apart:
        lines.append("step = learning_rate * step")
    if momentum:
        lines.append("self.assign(m, self.momentum * m + step)")
        lines.append("step = step + self.momentum * m" if hyper.get("nesterov") else "step = m")
    rate = "learning_rate * step" if apart else "step"
    lines.append(f"self.assign_sub(variable, {rate})")
    told = ["epsilon is added to the root"] if outside else []
    told += ["the learning rate is no part of the momentum"] if apart else []
    return Bridge(" and ".join(told) or "the momentum looks ahead", tuple(lines), apart=apart)


def _adagrad(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    decay = hyper.get("lr_decay") or 0.0
    if not _outside(hyper) and not decay:
        return None
    outside = hyper.get("eps_form") is Epsilon.OUTSIDE
    root = "ops.sqrt(s) + self.epsilon" if outside else "ops.sqrt(s + self.epsilon)"
    slower = [
        "done = ops.cast(self.iterations, variable.dtype)",
        f"learning_rate = learning_rate / (1 + {decay!r} * done)",
    ]
    return Bridge(
        " and ".join([
            *(["epsilon is added to the root"] if outside else []),
            *(["the learning rate decays with the steps"] if decay else []),
        ]),
        (*_cast(), *(slower if decay else []), *_slots("_accumulators"),
         "self.assign_add(s, ops.square(gradient))",
         f"self.assign_sub(variable, learning_rate * gradient / ({root}))"),
    )  # fmt: skip


def _adafactor(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    if not hyper.get("weight_decay") or hyper.get("decay_first"):
        return None
    return Bridge(
        "weight decay is no part of the norm that scales a step",
        (f"decayed = variable * ({hyper['weight_decay']!r} * learning_rate)", OWN,
         "self.assign_sub(variable, decayed)"),
    )  # fmt: skip


def _muon(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    methods = []
    told = []
    scale = hyper.get("lr_scale")
    if scale in (None, "original"):
        told.append("a step is scaled by the root of outputs / inputs (Jordan et al. 2024)")
        rows, columns = (1, 0) if hyper.get("turned") else (0, 1)
        methods.append(
            "def lr_adjust(self, x):\n"
            f"    return x * max(1.0, x.shape[{rows}] / x.shape[{columns}]) ** 0.5"
        )
    if hyper.get("nesterov") == "corrected":
        told.append("the momentum is corrected for its bias, as optax does")
        methods.append(
            "def _muon_update_step(self, gradient, variable, lr, m):\n"
            "    t = ops.cast(self.iterations + 1, variable.dtype)\n"
            "    self.assign_add(m, gradient + m * (self.momentum - 1))\n"
            "    share = (1 - self.momentum**t) / (1 - self.momentum ** (t + 1))\n"
            "    g = gradient + self.momentum * share * m\n"
            "    update = self.zeropower_via_newtonschulz5(g, self.ns_steps)\n"
            "    self.assign_sub(variable, self.lr_adjust(lr * update))"
        )
    return Bridge(" and ".join(told), (OWN,), tuple(methods)) if told else None


def _lamb(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    if not (hyper.get("decay_in_ratio") and hyper.get("weight_decay")):
        return None
    return Bridge(
        "weight decay is part of the step whose norm is taken",
        (*_cast(), *_slots("_momentums", "_velocities"), _COUNT, _BETA1, _BETA2, _FIRST, _SECOND,
         "root = ops.sqrt(v / (1 - beta2**t)) + self.epsilon",
         f"step = m / (1 - beta1**t) / root + {hyper['weight_decay']!r} * variable",
         "norms = ops.sqrt(ops.sum(variable**2)), ops.sqrt(ops.sum(step**2))",
         "ratio = ops.where((norms[0] > 0) & (norms[1] > 0), norms[0] / norms[1], 1.0)",
         "self.assign_sub(variable, learning_rate * ratio * step)"),
    )  # fmt: skip


def _rprop(hyper: Hyper, rate_moves: bool) -> Bridge:
    return Bridge(
        "resilient propagation, which Keras does not have",
        ("gradient = ops.cast(gradient, variable.dtype)", _INDEX,
         "before, size = self.before[index], self.sizes[index]",
         "agrees = ops.sign(gradient * before)",
         f"factor = ops.where(agrees > 0, {hyper['eta_plus']!r}, ops.ones_like(gradient))",
         f"factor = ops.where(agrees < 0, {hyper['eta_minus']!r}, factor)",
         f"self.assign(size, ops.clip(size * factor, {hyper['step_min']!r}, "
         f"{hyper['step_max']!r}))",
         "gradient = ops.where(agrees < 0, ops.zeros_like(gradient), gradient)",
         "self.assign_sub(variable, size * ops.sign(gradient))",
         "self.assign(before, ops.sign(gradient))"),
        ("def build(self, variables):\n    super().build(variables)\n"
         '    self.before = self.add_optimizer_variables(variables, "before")\n'
         '    self.sizes = self.add_optimizer_variables(variables, "size")',),
    )  # fmt: skip


def _asgd(hyper: Hyper, rate_moves: bool) -> Bridge:
    return Bridge(
        "averaged gradient descent, which Keras does not have",
        (*_cast(), "average = self.averages[self._get_variable_index(variable)]",
         "done = ops.cast(self.iterations, variable.dtype)",
         f"eta = learning_rate / (1 + {hyper['lambd']!r} * learning_rate * done) "
         f"** {hyper['alpha']!r}",
         f"share = 1 / ops.maximum(1.0, done - {hyper['t0']!r})",
         f"self.assign_sub(variable, variable * ({hyper['lambd']!r} * eta))",
         "self.assign_sub(variable, eta * gradient)",
         "self.assign_add(average, (variable - average) * share)"),
        ("def build(self, variables):\n    super().build(variables)\n"
         '    self.averages = self.add_optimizer_variables(variables, "average")',),
    )  # fmt: skip


def _schedule_free(hyper: Hyper, rate_moves: bool) -> Bridge | None:
    if hyper.get("framework") == "keras":
        return None
    return Bridge(
        "the average is taken from the anchor before its step (Keras 3.15 on TensorFlow reads it "
        "after)",
        (*_cast(), *_slots("_momentums", "_velocities"), _COUNT, _BETA2, _SECOND,
         "root = ops.sqrt(v / (1 - beta2**t)) + self.epsilon",
         "average = (variable - (1 - self.beta_1) * m) / self.beta_1",
         "self.assign_sub(m, learning_rate * gradient / root)",
         "average = average + (m - average) / t",
         "self.assign(variable, (1 - self.beta_1) * m + self.beta_1 * average)"),
    )  # fmt: skip


def _lbfgs(hyper: Hyper, rate_moves: bool) -> Bridge:
    raise UnsupportedError(
        "Keras has no L-BFGS: its history has no place there; move the model alone, or carry the "
        "state as it stands with --set optimizer=native"
    )


_BUILDERS: Mapping[Algorithm, Callable[[Hyper, bool], Bridge | None]] = {
    Algorithm.SGD: _sgd,
    Algorithm.ADAM: _adam,
    Algorithm.ADAMAX: _adamax,
    Algorithm.NADAM: _nadam,
    Algorithm.RADAM: _radam,
    Algorithm.RMSPROP: _rmsprop,
    Algorithm.ADAGRAD: _adagrad,
    Algorithm.LAMB: _lamb,
    Algorithm.ADAFACTOR: _adafactor,
    Algorithm.MUON: _muon,
    Algorithm.RPROP: _rprop,
    Algorithm.ASGD: _asgd,
    Algorithm.SCHEDULE_FREE: _schedule_free,
    Algorithm.LBFGS: _lbfgs,
}
