"""Rules that no class of torch has, as the Python code that a training program runs.

A rule is printed with the rest of the code that restores a run; it is never executed here. Its
options stand in the parameter groups, so that torch saves and restores them: `optimizer_kinds`
knows them again. `HOOKS` are run before every step of a stock class, `RULES` are classes.
"""

from __future__ import annotations

from collections.abc import Mapping

EPSILON_HAT = '''
def epsilon_hat(optimizer, args, kwargs):
    """Epsilon before the bias correction: an epsilon of its own for each step."""
    for group in optimizer.param_groups:
        first = optimizer.state.get(group["params"][0], {})
        step = float(first.get("step", 0)) + 1
        group["eps"] = group["eps_hat"] / (1 - group["betas"][1] ** step) ** 0.5
'''
EPSILON_OUTSIDE = '''
def epsilon_outside(optimizer, args, kwargs):
    """Epsilon after the bias correction: an epsilon of its own for each step."""
    for group in optimizer.param_groups:
        first = optimizer.state.get(group["params"][0], {})
        step = float(first.get("step", 0)) + 1
        group["eps"] = group["eps_outside"] * (1 - group["betas"][1] ** step) ** 0.5
'''
DECOUPLED_DECAY = '''
def decoupled_decay(optimizer, args, kwargs):
    """Weight decay times the learning rate, before the step."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["decoupled_decay"])
'''
L2_DECAY = '''
def l2_decay(optimizer, args, kwargs):
    """Weight decay as part of the gradient."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.add_(p, alpha=group["l2_decay"])
'''
HOOKS: Mapping[str, str] = {
    "epsilon_hat": EPSILON_HAT,
    "epsilon_outside": EPSILON_OUTSIDE,
    "decoupled_decay": DECOUPLED_DECAY,
    "l2_decay": L2_DECAY,
}

BASE = '''
class OneByOne:
    """An optimizer with a rule of its own for each parameter."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["step"] = state.get("step", torch.zeros(())) + 1
                    gradient = -p.grad if group.get("maximize") else p.grad
                    self.update(p, gradient, state, group, float(state["step"]))
        return loss

    @staticmethod
    def slot(state, name, p):
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]
'''
_NEW = """\
    def __init__(self, params, **options):
        super().__init__(params, options)"""
_MOMENTS = """\
        beta1, beta2 = group["betas"]
        m = self.slot(state, "exp_avg", p).lerp_(gradient, 1 - beta1)
        v = self.slot(state, "exp_avg_sq", p)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)"""
