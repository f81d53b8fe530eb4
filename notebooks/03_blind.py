# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Blind and verified quantum computation
#
# **Threat model of this notebook.** A client can prepare single qubits and do nothing else that is quantum. It delegates its
# circuits to a *quantum server* of unlimited power, which holds every qubit that it is sent, hears every angle that it is told, and
# may measure, guess or lie as it likes. The server must learn neither data nor parameters nor results, and a lie must be noticed.
# It does see the graph of the computation and its size, unless the graph is a brickwork, which shows the size alone. Nothing here
# stops a poisoned update, a backdoor, or whoever is given the trained model.
#
# All qubits are simulated. The protocol's parties are separate objects all the same: the server holds handles that it can entangle
# and measure, once.
#
# **After it you can** read a measurement pattern; say which pad hides what; choose a number of test rounds for a stated chance of being
# caught; say what blindness costs in shots. **Time:** 60 minutes to read, 40 for the exercises; it runs in about a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from qflsec.attacks.server import FlipOutcomes, WrongAngles
from qflsec.circuits import Angle, Circuit, Gate, build_circuit, pauli_z
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import build_model
from qflsec.protocols.blind import (
    AngleGrid,
    Blind,
    Delegated,
    Exact,
    Shots,
    Transcript,
    bias_bound,
    blind_expectations,
    compile_patterns,
    plan_tests,
    seen_delegations,
)
from qflsec.protocols.blind.homomorphic import Homomorphic, homomorphic_expectations
from qflsec.threat import honest_but_curious_quantum_server, malicious_quantum_server

plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"

# %% [markdown]
# ## A pattern
#
# A circuit becomes a *measurement pattern*: a graph of qubits that the server entangles and measures in a given order, each at an
# angle that the client tells it. Two qubits, an angle encoding and two layers of RY and CZ take ten nodes; only three qubits have to
# live at a time. The graph depends on the circuit and never on the value of an angle.

# %%
circuit = build_circuit(
    n_qubits=2, layers=2, ansatz="ry-cz", observables=tuple(pauli_z(w, 2) for w in range(2))
)
(delegation,) = compile_patterns(circuit)
pattern, graph = delegation.pattern, delegation.pattern.graph


def places(pattern):
    """Where each node is drawn: its wire, and how far along it stands."""
    firsts = sorted(set(range(pattern.graph.n_nodes)) - {s for s in pattern.successor if s is not None})
    found = {}
    for wire, first in enumerate(firsts):
        node, column = first, 0
        while node is not None:
            found[node] = (column, -wire)
            node, column = pattern.successor[node], column + 1
    return found


fig, ax = plt.subplots(figsize=(7.5, 2.2))
at = places(pattern)
rank = {node: k for k, node in enumerate(graph.order)}
for a, b in graph.edges:
    ax.plot(*zip(at[a], at[b], strict=True), color=BLACK, lw=1, zorder=1)
for node, (x, y) in at.items():
    kind = "data" if any(t.kind == "feature" for t in pattern.angles[node].terms) else None
    kind = "weight" if any(t.kind == "weight" for t in pattern.angles[node].terms) else kind
    colour = {"data": ORANGE, "weight": BLUE, None: "#999999"}[kind]
    ax.scatter(x, y, s=330, color=colour, zorder=2)
    ax.text(x, y, rank[node] + 1, ha="center", va="center", color="white", fontsize=9)
for label, colour in (("angle from data", ORANGE), ("angle from a weight", BLUE), ("fixed angle", "#999999")):
    ax.scatter([], [], color=colour, label=label)
ax.set(title="The graph that the server sees; the colours it does not", ylim=(-1.6, 0.5))
ax.axis("off")
ax.legend(ncol=3, loc="lower center", frameon=False)
plt.show()
print(
    f"{graph.n_nodes} nodes, {len(graph.edges)} CZ, {graph.live_qubits} qubits at a time, "
    f"{graph.n_colours} colours; in a brickwork: "
    f"{compile_patterns(circuit, embedding='brickwork')[0].pattern.graph.n_nodes} nodes"
)

# %% [markdown]
# ## What the server sees
#
# For each node the client draws a pad $\theta$ and a bit $r$, sends $|+_\theta\rangle$, and tells the angle
# $\delta = \phi' + \theta + r\pi$, where $\phi'$ is the node's angle with the corrections of earlier outcomes. Given $\delta$, the qubit
# is $|+_x\rangle$ or $|-_x\rangle$ with equal probability: maximally mixed. And $\delta$ is uniform, provided that pad and angle belong to
# **one group**: angles are integers modulo $2^{32}$ here. With the eight angles of the textbook under real-valued angles, the pad
# hides only multiples of $\pi/4$, and every angle modulo $\pi/4$ lies open.

