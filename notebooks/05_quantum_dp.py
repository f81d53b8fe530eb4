# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Quantum differential privacy, DP training, and one account of it all
#
# **Threat model of this notebook.** Somebody reads what a training run releases and wants to know of *one record* whether it was
# in, or which of two values it had. In the first half this observer sees measurement outcomes of circuits that encode the record,
# and may choose the measurement. In the second half it is the network, the server, the server with clients, or the public, as named.
# It knows the circuits, the noise and all other records, and computes without limit unless a line says otherwise. It does not sit
# inside the record's own client, and it does not see the noise before it is added.
#
# The question is: **which noise earns an epsilon, for what, and against whom?** All noise here is simulated, from known seeds: each
# guarantee is one of the mechanism, and the ledger says so.
#
# **After it you can** check an epsilon by its witness; say which noise earns one and which earns nothing; count the copies of a run;
# read an account of several guarantees without adding them up. **Time:** 90 minutes to read, 45 for the exercises; it runs in about
# two minutes.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats

from qflsec.accounting import dp_statement
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.membership import LossThreshold
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd, GradientNoise
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import EXACT, Execution, build_model
from qflsec.protocols.links import QkdAesLink
from qflsec.protocols.qdp import (
    Copies,
    account_run,
    angle_distance,
    epsilon_of_kappa,
    identity,
    measurement_by_name,
    membership_ceiling,
    noise_by_name,
    pure_epsilon,
    run_ceiling,
    search_kappa,
    single_copy,
)
from qflsec.protocols.qdp import closed_forms as forms
from qflsec.protocols.qdp.composition import binomial_epsilon, composed_delta, gaussian_epsilon
from qflsec.protocols.qdp.mechanisms import DepolarizingNoise
from qflsec.protocols.secagg import SecAgg
from qflsec.threat import coalition, honest_but_curious_server, public_final_model, wire_eavesdropper

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"

# %% [markdown]
# ## What epsilon means for a state
#
# One feature of an angle encoding moves by 1 radian. Its two states are then a trace distance $\tau = \sin(1/2)$ apart. An epsilon
# for this change says: *no outcome of any measurement is more than $e^\varepsilon$ times as likely under one state as under the
# other.* The engine returns the number, and with it a **witness**: two states that far apart and an outcome that attain it. Anybody
# can check that by hand.

# %%
tau = angle_distance(1.0)
noise = noise_by_name("depolarizing:0.2", 1)  # rho -> (1 - p) rho + p I / 2
bit = measurement_by_name("bit0", 1)
noisy = pure_epsilon(noise.channel, tau, adjacency="pure", measurement=bit)
anything = pure_epsilon(noise.channel, tau, adjacency="pure", known_kappa=noise.known_kappa)
clean = pure_epsilon(identity(1), tau, adjacency="pure", measurement=bit)
print(f"tau {tau:.4f}; noise {noise}, {noise.place}")
for name, found in (
    ("noise, bit read", noisy),
    ("noise, any measurement", anything),
    ("no noise, bit read", clean),
):
    first, second = found.witness.chances(found.channel)
    print(
        f"{name:22s} epsilon {found.epsilon:.6f} ({found.status}); witness: {first:.4f} against {second:.4f}, "
        f"distance {found.witness.distance:.4f}, ln ratio {found.check():.6f}"
    )


# %%
def bloch(state):
    """The x and z components of a qubit's Bloch vector."""
    return float(2 * state[0, 1].real), float((state[0, 0] - state[1, 1]).real)


fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), gridspec_kw={"width_ratios": [1, 1.3]})
turn = np.linspace(0, 2 * np.pi, 200)
left.plot(np.sin(turn), np.cos(turn), color="#999999", lw=1, label="pure states")
left.plot(0.8 * np.sin(turn), 0.8 * np.cos(turn), color="#999999", lw=1, ls="--", label="after the noise")
for state, colour, name in (
    (noisy.witness.rho, BLUE, r"$\rho$"),
    (noisy.witness.sigma, ORANGE, r"$\sigma$"),
):
    x, z = bloch(state)
    left.plot(x, z, "o", color=colour)
    left.plot(*bloch(noise.channel(state)), "o", color=colour, mfc="white")
    left.annotate(name, (1.14 * x, 1.14 * z), ha="center", va="center", color=colour, fontsize=12)
