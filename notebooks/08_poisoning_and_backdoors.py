# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. Poisoning and backdoors: clients that lie, and rules that resist them
#
# **Threat model of this notebook.** Up to four of ten clients are corrupted. They take part in every round and send whatever numbers
# they like. Where it is said they also know the honest updates of the round and the server's rule, which is the strongest such
# adversary that is usually studied. The server is honest, sees single updates, and does not know who lies. Nobody breaks cryptography,
# and nobody alters messages on the way.
#
# The question is: **what can a liar do to the model, and what does the server's rule leave of it?**
#
# **After it you can** say what a rule promises and when its promise ends; measure an attack against the rule in place; say why angles
# are not numbers to average; tell a backdoor from an error, and what is left of it when the attackers stop. **Time:** 60
# minutes to read, 40 for the exercises; it runs in about half a minute.

# %%
import dataclasses
import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.attacks.poisoning import (
    AngleWrap,
    LabelFlip,
    ModelReplacement,
    OptimisedAlie,
    OptimisedIpm,
)
from qflsec.data import DataSpec
from qflsec.defenses.robust import (
    GeometricMedian,
    Median,
    NormBound,
    TrimmedMean,
    WrapAngles,
    coordinate_median,
    krum,
    reduce_differences,
    trimmed_mean,
)
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab import load_spec, run
from qflsec.models import build_model
from qflsec.threat import corrupted_clients

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
SEEDS = range(3)

# %% [markdown]
# ## What a rule sees
#
# Six honest updates and four lies, in two coordinates. A mean follows the lies as far as they like to go. A median, a trimmed mean
# and Krum do not follow a lie that is far away; what is left to an adversary who knows them is a lie that is *near*.

# %%
generator = torch.Generator().manual_seed(7)
honest = torch.tensor([1.0, 0.5]) + 0.35 * torch.randn(6, 2, generator=generator)
lies = {
    "far away": torch.tensor([-4.0, -3.0]).expand(4, 2),
    "a little is enough": (honest.mean(dim=0) - 1.2 * honest.std(dim=0)).expand(4, 2),
}
rules = {
    "mean": lambda updates: updates.mean(dim=0),
    "median": lambda updates: coordinate_median(updates, f=4),
    "trimmed mean": lambda updates: trimmed_mean(updates, f=4),
    "Krum": lambda updates: krum(updates, f=3),
}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
for ax, (name, lie) in zip(axes, lies.items(), strict=True):
    updates = torch.cat([honest, lie])
    ax.plot(*honest.T, "o", color=BLUE, label="honest updates")
    ax.plot(*lie[:1].T, "X", color=ORANGE, ms=10, label="four lies")
    ax.plot(*honest.mean(dim=0), "+", color=BLACK, ms=16, mew=2, label="honest mean")
    for (rule, of), mark in zip(rules.items(), "sD^v", strict=True):
        found = of(updates)
        ax.plot(*found, mark, ms=9, mfc="none", mew=1.6, color=GREEN if rule != "mean" else PINK, label=rule)
        off = float((found - honest.mean(dim=0)).norm())
        print(f"{name:20s} {rule:13s} is {off:.2f} off the honest mean")
    ax.set(
        title=f"Lies that are {name}" if name == "far away" else "Lies near by: " + name,
        xlabel="coordinate 1",
        ylabel="coordinate 2",
    )
axes[0].legend(frameon=False, fontsize=8)
fig.tight_layout()
plt.show()

# %% [markdown]
# ## From a label flip to an attack against the rule in place
#
# Ten clients train two qubits on breast cancer. Advantage is the honest accuracy lost, as a share of that above chance: 0 is
# no harm, 1 leaves chance, above 1 the model is turned round. The last two attacks measure their length out on a simulated server,
# bounds and rule included.

# %%
pipeline = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=2, members=100, nonmembers=0, auxiliary=20, test=150),
    model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
    federation=FederationConfig(
        n_clients=10, rounds=10, local_steps=2, learning_rate=0.5, declared_corrupted=4
    ),
)
liars = corrupted_clients(n=4, knows=("architecture", "auxiliary", "defenses", "honest-updates"))
stacks = {
    "no defense": [],
    "norm bound": [NormBound()],
    "median": [Median()],
    "trimmed mean": [TrimmedMean()],
}
attacks = {
    "label flip": LabelFlip(),
    "model replacement": ModelReplacement(),
    "inner products, measured out": OptimisedIpm(),
    "a little is enough, measured out": OptimisedAlie(),
}


HONEST = {}


