"""Code for the target's program: builds an optimizer of Keras and gives it the state of the run.

Before it comes the format's own text, which defines `value(name)`; `model` is the program's own,
built. Lines are joined here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portackpt.ledger import NONE
from portackpt.optimizers import Slot
from portackpt.run import Scheduled
from portackpt.schedules import Plateau, Spelled
from portackpt_keras.dialect import schedules
from portackpt_keras.dialect.making import Made

_NAME = '''\
def name(variable):
    """The name that a variable of `model` has in the checkpoint."""
    return variable.path
'''
_WEIGHTS = """\
for variable in model.weights:
    variable.assign(value(f"model/{name(variable)}"))
"""
_RATE = """\
def rate_of(rate, count):
    return rate(count) if callable(rate) else rate
"""


def weights() -> str:
    """The values of the model."""
    return f"{_NAME}\n\n{_WEIGHTS}"


def imports(code: str) -> str:
    """`code` after the imports that it needs, each once."""
    body = []
    found = {"import keras"} if "keras." in code else set()
    if "ops." in code:
        found.add("from keras import ops")
    for line in code.splitlines():
        if line.startswith(("import ", "from ")):
            found.add(line)
        else:
            body.append(line)
    plain = sorted([line for line in found if line.startswith("import ")])
    rest = sorted(found - set(plain))
    text = "\n".join(body).strip("\n")
    while "\n\n\n\n" in text:
        text = text.replace("\n\n\n\n", "\n\n\n")
    return "\n".join([*plain, *rest]) + "\n\n\n" + text + "\n" if found else text + "\n"


def class_code(made: Made) -> str:
    """The subclass whose step is the source's; empty where Keras' own class is used."""
    step = made.step
    if step is None:
        return ""
    lines = [
        f"class {class_name(made)}(keras.optimizers.{made.kind}):",
        f'    """{step.told[:1].upper()}{step.told[1:]}."""',
    ]
    for method in step.methods:
        lines += ["", *[f"    {line}" for line in method.splitlines()]]
    lines += ["", "    def update_step(self, gradient, variable, learning_rate):"]
    lines += [f"        {line}" for line in step.step]
    return "\n".join(lines) + "\n"


def class_name(made: Made) -> str:
    return f"keras.optimizers.{made.kind}" if made.step is None else f"Moved{made.kind}"


def naming(made: Made) -> str:
    """The names of variables, where groups are told by them."""
    return _NAME if made.differing else ""


def scheduled(made: Made, found: Scheduled | None) -> str:
    """The schedule as the learning rate of an optimizer that was built without."""
    if found is None or isinstance(found.schedule.form, Plateau):
        return ""
    _, rates, _ = rate_functions(made, found)
    return f"optimizer.learning_rate = {rates[0]}\n"


def construction(
    made: Made, rates: Sequence[str], target: str, trainable: str, first: str | None = None
) -> str:
    """`target = CLASS(…)`, built on `trainable`, with what differs between groups.

    `first` is the rate that it is built with, where that is not yet the one of the first group.
    """
    lines = []
    differing = set(made.differing)
    per_group = made.step is not None and any("own = options" in line for line in made.step.step)
    excluded = "weight_decay" in differing and not per_group
    options = dict(made.options[0])
    if per_group:
        names = sorted({*differing, *(["weight_decay"] if _decays(made) else [])} - {""})
        listed = ["{" + ", ".join([
            f"{name!r}: {rates[i] if name == 'learning_rate' else (own[name] or 0.0)!s}"
            for name in names]) + "}" for i, own in enumerate(made.options)]  # fmt: skip
        lines += [
            _members(made),
            f"options = [{', '.join(listed)}]",
            f"group_of = [groups.get(name(v), {_largest(made)}) for v in {trainable}]",
        ]
        options["weight_decay"] = None
    elif excluded:
        options["weight_decay"] = max([own["weight_decay"] or 0.0 for own in made.options])
    given = [f"learning_rate={first or rates[0]}"]
    given += [
        f"{name}={option!r}"
        for name, option in options.items()
        if name not in ("learning_rate", "l2") and option is not None
    ]
    if made.kind == "Muon" and options["weight_decay"] is None:
        given.append("weight_decay=None")
    if made.kind == "Optimizer":
        given = given[:1]
    lines.append(f"{target} = {class_name(made)}({', '.join(given)})")
    if excluded:
        names = [n for group, own in zip(made.groups, made.options, strict=True)
                 if not own["weight_decay"] for n in group.parameters]  # fmt: skip
        lines += [f"undecayed = {_set(names)}",
                  f"{target}.exclude_from_weight_decay(",
                  f"    var_list=[v for v in {trainable} if name(v) in undecayed]",
                  ")"]  # fmt: skip
    lines.append(f"{target}.build({trainable})")
    return "\n".join(lines) + "\n"


def _decays(made: Made) -> bool:
    return any(own["weight_decay"] for own in made.options)


def _largest(made: Made) -> int:
    sizes = [len(group.parameters) for group in made.groups]
    return sizes.index(max(sizes))


def _members(made: Made) -> str:
    pairs = [
        f"{name!r}: {i}"
        for i, group in enumerate(made.groups)
        if i != _largest(made)
        for name in group.parameters
    ]
    return "groups = {" + ", ".join(pairs) + "}"


def _set(names: Iterable[str]) -> str:
    return "{" + ", ".join([repr(name) for name in sorted(names)]) + "}"


def state(made: Made, prefix: str, target: str, trainable: str, product: bool) -> str:
    """The assignments of the optimizer's variables."""
    lines = []
    factored = Slot.ROW_MOMENT in made.attributes
    listed = [f'    "{slot}": {target}.{attribute},' for slot, attribute in made.attributes.items()]
    if listed:
        lines += ["slots = {", *listed, "}", "for slot, variables in slots.items():",
                  f"    for parameter, variable in zip({trainable}, variables):"]  # fmt: skip
        assign = f'variable.assign(value(f"{prefix}/{{slot}}/{{name(parameter)}}"))'
        if factored:
            lines.append("        if (len(parameter.shape) > 1) == (slot != "
                         f'"{Slot.SECOND_MOMENT}"):')  # fmt: skip
            lines.append(f"            {assign}")
        else:
            lines.append(f"        {assign}")
    if product:
        lines.append(f'{target}._u_product.assign(value("{prefix}/{Slot.MOMENTUM_PRODUCT}"))')
    lines.append(f'{target}.iterations.assign(value("{prefix}/iterations"))')
    return "\n".join(lines) + "\n"