left.axhline(0, color="#dddddd", lw=0.8, zorder=0)
left.axvline(0, color="#dddddd", lw=0.8, zorder=0)
left.set(
    aspect="equal", ylim=(-1.3, 1.1), xlabel="Bloch x", ylabel="Bloch z (the bit)", title="The witness pair"
)
left.legend(frameon=False, fontsize=8, loc="center")
for place, found in enumerate((clean, noisy)):
    chances = found.witness.chances(found.channel)
    for shift, chance, colour in ((-0.18, chances[0], BLUE), (0.18, chances[1], ORANGE)):
        right.bar(place + shift, chance, width=0.34, color=colour)
        right.text(place + shift, chance + 0.008, f"{chance:.3f}", ha="center", fontsize=9)
    ratio = (
        "infinite" if math.isinf(found.epsilon) else f"{found.epsilon:.3f} = ln {math.exp(found.epsilon):.2f}"
    )
    right.text(place, max(chances) + 0.04, rf"$\varepsilon$ = {ratio}", ha="center", fontsize=9)
right.bar(0, 0, color=BLUE, label=r"under $\rho$")
right.bar(0, 0, color=ORANGE, label=r"under $\sigma$")
right.set_xticks([0, 1], ["no noise: its own witness", "depolarising, p = 0.2"])
right.set(
    ylabel="probability of the outcome", ylim=(0, 0.5), title="The outcome that tells the two apart best"
)
right.legend(frameon=False, loc="upper left")
fig.tight_layout()
plt.show()

# %% [markdown]
# Not the *difference* of the probabilities counts but their *ratio*: the noise moves both by little, but it puts a floor under the
# smaller one. Without noise some state never shows the outcome, and one look at it settles the matter.

# %% [markdown]
# How much noise does it take? With `ipywidgets` installed the next cell has a slider for p; otherwise it shows four values.


# %%
def at(p):
    """The epsilon of the bit, with the two chances that attain it."""
    channel = noise_by_name(f"depolarizing:{p}", 1).channel
    found = pure_epsilon(channel, tau, adjacency="pure", measurement=bit)
    first, second = found.witness.chances(channel)
    print(f"p = {p:<4}: epsilon {found.epsilon:6.3f}, attained by {first:.3f} against {second:.3f}")


try:
    from ipywidgets import interact
except ImportError:
    for p in (0.05, 0.2, 0.5, 0.9):
        at(p)
else:
    interact(at, p=(0.01, 0.99, 0.01))

# %% [markdown]
# ## Which noise gives any epsilon
#
# Exactly that noise which leaves every outcome possible for every state. Depolarising noise does. Relaxation (T1) and dephasing (T2)
# at zero temperature do not, however strong they are: a decayed qubit is never found in $|1\rangle$, and a dephased one still reads as
# it was. With a finite temperature there is a floor.

# %%
table = [
    ("depolarizing:0.1", 1),
    ("pennylane-depolarizing:0.1", 1),
    ("global-depolarizing:0.1", 3),
    ("generalized-amplitude-damping:gamma=0.3,ground=0.75", 1),
    ("thermal-relaxation:t1=100,t2=80,duration=10,excited=0.02", 1),
    ("thermal-relaxation:t1=100,t2=80,duration=10,excited=0", 1),
    ("amplitude-damping:0.5", 1),
    ("phase-damping:0.9", 1),
    ("bit-flip:0.1", 1),
]
print("noise, any measurement, all states within tau = 0.1".ljust(78), "epsilon  rests on")
for text, n in table:
    kind = noise_by_name(text, n)
    found = pure_epsilon(kind.channel, 0.1, known_kappa=kind.known_kappa)
    print(f"{kind!s:70s} n={n} {found.upper:11.6f}  {found.status}: {found.reason}")

# %% [markdown]
# The first two lines are the same figure "0.1" in two conventions: PennyLane's q is not the literature's p. The names say which is
# meant, and nothing converts silently.

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8))
shares = np.linspace(0.01, 0.99, 99)
for n, colour in ((1, BLACK), (2, BLUE), (3, ORANGE)):
    local = [epsilon_of_kappa(forms.kappa_local_depolarizing(n, p), 0.1) for p in shares]
    globe = [epsilon_of_kappa(forms.kappa_global_depolarizing(n, p), 0.1) for p in shares]
    left.plot(shares, local, color=colour, label=f"each of {n} qubits" if n > 1 else "one qubit")
    if n > 1:
        left.plot(shares, globe, color=colour, ls="--", label=f"{n} qubits together")
for p in (0.1, 0.5, 0.9):
    for text in ("local", "global"):
        searched = search_kappa(noise_by_name(f"{text}-depolarizing:{p}", 2).channel)
        left.plot(p, epsilon_of_kappa(searched.value, 0.1), "o", ms=5, mfc="none", color=BLACK)