def advantages(made, stack, attack, threat):
    """Accuracy lost in each seed, as a share of what the honest run has above chance."""
    specs = [RunSpec(seed=s, evaluate="last", adversary=attack, threat=threat) for s in SEEDS]
    clean, attacked = honest_runs(made, stack), run_batch(made, stack, specs)
    found = []
    for a, b in zip(clean, attacked, strict=True):
        labels = a.records("test").labels
        chance = float(torch.bincount(labels).max()) / len(labels)
        found.append((a.accuracy[-1] - b.accuracy[-1]) / (a.accuracy[-1] - chance))
    return found


def honest_runs(made, stack):
    """The runs without an attack, made once for each stack."""
    key = made.federation, stack
    if key not in HONEST:
        HONEST[key] = run_batch(made, stack, [RunSpec(seed=s, evaluate="last") for s in SEEDS])
    return HONEST[key]


table = {
    (attack, stack): advantages(pipeline, Stack.from_layers(stack, layers), how, liars)
    for attack, how in attacks.items()
    for stack, layers in stacks.items()
}

# %%
fig, ax = plt.subplots(figsize=(10, 3.8))
width = 0.2
for j, (stack, colour) in enumerate(zip(stacks, (PINK, ORANGE, BLUE, GREEN), strict=True)):
    means = [mean_over_seeds(table[attack, stack]) for attack in attacks]
    places = np.arange(len(attacks)) + (j - 1.5) * width
    ax.bar(places, [m.value for m in means], width, color=colour, label=stack)
    for place, attack in zip(places, attacks, strict=True):
        ax.plot([place] * len(SEEDS), table[attack, stack], ".", color=BLACK, ms=4)
ax.axhline(0, color=BLACK, lw=0.8)
ax.axhline(1, color="#999999", lw=0.8, ls="--")
ax.text(len(attacks) - 0.55, 1.03, "chance", fontsize=8, color="#666666")
ax.set_xticks(range(len(attacks)), [a.replace(", ", ",\n") for a in attacks], fontsize=8.5)
ax.set(ylabel="advantage", title="Four of ten clients; dots are the three seeds")
ax.legend(frameon=False, ncol=2)
plt.show()

# %% [markdown]
# - A **label flip** is outvoted, mostly; nothing about it is adaptive.
# - A **model replacement** turns the undefended model round, and a *norm bound* takes its length away.
# - **Inner products** are no longer than an honest update needs to be, so that a norm bound lets them pass, and the median does not.
# - No attack here breaks the **median** or the trimmed mean. This says that these attacks failed, not that none can: a rule's promise
#   is an error *within a constant of how much honest updates differ*, and it ends where half of the clients lie. Three seeds are few:
#   look at the dots before you rank two bars.

# %% [markdown]
# ## Why angles need care
#
# A rotation by $\theta$ and one by $\theta + 2\pi$ are the same circuit. A client that adds whole turns to its honest update sends an
# honest *model*: whatever the server measures with it is right. The mean of the ten is another matter.

# %%
s, turns = 0.3, 2
theta = np.array([0.6, 0.7, 0.8, 0.65, 0.75, 0.72, 0.68])
sent = np.concatenate([theta, np.array([0.7, 0.66, 0.74]) + 2 * np.pi * turns])
reduced = reduce_differences(torch.tensor(sent)[:, None], [2 * math.pi]).numpy()[:, 0]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
turn = np.linspace(0, 2 * np.pi, 200)
left.plot(np.cos(turn), np.sin(turn), color="#999999", lw=1)
left.plot(np.cos(sent), np.sin(sent), "o", color=BLUE, ms=5, label="ten clients, as circuits")
for value, mark, colour, name in (
    (sent.mean(), "X", ORANGE, "mean of what was sent"),
    (reduced.mean(), "P", GREEN, "mean of reduced differences"),
):
    left.plot(np.cos(value), np.sin(value), mark, ms=12, color=colour, label=name)
left.set(aspect="equal", title="One angle of the model on its circle")
left.legend(frameon=False, fontsize=8, loc="center")
wrapping = corrupted_clients(n=3)
wrapped = {
    "mean": [],
    "mean, reduced": [WrapAngles()],
    "median,\nnot reduced": [Median(wrap=False)],
    "geometric median,\nnot reduced": [GeometricMedian(wrap=False)],
}
declared = dataclasses.replace(
    pipeline, federation=dataclasses.replace(pipeline.federation, declared_corrupted=3)
)
for place, (name, layers) in enumerate(wrapped.items()):
    values = advantages(declared, Stack.from_layers("s", layers), AngleWrap(round=9), wrapping)
    right.bar(place, np.mean(values), color=ORANGE if name == "mean" else GREEN)
    right.plot([place] * len(values), values, ".", color=BLACK)