# %%
weights, features = np.array([0.3, 1.1, 2.0, 0.7]), np.array([0.5, 0.9])
seen = Transcript()
blind_expectations(circuit, weights, features, executor=Shots(shots=20_000, seed=1, transcript=seen))
node = next(k for k, angle in enumerate(pattern.angles) if any(t.kind == "weight" for t in angle.terms))
deltas = np.concatenate([batch[node] for batch in seen.deltas])
radians = AngleGrid().to_radians(deltas)
true = sum(t.scale * weights[t.index] + t.offset for t in pattern.angles[node].terms)
true += pattern.angles[node].eighths * np.pi / 4
rng = np.random.default_rng(0)
coarse = true * rng.choice([-1, 1], 20_000) + rng.integers(8, size=20_000) * np.pi / 4

fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
for ax, values, title in zip(
    axes, (radians, coarse), ("pad of $2^{32}$ angles (as here)", "pad of 8 angles"), strict=True
):
    ax.hist(np.mod(values, np.pi / 4), bins=40, range=(0, np.pi / 4), color=BLUE)
    for sign in (1, -1):
        ax.axvline(np.mod(sign * true, np.pi / 4), color=ORANGE, ls="--")
    ax.set(xlabel=r"$\delta$ modulo $\pi/4$ (radians)", title=title)
axes[0].set_ylabel("rounds of 20,000")
axes[0].plot([], [], color=ORANGE, ls="--", label="the weight's angle, either sign")
axes[0].legend(frameon=False, loc="center")
plt.show()
bins = np.bincount((deltas >> np.uint64(26)).astype(int), minlength=64)
print(f"uniform delta: chi-square p = {stats.chisquare(bins).pvalue:.2f} over 64 bins")

# %% [markdown]
# The outcomes are padded too: the server's raw bits agree with the client's decoded bits half the time.

# %%
last = pattern.readouts[0].node
raw = np.concatenate([batch[last] for batch in seen.replies])
value = blind_expectations(circuit, weights, features, executor=Exact(seed=0))[0]
print(f"decoded: <Z> = {value:.3f}, so P(1) = {(1 - value) / 2:.3f}; raw: P(1) = {raw.mean():.3f}")

# %% [markdown]
# ## A trap catches a liar
#
# Some rounds are *tests* on the same graph: the nodes of one colour are traps whose outcome the client knows, the others are random
# basis states. The server cannot tell tests from computations, since both run through the same code and look the same: so whatever
# it does, it does to the tests as well. A flip of one outcome is caught by a test with probability 1/2 (two colours), and so on.


# %%
tests = 4000
rows = []
for angle in np.linspace(0.01, np.pi, 7):
    attack = WrongAngles(offset=float(angle), nodes=1)
    executor = Shots(shots=1, tests=tests, threshold=tests, seed=3, server=attack.factory(3))
    blind_expectations(circuit, weights, features, executor=executor)
    failures = executor.results[0].failures
    ci = stats.binomtest(failures, tests).proportion_ci(method="exact")
    rows.append((angle, failures / tests, ci.low, ci.high))
fig, ax = plt.subplots(figsize=(6, 3))
grid = np.linspace(0, np.pi, 100)
ax.plot(
    grid, np.sin(grid / 2) ** 2 / graph.n_colours, color=BLACK, lw=1, label=r"$\sin^2(\alpha/2)$ / colours"
)
for angle, rate, low, high in rows:
    ax.errorbar(angle, rate, yerr=[[rate - low], [high - rate]], fmt="o", ms=4, capsize=2, color=BLUE)
ax.set(
    xlabel=r"angle $\alpha$ by which the server turns one measurement (radians)",
    ylabel="failed tests",
    title=f"Detection of a wrong angle ({tests:,} tests, 95 % intervals)",
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# How many tests are enough? The planner answers for the worst number of attacked rounds, counted exactly (hypergeometric), and for
# a server that is honest but noisy. What follows for an *average* of outcomes, which is what learning needs, is a bound on its
# bias. It is an engineering bound: it says so itself.

# %%
plan = plan_tests(shots=200, colours=graph.n_colours, corrupted_fraction=0.25, target=1e-3, failure_rate=0.02)
bound = bias_bound(plan, error=1e-3)
print(f"{plan.shots} shots need {plan.tests} tests, of which {plan.threshold} may fail")
print(f"a server that passes moves an average by at most {bound.bias:.3f}, except with probability 1e-3")
print(f"status: {bound.status}: {bound.because}")

# %% [markdown]
# ## Blind training
#
# In a federation, each client delegates every circuit that its training needs: each record, each shift of the gradient and each shot
# is a round of its own. `exact` is a simulator's shortcut (one transcript gives the expectation value; no client can do that): it
# shows that the protocol computes the right thing. `shots` is the real protocol with test rounds.

# %%
seeds = [RunSpec(seed=seed) for seed in range(4)]


def federation(rounds):
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=2,
            balanced=True,
            members=18,
            nonmembers=0,
            auxiliary=60,
            test=150,
        ),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
        federation=FederationConfig(n_clients=3, rounds=rounds, learning_rate=0.5),
    )