left.plot([], [], "o", ms=5, mfc="none", color=BLACK, label="search, 2 qubits")
left.set(
    xlabel="p of the depolarising noise",
    ylabel=r"$\varepsilon$ of one copy (nats)",
    ylim=(0, 8),
    title=r"Depolarising noise, any measurement, $\tau$ = 0.1",
)
left.legend(frameon=False, fontsize=8)

excited = np.geomspace(1e-4, 0.5, 60)
gamma = 0.3
truth = [epsilon_of_kappa(forms.kappa_generalized_amplitude_damping(gamma, 1 - w), 0.1) for w in excited]
published = epsilon_of_kappa(forms.published_kappa_generalized_amplitude_damping(gamma), 0.1)
right.semilogx(excited, truth, color=BLUE, label="exact")
right.axhline(published, color=ORANGE, ls="--", label="published formula")
right.fill_between(
    excited, published, truth, color=ORANGE, alpha=0.15, label="more is attained than it allows"
)
witness = pure_epsilon(noise_by_name(f"generalized-amplitude-damping:{gamma},0.75", 1).channel, 0.1)
right.plot(0.25, witness.check(), "o", color=BLACK, ms=5, label="from a witness alone")
right.set(
    xlabel=r"weight of $|1\rangle$ in the thermal state (infinite $\varepsilon$ at 0)",
    ylabel=r"$\varepsilon$ of one copy (nats)",
    ylim=(0, 7),
    title=rf"Generalised amplitude damping, $\gamma$ = {gamma}, $\tau$ = 0.1",
)
right.legend(frameon=False, fontsize=8)
fig.tight_layout()
plt.show()

# %% [markdown]
# ### Published formulas beside the truth
#
# A formula that is too large wastes noise. A formula that is too small promises privacy that is not there. One witness is enough to
# refute it.

# %%
gad = noise_by_name("generalized-amplitude-damping:0.3,0.75", 1)
pad = noise_by_name("phase-amplitude-damping:0.3,0.6,0.5", 1)
local = noise_by_name("local-depolarizing:0.1", 2)
claims = [
    ("generalised amplitude damping", gad, forms.published_kappa_generalized_amplitude_damping(0.3)),
    ("phase-amplitude damping", pad, forms.published_kappa_phase_amplitude_damping(0.3, 0.6)),
    ("local depolarising, 2 qubits", local, forms.published_kappa_local_depolarizing(2, 0.1)),
]
for name, kind, kappa in claims:
    said = epsilon_of_kappa(kappa, 0.1)
    attained = pure_epsilon(kind.channel, 0.1, known_kappa=kind.known_kappa).check()
    verdict = "UNSAFE" if said < attained - 1e-9 else "safe, but loose"
    print(f"{name:30s} published {said:.4f}, a pair attains {attained:.4f}: {verdict}")

# %% [markdown]
# ## Why shot noise does not
#
# "Few shots are random, so they protect" sounds right and is false. If an outcome has probability 0 under one record and
# $\Delta$ under the other, seeing it once identifies the record, and $n$ shots show it with probability
# $\delta = 1 - (1 - \Delta)^n$, **at every epsilon**. Shot noise without a floor is refused, with the reason.

# %%
shotnoise = single_copy(identity(1), 0.1, measurement=bit)
print(account_run(shotnoise, Copies(shots=100, circuits=1)).refusal)

floored = {
    p: single_copy(noise_by_name(f"depolarizing:{p}", 1).channel, 0.1, measurement=bit) for p in (0.1, 0.5)
}
shots = np.unique(np.geomspace(1, 3000, 60).astype(int))
fig, ax = plt.subplots(figsize=(6.8, 3.4))
lost = [1 - (1 - 0.1) ** int(n) for n in shots]
ax.loglog(shots, lost, color=ORANGE, label=r"no floor: $\delta$ at every $\varepsilon$")
for (p, single), colour in zip(floored.items(), (BLUE, GREEN), strict=True):
    spent = [composed_delta(int(n), single.epsilon, single.variation, 10.0) for n in shots]
    ax.loglog(
        shots,
        [d if d > 1e-9 else np.nan for d in spent],
        color=colour,
        label=rf"depolarising p = {p}: at most this $\delta$ at $\varepsilon$ = 10",
    )
ax.axhline(1e-5, color=BLACK, lw=0.8, ls=":")
ax.text(1.1, 1.5e-5, r"$\delta = 10^{-5}$", fontsize=9)
ax.set(xlabel="shots of one circuit that encodes the record", ylabel=r"$\delta$", ylim=(1e-8, 2))
ax.set_title(r"What shots lose, $\tau$ = 0.1 (all states, one bit read)", pad=54)
ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
plt.show()

# %% [markdown]
# The floor helps, but only for few shots. Shot noise taken *as Gaussian noise* gives a number too, and it is too small: at ten shots
# it lies below what the binomial distribution really lets an observer tell.