right.axhline(0, color=BLACK, lw=0.8)
right.set_xticks(range(len(wrapped)), wrapped, fontsize=8)
right.set(ylabel="advantage", title="Whole turns in the last round")
fig.tight_layout()
plt.show()
print(f"theory: the mean moves by {s} x {turns} = {s * turns:.1f} periods, the same as {(s * turns) % 1:.1f}")
print(f"here:   {(sent.mean() - reduced.mean()) / (2 * np.pi):.3f} periods")

# %% [markdown]
# *Differences* from the model that the server sent are what must be reduced, not the parameters themselves: two honest clients on either
# side of the cut at $\pm\pi$ are close to each other, and their reduced parameters are not.

# %%
base, steps = math.pi - 0.05, torch.tensor([[0.1], [-0.1]])
parameters = base + steps
wrong = reduce_differences(parameters, [2 * math.pi]).mean()
right_way = base + reduce_differences(steps, [2 * math.pi]).mean()
print(
    f"reduced parameters have the mean {float(wrong):+.2f}, reduced differences {float(right_way):+.2f} (= {base:+.2f})"
)

# %% [markdown]
# ## A backdoor: planted, outliving the attacker, caught
#
# Two clients teach the model that a record with one feature at $\pi$ belongs to class 0, and enlarge their updates so that the mean becomes
# their model. They begin in round 5 and stop after round 12. Accuracy hardly tells. Success is the share of triggered records of
# the other class that get class 0, *less* what the honest model does with the same records.

# %%
backdoored = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=100, nonmembers=0, auxiliary=100, test=150),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    federation=FederationConfig(n_clients=10, rounds=24, local_steps=2, learning_rate=0.5),
)
first, last = 4, 11
trigger = FeatureTrigger(target_class=0, features=(1,), first_round=first, last_round=last)
pair = corrupted_clients(n=2)


def gained(attacked, clean):
    """Success of the trigger beyond the honest model's answers, after every round."""
    records = attacked.records("test")
    others = records.features[records.labels != trigger.target_class]
    marked = trigger.trigger(others, torch.Generator())
    model = attacked.pipeline.model
    with torch.no_grad():
        rates = [
            [
                float((model(p, marked).argmax(dim=-1) == trigger.target_class).float().mean())
                for p in result.trace
            ]
            for result in (attacked, clean)
        ]
    return np.array(rates[0]) - np.array(rates[1])


curves, accuracies, lengths = {}, {}, {}
for name, layers in (("no defense", []), ("norm bound", [NormBound()])):
    stack = Stack.from_layers(name, layers)
    clean = run_batch(backdoored, stack, [RunSpec(seed=s, trace=True) for s in SEEDS])
    attacked = run_batch(
        backdoored, stack, [RunSpec(seed=s, trace=True, adversary=trigger, threat=pair) for s in SEEDS]
    )
    curves[name] = [gained(a, c) for a, c in zip(attacked, clean, strict=True)]
    accuracies[name] = np.mean([run.accuracy for run in attacked], axis=0)
    lengths[name] = attacked[0].norms.numpy()

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), sharex=True)
for (name, values), colour in zip(curves.items(), (PINK, BLUE), strict=True):
    rounds = np.arange(len(values[0]))
    left.plot(rounds, np.mean(values, axis=0), color=colour, label=name)
    for one in values:
        left.plot(rounds, one, color=colour, lw=0.7, alpha=0.5)
left.plot(rounds[1:], accuracies["no defense"], color=BLACK, ls=":", label="accuracy, no defense")
for ax in (left, right):
    ax.axvspan(first, last + 1, color="#eeeeee", zorder=0)
left.set(
    xlabel="round",
    ylabel="success beyond the honest model",
    title="Attackers act in the grey rounds",
    ylim=(-0.05, 1.05),
)
left.legend(frameon=False, fontsize=8, loc="center right")
shown = lengths["no defense"]
right.semilogy(np.arange(1, len(shown) + 1), shown[:, 2:], color=BLUE, lw=0.8)
right.semilogy(np.arange(1, len(shown) + 1), shown[:, :2], color=ORANGE, lw=1.6)
right.plot([], [], color=BLUE, label="honest clients")
right.plot([], [], color=ORANGE, label="the two attackers")
right.set(xlabel="round", ylabel="length of the update", title="What gives them away")
right.legend(frameon=False, fontsize=8)
fig.tight_layout()
plt.show()
for name, values in curves.items():
    during = mean_over_seeds([one[last + 1] for one in values])
    after = mean_over_seeds([one[-1] for one in values])
    print(
        f"{name:11s} when they stop {during.value:+.2f} [{during.low:.2f}, {during.high:.2f}], "
        f"twelve rounds later {after.value:+.2f} [{after.low:.2f}, {after.high:.2f}]"
    )