SGD = '''
class RatedSGD(OneByOne, torch.optim.SGD):
    """SGD whose momentum carries the learning rate of each step."""

    def update(self, p, gradient, state, group, step):
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * p
        move = group["lr"] * gradient
        momentum = self.slot(state, "momentum_buffer", p)
        momentum.mul_(group["momentum"]).add_(move)
        p.sub_(group["momentum"] * momentum + move if group["nesterov"] else momentum)
'''
RMSPROP = '''
class RootRMSprop(OneByOne, torch.optim.RMSprop):
    """RMSprop with epsilon inside of the root (`eps_inside`) or outside (`eps`), and a momentum
    that carries the learning rate of each step (`lr_in_momentum`) or does not."""

    def update(self, p, gradient, state, group, step):
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * p
        v = self.slot(state, "square_avg", p)
        v.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
        if group["centered"]:
            mean = self.slot(state, "grad_avg", p).lerp_(gradient, 1 - group["alpha"])
            v = v - mean * mean
        move = gradient / ((v + group["eps_inside"]).sqrt() + group["eps"])
        inside, outside = (group["lr"], 1) if group["lr_in_momentum"] else (1, group["lr"])
        if group["momentum"]:
            momentum = self.slot(state, "momentum_buffer", p)
            momentum.mul_(group["momentum"]).add_(move, alpha=inside)
            move = inside * move + group["momentum"] * momentum if group["nesterov"] else momentum
        else:
            move = inside * move
        p.sub_(outside * move)
'''
ADAM = f'''
class RootAdam(OneByOne, torch.optim.Adam):
    """Adam with a second epsilon inside of the root (`eps_inside`), or with the maximum of the
    second moment taken after the bias correction (`amsgrad_corrected`)."""

    def update(self, p, gradient, state, group, step):
        decay = group["weight_decay"]
        if decay and group["decoupled_weight_decay"]:
            p.mul_(1 - group["lr"] * decay)
        elif decay:
            gradient = gradient + decay * p
{_MOMENTS}
        v = v / (1 - beta2**step)
        if group["amsgrad"]:
            highest = self.slot(state, "max_exp_avg_sq", p)
            v = torch.maximum(highest, v, out=highest)
        root = (v + group["eps_inside"]).sqrt() + group["eps"]
        p.addcdiv_(m, root, value=-group["lr"] / (1 - beta1**step))
'''
ADAMAX = '''
class PlusAdamax(OneByOne, torch.optim.Adamax):
    """Adamax with epsilon added to the maximum (`eps_outside`), not in it."""

    def update(self, p, gradient, state, group, step):
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * p
        beta1, beta2 = group["betas"]
        m = self.slot(state, "exp_avg", p).lerp_(gradient, 1 - beta1)
        highest = self.slot(state, "exp_inf", p)
        torch.maximum(beta2 * highest, gradient.abs(), out=highest)
        p.addcdiv_(m, highest + group["eps_outside"], value=-group["lr"] / (1 - beta1**step))
'''
LION = f'''
class Lion(OneByOne, torch.optim.Optimizer):
    """Lion, with the options and the slot of the lion-pytorch package."""

{_NEW}

    def update(self, p, gradient, state, group, step):
        beta1, beta2 = group["betas"]
        m = self.slot(state, "exp_avg", p)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * torch.lerp(gradient, m, beta1).sign())
        m.lerp_(gradient, 1 - beta2)
'''
LAMB = f'''
class Lamb(OneByOne, torch.optim.Optimizer):
    """LAMB; weight decay is part of the step whose norm counts (`decay_in_ratio`), or goes first.
    """

{_NEW}

    def update(self, p, gradient, state, group, step):
        if not group["decay_in_ratio"]:
            p.mul_(1 - group["lr"] * group["weight_decay"])
{_MOMENTS}
        move = (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + group["eps"])
        if group["decay_in_ratio"]:
            move = move + group["weight_decay"] * p
        size, length = p.norm(), move.norm()
        ratio = size / length if size > 0 and length > 0 else 1.0
        p.sub_(group["lr"] * ratio * move)
'''
FTRL = f'''
class Ftrl(OneByOne, torch.optim.Optimizer):
    """FTRL-Proximal (McMahan et al. 2013)."""

{_NEW}

    def update(self, p, gradient, state, group, step):
        lr, power = group["lr"], -group["lr_power"]
        if "sum" not in state:
            state["sum"] = torch.full_like(p, group["initial_accumulator_value"])
        squares, linear = state["sum"], self.slot(state, "linear", p)
        more = squares + gradient * gradient
        pull = (more.pow(power) - squares.pow(power)) / lr
        linear.add_(gradient + 2 * group["l2_shrinkage"] * p - pull * p)
        width = more.pow(power) / lr + 2 * (group["l2"] + group["beta"] / (2 * lr))
        p.copy_((linear.clamp(-group["l1"], group["l1"]) - linear) / width)
        squares.copy_(more)
'''
RPROP = '''
class LateRprop(OneByOne, torch.optim.Rprop):
    """Rprop that takes each step one update late, as optax 0.2.8 does."""

    def update(self, p, gradient, state, group, step):
        (less, more), (low, high) = group["etas"], group["step_sizes"]
        before = self.slot(state, "prev", p)
        if "step_size" not in state:
            state["step_size"] = torch.full_like(p, group["lr"])
        sign = gradient * before
        size = state["step_size"]
        late = before * size
        size.mul_(torch.where(sign > 0, more, torch.where(sign < 0, less, 1.0)))
        size.copy_(torch.where(sign == 0, size, size.clamp(low, high)))
        before.copy_(torch.where(sign < 0, 0.0, gradient.sign()))
        p.sub_(torch.where(sign < 0, 0.0, late))
'''
ADAFACTOR = '''
class FreeAdafactor(OneByOne, torch.optim.Adafactor):
    """Adafactor that factors only the second moments that it finds factored, and whose learning
    rate is bound by 1/sqrt(step) (`bound`) or is not."""

    def update(self, p, gradient, state, group, step):
        p.mul_(1 - group["lr"] * group["weight_decay"])
        fresh = step ** group["beta2_decay"]
        squares = gradient.square()
        if "row_var" in state:
            row = state["row_var"].lerp_(squares.mean(-1, keepdim=True), fresh)
            column = state["col_var"].lerp_(squares.mean(-2, keepdim=True), fresh)
            v = row @ column / row.mean(-2, keepdim=True)
        else:
            v = self.slot(state, "variance", p).lerp_(squares, fresh)
        lowest, smallest = group["eps"]
        lowest = torch.finfo(p.dtype).eps if lowest is None else lowest
        move = gradient * v.clamp(min=lowest**2).rsqrt()
        size = float(move.norm()) / move.numel() ** 0.5
        rate = min(group["lr"], step**-0.5) if group["bound"] else group["lr"]
        rate *= max(smallest, float(p.norm()) / p.numel() ** 0.5)
        p.sub_(rate / max(1.0, size / group["d"]) * move)
'''
MUON = '''
class FullMuon(OneByOne, torch.optim.Muon):
    """Muon that orthogonalizes in the parameter's own precision, with a corrected momentum
    (`momentum_correction`) and a scale of any size (`rms_rate`; None: that of Jordan et al.)."""

    def update(self, p, gradient, state, group, step):
        lr, mu = group["lr"], group["momentum"]
        p.mul_(1 - lr * group["weight_decay"])
        momentum = self.slot(state, "momentum_buffer", p).lerp_(gradient, 1 - mu)
        now, later = 1.0, 1.0
        if group["momentum_correction"]:
            now, later = 1 - mu**step, 1 - mu ** (step + 1)
        if group["nesterov"]:
            x = mu * momentum / later + (1 - mu) * gradient / now
        else:
            x = momentum / now
        rows, columns = x.shape
        x = x.T if rows > columns else x
        x = x / (x.norm() + group["eps"])
        a, b, c = group["ns_coefficients"]
        for _ in range(group["ns_steps"]):
            square = x @ x.T
            x = a * x + (b * square + c * square @ square) @ x
        x = x.T if rows > columns else x
        if group["rms_rate"] is None:
            scale = max(1.0, rows / columns) ** 0.5
        else:
            scale = group["rms_rate"] * max(rows, columns) ** 0.5
        p.sub_(lr * scale * x)
'''