# %%
p, n = 0.1, 10
low, change = p / 2, (1 - p) * 0.1
print(f"Gaussian approximation  {gaussian_epsilon(n, low, change, 1e-5):.4f}   (no guarantee)")
print(f"attained by counting    {binomial_epsilon(n, low + change, low, 1e-5):.4f}")
print(f"proved for the run      {account_run(floored[0.1], Copies(shots=n, circuits=1)).epsilon:.4f}")

# %% [markdown]
# ## The copy-aware account
#
# The literature quotes the epsilon of *one measured copy*. A gradient measures many: shots, times circuits of the gradient rule, times
# uses of the record, times rounds. Every one of them is another look at the same record.

# %%
rule = {"parameters": 24, "rounds": 20}
single = floored[0.1]
print(f"single copy                 epsilon {single.epsilon:.4f}")
for gradient in ("none", "spsa", "parameter-shift"):
    copies = Copies.of_rule(gradient, shots=1000, **rule)
    run = account_run(single, copies)
    print(
        f"{gradient:16s} {copies.total:9,} copies: epsilon {run.epsilon:11,.1f} at delta {run.delta:g} "
        f"({run.kind}, {run.method}; a threshold on counts attains {run.attained_epsilon:,.1f})"
    )
print(
    "analytic expectation:",
    account_run(single, Copies.of_rule("parameter-shift", shots=None, **rule)).refusal,
)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8), sharey=True)
few = np.unique(np.geomspace(1, 1000, 7).astype(int))
for p, colour in ((0.1, BLACK), (0.5, BLUE), (0.9, ORANGE)):
    one = single_copy(noise_by_name(f"depolarizing:{p}", 1).channel, 0.1, measurement=bit)
    runs = [account_run(one, Copies.of_rule("parameter-shift", shots=int(n), **rule)) for n in few]
    left.plot(few, [r.epsilon for r in runs], color=colour, label=f"p = {p}: proved for the run")
    left.plot(few, [r.attained_epsilon for r in runs], "+", color=colour, ms=7)
    left.axhline(one.epsilon, color=colour, ls=":", lw=1)
left.plot([], [], color=BLACK, ls=":", lw=1, label="one copy")
left.plot([], [], "+", color=BLACK, ms=7, label="attained by counting")
left.set(
    xscale="log",
    yscale="log",
    xlabel="shots of each circuit",
    ylabel=r"$\varepsilon$ at $\delta = 10^{-5}$ (nats)",
    title="49 circuits, 20 rounds, one use of the record in each",
)
left.legend(frameon=False, fontsize=8, loc="upper left")
signal = np.geomspace(1e-3, 0.9, 10)
for shots_each, colour in ((1, GREEN), (10, PINK), (1000, BLACK)):
    values = []
    for kept in signal:
        one = single_copy(noise_by_name(f"depolarizing:{1 - kept}", 1).channel, 0.1, measurement=bit)
        values.append(account_run(one, Copies.of_rule("parameter-shift", shots=shots_each, **rule)).epsilon)
    right.plot(signal, values, color=colour, label=f"{shots_each} shots" if shots_each > 1 else "1 shot")
for ax in (left, right):
    ax.axhspan(math.log(19999), 1e7, color=ORANGE, alpha=0.08, zorder=0)
right.text(1.1e-3, 1.2e6, "membership ceiling above 0.9999: vacuous", fontsize=8, color=ORANGE)
right.set(
    xscale="log",
    xlabel="1 - p: what is left of every expectation value",
    ylim=(5e-3, 5e6),
    title="The noise that a run's epsilon needs",
)
right.legend(frameon=False, fontsize=8, loc="lower right")
fig.tight_layout()
plt.show()

# %% [markdown]
# Read the right panel from the bottom. At 1000 shots, a run's epsilon of a few nats leaves less than one hundredth of every
# expectation value, while 1000 shots resolve a value to about 0.03. With a single shot a tenth may be left, and the standard error is
# 1. Either way the signal of one circuit is about a tenth of its sampling error; where the noise is strong, epsilon depends on little
# else, and no choice of shots gets round it. The noise with which one can train, p = 0.1, protects nothing.
#
# $\tau$ = 0.1 bounds small changes of the record alone. Membership needs a $\tau$ that covers any two records:

# %%
for distance in (0.1, 1.0):
    for text, shots_each in (("depolarizing:0.1", 1000), ("depolarizing:0.999", 10)):
        one = single_copy(noise_by_name(text, 1).channel, distance, measurement=bit)
        run = account_run(one, Copies.of_rule("parameter-shift", shots=shots_each, **rule))
        print(
            f"{text:18s} tau {distance:3g}, {shots_each:4d} shots, epsilon {run.epsilon:12,.2f}: {run_ceiling(run)}"
        )