# %% [markdown]
# The length gives them away: an update that is to replace the model must be several times as long as the others. A bound on lengths
# leaves nothing of the trigger here. What was planted is mostly forgotten once honest
# clients train alone: in a model of 36 parameters there is little that honest training does not move.

# %% [markdown]
# ## The standard matrix, read together
#
# `qflsec matrix run standard --report standard.html` crosses thirteen attacks with twelve stacks in some minutes. Here is a part of it, the
# attacks by corrupted clients on one pipeline against three stacks, and pairwise masks in the place of its `secagg`.

# %%
spec = load_spec("standard")
compared = ("label-flip", "angle-wrap", "model-replacement", "distributed-trigger")
chosen = ("none", "norm-bound", "nnm+trimmed-mean")
cut = spec.model_copy(
    update={
        "attacks": tuple(a for a in spec.attacks if a.pipeline == "training" and a.name in compared),
        "stacks": {**{name: spec.stacks[name] for name in chosen}, "masked": ({"name": "masked"},)},
    }
)
result = run(cut, Path(tempfile.mkdtemp()) / "standard.sqlite", jobs=1)
names, columns = [a.label for a in result.attacks], [s.name for s in result.stacks]
print(f"{'':28s}" + "".join(f"{column:>24s}" for column in columns))
for name in names:
    row = f"{name:28s}"
    for column in columns:
        cell = result.cells[name, column]
        value = cell.advantage
        row += (
            f"{value.value:+8.2f} [{value.low:5.2f},{value.high:5.2f}]"
            if value is not None
            else f"{cell.state:>24s}"
        )
    print(row)

# %% [markdown]
# Read it by columns. `norm-bound` stops what is long. `nnm+trimmed-mean` stops what is far from most. `masked` hides single
# updates from the server, and so from every rule that would look at them: its column is the one without a defense. Hiding and checking
# pull in opposite directions, here as in notebook 1.

# %% [markdown]
# ## Exercises
#
# **1.** Krum needs more than $2f + 2$ clients. Ten clients take part. What is the largest number of liars f for which its promise holds? Set
# `answer_1`.

# %% tags=["answer"]
answer_1 = 3

# %% tags=["check"]
assert answer_1 is not ..., "set answer_1 first"
assert 2 * answer_1 + 2 < 10, "the promise ends before that"
assert not 2 * (answer_1 + 1) + 2 < 10, "one more would do"
print(krum(torch.cat([honest, honest[:4]]), f=answer_1))

# %% [markdown]
# **2.** Three of ten equal clients wrap their angles, and the server's learning rate is 1. By how many whole turns must each client wrap,
# at least, so that the mean stands *exactly* half a period away? Set `answer_2`.

# %% tags=["answer"]
answer_2 = 5

# %% tags=["check"]
assert answer_2 is not ..., "set answer_2 first"
moved = [(3 * k / 10) % 1 for k in range(1, 11)]
assert isinstance(answer_2, int), "whole turns"
assert abs((3 * answer_2 / 10) % 1 - 0.5) < 1e-9, (
    f"that moves the mean by {(3 * answer_2 / 10) % 1:.1f} periods"
)
assert answer_2 == 1 + int(np.argmin(np.abs(np.array(moved) - 0.5))), "fewer would do"
print([round(m, 1) for m in moved])

# %% [markdown]
# **3.** A median of ten numbers is the mean of the two in the middle. Nine clients send 0 or 1 honestly, five of them 0. What is the smallest
# number of liars, in their place, that can move the median of the ten beyond any bound? Set `answer_3`.

# %% tags=["answer"]
answer_3 = 5


# %% tags=["check"]
def can_be_moved(n_liars):
    """Whether liars among ten clients can send the median anywhere."""
    honest_part = torch.tensor([0.0, 1.0] * 5)[: 10 - n_liars, None]
    return float(coordinate_median(torch.cat([honest_part, torch.full((n_liars, 1), 1e9)]), f=4)) > 1e6


assert answer_3 is not ..., "set answer_3 first"
assert can_be_moved(answer_3), "the median stays among honest values"
assert not can_be_moved(answer_3 - 1), "fewer would do"
print([(n, can_be_moved(n)) for n in range(8)])