pipeline = federation(rounds=10)
stacks = {
    "in the clear": Stack(name="clear"),
    "blind, exact": Stack(name="exact", client=(Blind(executor="exact"),)),
    "blind, 30 shots and tests": Stack(name="shots", client=(Blind(shots=30, tests=300),)),
}
runs = {name: run_batch(pipeline, stack, seeds) for name, stack in stacks.items()}

fig, ax = plt.subplots(figsize=(6.5, 3.2))
styles = {
    "in the clear": (BLACK, "-", 3),
    "blind, exact": (ORANGE, "--", 1.5),
    "blind, 30 shots and tests": (BLUE, "-", 1.5),
}
for name, results in runs.items():
    losses = np.array([run.loss for run in results])
    mean, spread = (
        losses.mean(axis=0),
        losses.std(axis=0, ddof=1) / np.sqrt(len(losses)) * stats.t.ppf(0.975, len(losses) - 1),
    )
    colour, line, width = styles[name]
    x = np.arange(1, losses.shape[1] + 1)
    ax.plot(x, mean, line, color=colour, lw=width, label=name)
    if name != "blind, exact":
        ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)
ax.set(
    xlabel="round",
    ylabel="test loss (nats)",
    title=f"Breast cancer, 2 qubits, 2 layers ({len(seeds)} seeds, 95 % intervals)",
)
ax.legend(frameon=False)
plt.show()
gap = max(
    np.abs(np.array(a.loss) - np.array(b.loss)).max()
    for a, b in zip(runs["in the clear"], runs["blind, exact"], strict=True)
)
costs = runs["blind, 30 shots and tests"][0].costs
print(f"largest difference of the exact curve from the clear one: {gap:.1e}")
print(
    f"qubits sent in one run: {costs['sent_qubits']:,.0f}; rounds: {costs['quantum_rounds']:,.0f}, tests: {costs['test_rounds']:,.0f}"
)

# %% [markdown]
# ## What the quantum server of that run saw, and what it could do
#
# The same training, delegated in the clear, shows the server every angle. Blind, the told angles are uniform. A server that flips
# outcomes changes the result at will where nothing tests it, and is stopped where tests are mixed in.

# %%
observer = honest_but_curious_quantum_server()
views = {
    "in the clear": run_batch(federation(1), Stack(name="open", client=(Delegated(shots=30),)), seeds[:1])[0],
    "blind": run_batch(federation(1), Stack(name="blind", client=(Blind(shots=30, tests=0),)), seeds[:1])[0],
}
fig, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for ax, (name, run) in zip(axes, views.items(), strict=True):
    told = np.concatenate(
        [np.ravel(d) for seen in seen_delegations(run.view(observer)) for d in seen.deltas.values()]
    )
    ax.hist(
        AngleGrid().to_radians(told.astype(np.uint64)),
        bins=64,
        range=(0, 2 * np.pi),
        color=BLUE,
        density=True,
    )
    ax.axhline(1 / (2 * np.pi), color=ORANGE, ls="--", label="uniform")
    ax.set(xlabel="told angle (radians)", title=f"delegated {name}")
axes[0].set_ylabel("density of told angles")
axes[0].legend(frameon=False)
plt.show()

flip = RunSpec(seed=0, adversary=FlipOutcomes(fraction=0.5), threat=malicious_quantum_server())
for name, layer in {
    "in the clear": Delegated(shots=30),
    "blind, no tests": Blind(shots=30, tests=0),
    "blind, tests": Blind(shots=30, tests=300),
}.items():
    run = run_batch(pipeline, Stack(name="attacked", client=(layer,)), [flip])[0]
    accuracy = f"accuracy {run.accuracy[-1]:.2f}" if run.outcome == "completed" else "no model"
    print(f"{name:<16} {accuracy}, {run.outcome}")

# %% [markdown]
# ## The ledger
#
# The rows speak of the quantum server alone. Whoever receives the clients' updates, or the model, learns what it always learnt.

# %%
print(runs["blind, 30 shots and tests"][0].account(observer))