# %% [markdown]
# ## The same noise as a layer of a run
#
# `DepolarizingNoise` puts the noise on every circuit that clients execute in training. Its row in the ledger is that of all copies,
# and it exists only where finite shots and parameter-shift gradients are all that depends on the features. An analytic expectation,
# which simulators give for free, earns **none**, with the same noise. A target epsilon sets the noise (learning rate unchanged).


# %%
def device(execution):
    """Two qubits, two layers, twenty records for each of five clients."""
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=100, nonmembers=0, auxiliary=100, test=200),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
        federation=FederationConfig(n_clients=5, rounds=20, learning_rate=1.0),
        execution=execution,
    )


sampled = Execution(shots=100, gradient="parameter-shift")
for name, execution, layer in (
    ("100 shots, no noise", sampled, None),
    ("100 shots, p = 0.1", sampled, DepolarizingNoise(p=0.1)),
    ("analytic, p = 0.1", EXACT, DepolarizingNoise(p=0.1)),
    ("100 shots, target epsilon 10", sampled, DepolarizingNoise(target_epsilon=10.0)),
):
    stack = Stack(name="device", client=() if layer is None else (layer,))
    runs = run_batch(device(execution), stack, [RunSpec(seed=s) for s in range(5)])
    found = mean_over_seeds([run.accuracy[-1] for run in runs], within=(0.0, 1.0))
    account = runs[0].account(honest_but_curious_server())
    strength = f"p = {runs[0].stack.client[0].p:.4f}" if layer else ""
    proved = f"epsilon {account.bounds[0].epsilon:,.2f}" if account.bounds else "no row"
    print(
        f"{name:29s} {strength:11s} {proved:19s} accuracy {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    )
    if name.startswith(("analytic", "100 shots, p")):
        own = [text for text in account.unbounded if text.startswith("depolarizing-noise")]
        print("   ", "\n    ".join([dp_statement(row) for row in account.bounds] + own))

# %% [markdown]
# ## Utility against epsilon: DP-SGD
#
# Noise can be added to *clipped gradients* instead, after the measurement; then shots cost nothing, as long as outcomes stay with the
# client. Each client clips every record's gradient and adds Gaussian noise to the sum, in every round. The noise follows from the
# target epsilon of the whole run. Ten clients with twenty records each train a four-qubit classifier on breast cancer; features are
# scaled by records that nobody trains on, so that scaling spends nothing.

# %%
SEEDS = range(5)
TARGETS = (50.0, 10.0, 5.0, 2.0, 1.0)
DELTA = 1e-3


def dp(clip_norm, target):
    """A stack by its target: None is no defense, 0 clips and adds nothing."""
    if target is None:
        return Stack(name="none")
    noise = {"noise_multiplier": 0.0} if target == 0 else {"target_epsilon": target}
    return Stack(name=f"{target:g}", client=(DpSgd(clip_norm=clip_norm, delta=DELTA, **noise),))


training = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=200, nonmembers=0, auxiliary=100, test=200),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    federation=FederationConfig(n_clients=10, rounds=30, learning_rate=0.5),
)
utility = {}
for target in (None, 0, *TARGETS):
    utility[target] = run_batch(training, dp(2.0, target), [RunSpec(seed=s) for s in SEEDS])


def accuracy(runs):
    return mean_over_seeds([run.accuracy[-1] for run in runs], within=(0.0, 1.0))


def loss_of(runs):
    """How much accuracy a stack costs, seed by seed."""
    return mean_over_seeds(
        [a.accuracy[-1] - b.accuracy[-1] for a, b in zip(runs, utility[None], strict=True)]
    )


labels = [run.records("test").labels.float().mean().item() for run in utility[None]]
majority = float(np.mean([max(share, 1 - share) for share in labels]))
for target, runs in utility.items():
    name = "no defense" if target is None else "clipping alone" if target == 0 else f"epsilon {target:g}"
    sigma = "" if target is None else f"noise multiplier {runs[0].stack.client[0].noise_multiplier:6.2f}"
    a, c = accuracy(runs), loss_of(runs)
    print(
        f"{name:15s} {sigma:25s} accuracy {a.value:.3f} [{a.low:.3f}, {a.high:.3f}]"
        f"  change {c.value:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"
    )

# %% [markdown]
# The clip norm decides what the noise hides: the noise is proportional to it, and what is longer is cut. With `ipywidgets` installed the
# next cell has a slider; otherwise it shows three clip norms.

# %%
from qflsec.models import per_sample_gradients