def filtered(names: Iterable[str]) -> str:
    """The variables of the model with these names."""
    return f"[v for v in model.trainable_variables if name(v) in {_set(names)}]"


def rate_functions(
    made: Made, scheduled: Scheduled | None
) -> tuple[str, list[str], Spelled | None]:
    """Code of the schedules, what each group's learning rate is in code, and how it is spelled."""
    plain = [repr(own["learning_rate"]) for own in made.options]
    if scheduled is None:
        return "", plain, None
    schedule = scheduled.schedule
    if isinstance(schedule.form, Plateau):
        told = schedules.spell(schedule, 0, "plateau")
        return told.code, plain, told
    count = max(1, min(schedule.groups, len(made.options)))
    several = "learning_rate" in made.differing and count > 1
    names = [f"schedule_{i}" for i in range(count)] if several else ["schedule"]
    spelled = [schedules.spell(schedule, i, n) for i, n in enumerate(names)]
    code = "\n\n".join([one.code for one in spelled])
    if "def rate_of" not in code and several:
        code = f"{code}\n\n\n{_RATE}"
    return code, names if several else names * len(made.options), spelled[0]


def rate_helper(made: Made) -> str:
    return _RATE if made.step and any("rate_of(" in line for line in made.step.step) else ""


def momentum_code(found: Scheduled | None) -> str:
    """The function of a momentum that moves with the schedule."""
    spelled = None if found is None else schedules.spell_momentum(found.schedule)
    return spelled.code if spelled else ""


def told(made: Made, found: Scheduled) -> tuple[str, str]:
    """What became of a schedule, and what that means for the run."""
    _, _, spelled = rate_functions(made, found)
    if spelled is None:
        return "in the code", NONE
    off = f"; rates within {spelled.tolerance:.0e} of the highest" if spelled.tolerance else ""
    return f"in the code: {spelled.detail}{off}", spelled.consequence or NONE