# %% [markdown]
# ## Computing on padded qubits: quantum homomorphic encryption, honestly
#
# Another trade: the server owns the model and may know the circuit; the client wants to hide its data, and to send qubits once. It
# pads them ($X^a Z^b$, uniform keys) and encrypts the key bits under lattice encryption. Clifford gates move the pad by one public
# matrix over GF(2), which the server evaluates on the encrypted bits. Every other gate takes an entangled pair, whose half the client
# measures at the end. So the client's work grows with the number of such gates: this is **not compact**, and nothing here verifies
# the server's result.

# %%
model = Circuit(
    n_qubits=2,
    gates=(
        *(Gate("RY", (w,), (Angle.feature(w),)) for w in range(2)),
        Gate("CNOT", (0, 1)),
        *(Gate("RX", (w,), (Angle.weight(w),)) for w in range(2)),
        Gate("T", (1,)),
    ),
    observables=(pauli_z(0, 2), pauli_z(1, 2)),
    n_weights=2,
    n_features=2,
)
w, x = np.array([0.7, -0.4]), np.array([0.5, 0.9])
exact = blind_expectations(model, w, x, executor=Exact(seed=0))
for mode in ("deferred", "interactive"):
    executor = Homomorphic(shots=4000, seed=1, mode=mode)
    found = homomorphic_expectations(model, w, x, executor=executor)
    c = executor.costs
    print(
        f"{mode:<12} <Z> = {found.round(3)} (exact {exact.round(3)}, standard error at most {1 / np.sqrt(4000):.3f}); "
        f"{c.gadgets:,} pairs, {c.exchanges} exchanges, {c.decryptions} decryptions, {c.bytes_to_server:,} bytes of keys"
    )

# %% [markdown]
# ## Exercises
#
# **1.** Angles are integers of a group of $2^b$ elements. How many bits $b$ does the circuit above need, so that its values stay
# within 0.01 of those of the default grid? Set `answer_1` to the smallest number. Then say why blindness does not depend on it.

# %% tags=["answer"]
answer_1 = 8

# %% tags=["check"]
from qflsec.protocols.blind import BlindConfig


def error(bits):
    config = BlindConfig(grid=AngleGrid(bits=bits))
    return np.abs(blind_expectations(model, w, x, executor=Exact(seed=0), config=config) - exact).max()


assert answer_1 is not ..., "set answer_1 first"
assert error(answer_1) <= 0.01, f"off by {error(answer_1):.3f}"
assert error(answer_1 - 1) > 0.01, "fewer would do"
print([(bits, round(float(error(bits)), 4)) for bits in range(3, 12)])

# %% [markdown]
# **2.** A third of 300 rounds, at random, are tests; a lie in a test is always noticed, and no test may fail. In how many rounds must a
# server lie before it stays unnoticed with a chance below 1 %? Set `answer_2`. Then say what a server gains that lies in fewer.

# %% tags=["answer"]
answer_2 = 12


# %% tags=["check"]
def unnoticed(lies):
    """No lie falls on a test: a hypergeometric chance, as a product over the lies."""
    return np.prod([(200 - k) / (300 - k) for k in range(lies)])


assert answer_2 is not ..., "set answer_2 first"
assert unnoticed(answer_2) < 0.01, f"unnoticed with a chance of {unnoticed(answer_2):.3f}"
assert unnoticed(answer_2 - 1) >= 0.01, "fewer would do"
print(f"{answer_2} lies stay unnoticed with a chance of {unnoticed(answer_2):.4f}")

# %% [markdown]
# **3.** What does the server see that depends on the data? Set `answer_3` to the set of those of `"graph"`, `"order"` and `"told angles"`
# whose *distribution* changes with weights or features. Then run `qflsec blind matrix`: which attack succeeds against the client
# that leaves out a pad, and why does the client with fixed dummies pass all of its tests?

# %% tags=["answer"]
answer_3 = set()

# %% tags=["check"]
from scipy import stats

assert answer_3 is not ..., "set answer_3 first"
told = {}
for name, values in {"here": (w, x), "there": (w + 1.0, 2 * x)}.items():
    heard = Transcript()
    blind_expectations(model, *values, executor=Shots(shots=4000, seed=3, transcript=heard))
    told[name] = np.concatenate([np.ravel(angles) for batch in heard.deltas for angles in batch.values()])
counts = [
    np.histogram(np.asarray(angles, dtype=float), bins=16, range=(0, 2.0**32))[0] for angles in told.values()
]
p_value = stats.chi2_contingency(counts).pvalue
assert ("told angles" in answer_3) == (p_value < 1e-4), (
    f"the told angles are distributed alike (p = {p_value:.2f})"
)
patterns = [delegation.pattern for delegation in compile_patterns(model)]  # made without weights and features
assert not answer_3 & {"graph", "order"}, (
    f"the graph of {patterns[0].graph.n_nodes} nodes is made before any data"
)