held = [utility[None][0].client_records(index) for index in range(10)]
features, labels = (
    torch.cat(part) for part in zip(*((own.features, own.labels) for own in held), strict=True)
)
start = training.model.initial(torch.Generator().manual_seed(0))
gradients = per_sample_gradients(training.model, start, features, labels)


def clipped(clip_norms):
    """Lengths of the records' gradients at the start, and the part of their mean that a clip norm leaves."""
    _, ax = plt.subplots(figsize=(6.5, 2.6))
    norms = gradients.norm(dim=1)
    ax.hist(norms.numpy(), bins=30, color=BLUE)
    for clip_norm, colour in zip(clip_norms, (ORANGE, GREEN, PINK), strict=False):
        factor = (clip_norm / norms).clamp(max=1.0)
        left = (gradients * factor[:, None]).mean(dim=0).norm() / gradients.mean(dim=0).norm()
        label = f"clip norm {clip_norm:g}: {float((norms > clip_norm).float().mean()):.0%} cut, mean {float(left):.2f} as long"
        ax.axvline(clip_norm, color=colour, label=label)
    ax.set(xlabel="length of a record's gradient", ylabel="records")
    ax.legend(frameon=False, fontsize=8)
    plt.show()


try:
    from ipywidgets import interact
except ImportError:
    clipped((0.1, 0.3, 1.0))
else:
    interact(lambda clip_norm: clipped((clip_norm,)), clip_norm=(0.05, 1.5, 0.05))

# %% [markdown]
# Beside it, what an attack gains. Utility was measured where the model learns well; membership is measured where the undefended model
# *over-fits*, on two records for each client: an attack that has no power without a defense shows nothing about the defense. The
# attack sees the public model and scores records by their loss.
#
# It stands beside its **ceiling**. The game compares a member with a record that was not used, which is to *replace* one by the other:
# a removal and an addition. $(\varepsilon, \delta)$ becomes $(2\varepsilon, (1 + e^\varepsilon)\delta)$ then, and already at 5 it
# forbids nothing. The Gaussian mechanism itself allows a sharper figure: $T$ releases of sensitivity $2C$ under noise $\sigma C$ give
# no test an advantage above $2\Phi(\sqrt{T}/\sigma) - 1$ (Gaussian differential privacy; Dong, Roth, Su 2022). Splits are drawn at
# random without regard to class, so that member and non-member can trade places.

# %%
few_records = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=20, nonmembers=20, auxiliary=60, test=150),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 10, "encoder": "reuploading", "scale": 6.0}),
    federation=FederationConfig(n_clients=10, rounds=40, local_steps=2, learning_rate=0.5),
)
attack, public = LossThreshold(), public_final_model()


def advantage(runs):
    found = []
    for run in runs:
        asked, truth = challenge_for(attack, run, seed=run.spec.seed)
        found.append(score_claim(attack(run.view(public), asked), truth).advantage)
    return mean_over_seeds(found, within=(-1.0, 1.0))


membership = {}
for target in (None, 0, *TARGETS):
    runs = run_batch(few_records, dp(2.0, target), [RunSpec(seed=s) for s in SEEDS])
    multiplier = math.nan if target is None else runs[0].stack.client[0].noise_multiplier
    membership[target] = (advantage(runs), multiplier)
steps = few_records.federation.rounds * few_records.federation.local_steps


def sharp(multiplier):
    """The ceiling from the noise itself, for replacing a record."""
    return 1.0 if not multiplier > 0 else float(2 * stats.norm.cdf(math.sqrt(steps) / multiplier) - 1)


for target, (a, multiplier) in membership.items():
    name = "no defense" if target is None else "clipping alone" if target == 0 else f"epsilon {target:g}"
    by_epsilon = membership_ceiling(2 * target, min(1.0, (1 + math.exp(target)) * DELTA)) if target else 1.0
    print(
        f"{name:15s} advantage {a.value:+.3f} [{a.low:+.3f}, {a.high:+.3f}]  ceiling: {sharp(multiplier):.3f} "
        f"by the noise, {by_epsilon:.3f} by (epsilon, delta)"
    )

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8))
where = np.arange(len(TARGETS) + 2)
names = ["none", "clip\nonly", *[f"{t:g}" for t in TARGETS]]
for place, target in zip(where, (None, 0, *TARGETS), strict=True):
    a = accuracy(utility[target])
    left.errorbar(
        place, a.value, yerr=[[a.value - a.low], [a.high - a.value]], fmt="o", color=BLUE, capsize=3
    )
    left.plot(
        [place + 0.12] * len(SEEDS), [r.accuracy[-1] for r in utility[target]], ".", color="#999999", ms=4
    )
    m, multiplier = membership[target]
    right.errorbar(
        place, m.value, yerr=[[m.value - m.low], [m.high - m.value]], fmt="o", color=ORANGE, capsize=3
    )
    right.plot([place - 0.3, place + 0.3], [sharp(multiplier)] * 2, color=BLACK, lw=1.5)
left.axhline(majority, color=PINK, ls="--", lw=1, label="always the larger class")
left.plot([], [], "o", color=BLUE, label="mean, 95 % t interval")
left.plot([], [], ".", color="#999999", label="the five seeds")
left.set(ylabel="test accuracy", ylim=(0, 1.1), title="Utility: 20 records for each client")
right.plot([], [], "o", color=ORANGE, label="measured, 95 % t interval")
right.plot([], [], color=BLACK, lw=1.5, label="ceiling (replace one record)")
right.axhline(0, color="#999999", lw=0.8)
right.set(ylabel="advantage of the attack", ylim=(-0.6, 1.2), title="Membership: 2 records for each client")
for ax in (left, right):
    ax.set_xticks(where, names)
    ax.set_xlabel(rf"target $\varepsilon$ of the run at $\delta$ = {DELTA:g} (zero out one record)")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
fig.tight_layout()
plt.show()

# %% [markdown]
# Accuracy falls by four points at an epsilon of 2 and is gone at 1: twenty records for each client give little to hide in. The attack
# fails long before its ceiling falls. At epsilon 50 its gain can no longer be told from zero (of seven intervals, one that just misses
# zero, as at 5, is no surprise), and yet the proof excludes no better attack there. So a measured point is never a promise.
#
# Clipping alone has no epsilon, and neither has noise on an update that nothing bounds. Such a layer gets no row:

# %%
heuristic = run_batch(
    training, Stack(name="heuristic", client=(GradientNoise(noise_std=0.1),)), [RunSpec(seed=0)]
)[0]
print(heuristic.account(honest_but_curious_server()))

# %% [markdown]
# ## The ledger of a layered stack
#
# Now everything at once: DP-SGD at the clients, secure aggregation between them, and links under keys that each client distils with
# the server by BB84 (a simulated channel). **There is no such thing as "the epsilon of the stack".** QKD's epsilon is the distance of
# a key from a perfect one; secure aggregation has an anonymity set; DP has an epsilon of a record. They stand side by side, and each
# observer gets an account of its own.

# %%
layered = Stack(
    name="layered",
    client=(
        DpSgd(clip_norm=2.0, target_epsilon=5.0, delta=DELTA),
        SecAgg(),
        QkdAesLink(source="bb84", budget_bits=2048),
    ),
)
five = Pipeline(
    data=training.data,
    model=training.model,
    federation=FederationConfig(n_clients=5, rounds=30, learning_rate=0.5),
)
result = run_batch(five, layered, [RunSpec(seed=0)])[0]
print(
    result.outcome,
    f"accuracy {result.accuracy[-1]:.3f}, {result.costs['qkd_key_bits']:,.0f} bits of key used",
)
print()
print(result.account(wire_eavesdropper()))

# %%
print(result.account(honest_but_curious_server()))

# %% [markdown]
# The server has four DP rows: two accountants (the target of 5 is met by the tighter one), each without and with trust. The smaller
# epsilon counts the noise of the other clients in the sum, holds only if they add it, and only while the masks hold. Corrupt all other
# clients, and trust and masks are gone. What is left is the noise that the record's own client added.

# %%
observers = {
    "network": wire_eavesdropper(),
    "server": honest_but_curious_server(),
    "server + 2 clients": coalition(server=True, n=2),
    "server + 4 clients": coalition(server=True, n=4),
    "public": public_final_model(),
}


def reads(threat):
    """The smallest sum of updates that this observer can read, in words."""
    items = result.view(threat).readable("update", "aggregate")
    smallest = min((item.k for item in items if item.k > 0), default=0)
    words = {0: "reads the model", 1: "reads one client's update"}
    return words.get(smallest, f"reads sums over {smallest}")


fig, ax = plt.subplots(figsize=(7.2, 3))
for place, (name, threat) in enumerate(observers.items()):
    account = result.account(threat)
    rows = [r for r in account.bounds if r.guarantee == "differential privacy" and "PRV" in r.accountant]
    alone = min(r.epsilon for r in rows if r.trusted.startswith("nobody"))
    trusting = [r.epsilon for r in rows if not r.trusted.startswith("nobody")]
    ax.plot(alone, place, "o", color=BLUE)
    if trusting:
        ax.plot(trusting, [place] * len(trusting), "o", mfc="white", color=ORANGE)
    ax.text(6.1, place, reads(threat), va="center", fontsize=9)
ax.plot([], [], "o", color=BLUE, label="trusting nobody but the own client")
ax.plot([], [], "o", mfc="white", color=ORANGE, label="trusting the other honest clients' noise")
ax.set_yticks(range(len(observers)), list(observers))
ax.set(
    xlabel=rf"proved $\varepsilon$ of one record at $\delta$ = {DELTA:g} (PRV accountant)",
    xlim=(0, 6),
    ylim=(len(observers) - 0.5, -0.5),
)
ax.set_title("One run, five observers", pad=28)
ax.legend(frameon=False, fontsize=8, ncol=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
plt.show()
for name in ("server + 2 clients", "server + 4 clients", "public"):
    print(result.account(observers[name]))
    print()

# %% [markdown]
# ## What nobody's proof covers
#
# - **A client as a whole.** All rows above protect *one record*. A client with twenty similar records is not hidden by them; that
#   takes client-level noise (`dp-fedavg`, `local-dp`), which costs more.
# - **What was chosen before the run.** Features, circuit, learning rate and clip norm were tuned by looking at this data set.
# - **Real arithmetic.** The proofs take noise as real numbers; floating point is outside them. (Rounding before the masks is counted:
#   where a client's noise is below a few steps of the grid, the others' noise earns nothing.) And the noise of a laboratory run is drawn from a known seed: a deployment needs noise that nobody can recompute.
# - **What holds of everybody.** That a tumour which looks like this is usually malignant is what the model is *for*; no epsilon hides
#   it.
# - **Devices.** The keys' proof is one of the protocol, with simulated photons; a light source or a detector that leaks is notebook 2.
# - **The noise of a real quantum computer.** It drifts, and its model is an estimate. A row for noise on circuits trusts the device to
#   have at least this noise; against a floor that is not guaranteed there is no epsilon.

# %% [markdown]
# ## Exercises
#
# **1.** A client wants to let a device's noise protect its records: local depolarising noise with p = 0.9, one bit read, *any* two records
# ($\tau$ = 1). It trains by SPSA (three circuits) for two rounds, its record in use once in each. How many shots may each
# circuit have at most, so that the run's epsilon at $\delta = 10^{-5}$ stays at or below 8? Set `answer_1`; the next cell checks it.

# %% tags=["answer"]
answer_1 = 12


# %% tags=["check"]
def spent(shots):
    one = single_copy(noise_by_name("depolarizing:0.9", 1).channel, 1.0, measurement=bit)
    copies = Copies.of_rule("spsa", parameters=24, shots=shots, rounds=2)
    return account_run(one, copies, delta=1e-5).epsilon


assert answer_1 is not ..., "set answer_1 first"
assert spent(answer_1) <= 8, "too many: the copies add up"
assert spent(answer_1 + 1) > 8, "more would do"
print([(n, round(spent(n), 3)) for n in (1, 6, 12, 100)])
print(
    "one copy:",
    round(single_copy(noise_by_name("depolarizing:0.9", 1).channel, 1.0, measurement=bit).epsilon, 3),
)

# %% [markdown]
# **2.** One measured copy, one bit read, any two records ($\tau$ = 1): which is the smallest p, to two decimals, at which local depolarising
# noise leaves an epsilon of at most 1? Set `answer_2`. Then predict what a hundred copies leave, and check it with `account_run`.

# %% tags=["answer"]
answer_2 = 0.54


# %% tags=["check"]
def of_one_copy(p):
    return single_copy(noise_by_name(f"depolarizing:{p}", 1).channel, 1.0, measurement=bit).epsilon


assert answer_2 is not ..., "set answer_2 first"
assert of_one_copy(answer_2) <= 1, f"epsilon is {of_one_copy(answer_2):.3f}"
assert of_one_copy(round(answer_2 - 0.01, 2)) > 1, "less noise would do"

# %% [markdown]
# **3.** Without a delta, which is the smallest epsilon, to one decimal, that still allows a membership attack an advantage of one half? Set
# `answer_3`. Hint: which mechanism is the worst one that an epsilon allows?

# %% tags=["answer"]
answer_3 = 1.1


# %% tags=["check"]
def most(epsilon):
    """Randomised response tells the truth with a chance of e^eps / (1 + e^eps): the worst that the epsilon allows."""
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    return 2 * truth - 1


assert answer_3 is not ..., "set answer_3 first"
assert most(answer_3) >= 0.5, f"it allows {most(answer_3):.3f} at most"
assert most(answer_3 - 0.1) < 0.5, "a smaller epsilon allows it too"
print([(e, round(most(e), 3)) for e in (0.1, 1.0, 2.0, 8.0)])
