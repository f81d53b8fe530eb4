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
# # 7. Gradient inversion: rebuilding a record from an update
#
# **Threat model of this notebook.** Four clients train a circuit with a server that *follows the protocol and looks*. It sent the model and
# receives each client's update, and it knows the circuit, the learning rate and how many records a client has. It does not know the records,
# nor their labels, and no party's coins or keys. Under masks it reads the sum of the updates and nothing else.
#
# **After it you can** run an inversion and say what its number means; read a gradient-leak certificate and tell how many rounds a circuit
# holds out; say what batches, shots, noise and secure aggregation leave, and why none of the first three is a proof. **Time:** 50 minutes to
# read, 30 for the exercises; it runs in about half a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from qflsec.accounting.predictions import predicted
from qflsec.accounting.statistics import clopper_pearson, mean_over_seeds
from qflsec.attacks.inversion import CohortInversion, DeepLeakage
from qflsec.attacks.inversion.leak import certify
from qflsec.circuits import Angle, Circuit, Gate, pauli_z
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd, GradientNoise
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import EXACT, Execution, Vqc, build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import honest_but_curious_server

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
SERVER = honest_but_curious_server()

# %% [markdown]
# ## An update is an equation
#
# Each of four clients holds *one* record of four features, encoded as rotation angles, and takes one gradient step from the server's model
# $\theta$. The server receives $-\eta\,\nabla_\theta \ell(\theta; x, y)$: as many numbers as there are parameters, and four unknowns behind
# them. Gradient matching (Zhu et al. 2019) guesses a record, computes the update that *it* would have caused, and moves the guess until
# the two agree.


# %%
def trained(*layers, depth=4, records=1, seeds=5, execution=EXACT, rounds=2):
    pipeline = Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=4 * records,
            nonmembers=0,
            auxiliary=100,
            test=20,
        ),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": depth}),
        federation=FederationConfig(n_clients=4, rounds=rounds, learning_rate=0.5),
        execution=execution,
    )
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(seeds)]
    return run_batch(pipeline, Stack.from_layers("tried", list(layers)), specs, secrets="seeded")


def inverted(attack, runs):
    found = []
    for run in runs:
        challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=SERVER)
        found.append(score_claim(attack(run.view(SERVER), challenge), truth))
    return found


plain = inverted(DeepLeakage(), trained())
print("squared error of a feature, rad^2:", ["{:.0e}".format(one.metrics["mse"].value) for one in plain])
print("that of the best guess:           ", ["{:.2f}".format(one.metrics["mse"].baseline) for one in plain])

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
for seed, one in enumerate(plain):
    places = 4 * seed + np.arange(4) + 0.6 * seed
    original, guess = np.array(one.raw["originals"][0]), np.array(one.raw["reconstructions"][0])
    ax.plot(places, original, "o", mfc="none", ms=11, color=GREY, label="the record" if seed == 0 else None)
    ax.plot(
        places,
        np.remainder(guess, 2 * np.pi),
        ".",
        ms=8,
        color=ORANGE,
        label="rebuilt from one update" if seed == 0 else None,
    )
ax.set_xticks([4.6 * seed + 1.5 for seed in range(5)], [f"run {seed}" for seed in range(5)])
ax.set(ylabel="feature, as a rotation angle (rad)", ylim=(-0.2, 4.2), title="One client's record, five runs")
ax.legend(frameon=False, ncols=2, loc="upper left")
plt.show()

# %% [markdown]
# To the precision of the arithmetic. No trick was needed: the update *determines* the record, and a search finds it.
#
# ## The certificate: what linear algebra says beforehand
#
# A circuit's expectation value is linear in the encoded state $\rho(x)$, and so is every derivative of it. The derivatives that a circuit can
# show at all span a part of its *dynamical Lie algebra*; Heredge et al. (arXiv:2405.08801) conclude that a large algebra protects. One round
# shows only a *tangent space*, whose dimension is capped however many parameters there are. So the question is: after how many rounds, at
# different models, do the equations determine the state?


# %%
def matchgates(n, layers):
    """RX encoding, then X X on neighbours and Z rotations: the algebra is so(2 n), small for a circuit of n qubits."""
    gates = [Gate("RX", (q,), (Angle.feature(q),)) for q in range(n)]
    for layer in range(layers):
        first = layer * (2 * n - 1)
        gates += [Gate("IsingXX", (q, q + 1), (Angle.weight(first + q),)) for q in range(n - 1)]
        gates += [Gate("RZ", (q,), (Angle.weight(first + n - 1 + q),)) for q in range(n)]
    circuit = Circuit(
        n_qubits=n,
        gates=tuple(gates),
        observables=(pauli_z(0, n),),
        n_weights=layers * (2 * n - 1),
        n_features=n,
    )
    return Vqc(circuit=circuit)


models = {
    "matchgates": matchgates(4, 5),
    "strongly entangling": build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
}
certificates = {name: certify(model) for name, model in models.items()}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, (name, certificate) in zip(axes, certificates.items(), strict=True):
    leak = certificate.circuit
    print(f"{name}: algebra {leak.algebra}, at most {leak.cap} new dimensions in a round")
    for known in leak.unknowns:
        print(
            f"   {known.count} unknowns: determined after {known.rounds_known} rounds where residuals are known"
        )
    for known, color in zip(leak.unknowns, (BLUE, ORANGE), strict=True):
        who = "knows the encoder" if known.encoder_known else "does not know the encoder"
        rounds = np.arange(1, len(known.ranks) + 1)
        ax.plot(rounds, known.ranks, color=color, marker="o", ms=4, label=who)
        ax.axhline(known.count, color=color, ls="--", lw=1)
        ax.text(0.75, known.count, f"{known.count} unknowns", color=color, va="bottom", fontsize=8)
    ax.set(
        xlabel="rounds seen",
        ylabel="rank of the equations",
        title=name,
        xlim=(0.7, None),
        ylim=(0, 1.15 * leak.unknowns[0].count),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8, loc="lower right")
fig.suptitle("Rank of what gradients show of one encoded record, 4 qubits", y=1.02)
plt.show()

# %% [markdown]
# The curve meets its dashed line where the state is determined: four rounds for matchgates, eleven for strongly entangling layers, whose algebra is as
# large as it can be. But the encoder is part of the architecture. Whoever knows it has 10 unknowns in place of 28, or 80 in place of 255,
# and is done in one round, or four. **A large algebra makes the attack longer, not impossible**, and matching gradients, which knows that a
# record has four features, needed one round above.
#
# ## More records in one update
#
# A client with several records sends their mean gradient. How many records does an update hold? Papadopoulos et al. (arXiv:2504.12806)
# recover inputs where a model has parameters enough. Count the runs in which *all* records of the client come out.

# %%
BATCHES, DEPTHS, RUNS = (1, 2, 4), (1, 2, 4), 3
success, reasons = {}, {}
for depth in DEPTHS:
    for records in BATCHES:
        found = inverted(DeepLeakage(), trained(depth=depth, records=records, seeds=RUNS))
        success[depth, records] = sum(one.metrics["success_rate"].value == 1 for one in found)
        reasons[depth, records] = found[-1].raw["why"][0]

fig, ax = plt.subplots(figsize=(6.5, 3.4))
for offset, (depth, color) in enumerate(zip(DEPTHS, (PINK, BLUE, ORANGE), strict=True)):
    rates = [clopper_pearson(success[depth, records], RUNS) for records in BATCHES]
    middle = np.array([rate.value for rate in rates])
    ends = np.array([(rate.value - rate.low, rate.high - rate.value) for rate in rates]).T
    ax.errorbar(
        np.arange(3) + 0.1 * (offset - 1),
        middle,
        ends,
        color=color,
        marker="o",
        capsize=3,
        ls="",
        label=f"{12 * depth} parameters",
    )
ax.set_xticks(range(3), BATCHES)
ax.set(
    xlabel="records in one update (4 features each)",
    ylabel="runs with every record rebuilt",
    ylim=(-0.05, 1.3),
    yticks=(0, 0.5, 1),
    title=f"Share of {RUNS} runs, 95 % Clopper-Pearson intervals",
)
ax.legend(frameon=False, ncols=3, loc="upper center")
plt.show()

# %% [markdown]
# Twelve parameters are more numbers than the four unknowns of a record, and yet they do not tell it: derivatives repeat each other, and the
# *rank* counts. It is 3 of 4 there (`certify(...).tangent`). With 48 parameters one update gives four records away. Full rank says that the true
# records stand alone *near by*; whether a search gets there is another matter:

# %%
for depth, records in ((2, 2), (4, 4)):
    rank = certify(build_model({"name": "vqc", "n_qubits": 4, "layers": depth}), records=records).tangent.rank
    print(
        f"{12 * depth} parameters, {records} records (rank {rank} of {4 * records}): {reasons[depth, records]}"
    )

# %% [markdown]
# ## Noise and shots
#
# Shots on the clients' hardware, and noise that a client adds by itself, blur the equations. The error of the reconstruction, against the
# error of the best guess:

# %%
levels = (1e-3, 1e-2, 1e-1, 1.0)
shots = (10_000, 1000, 100)
blurred = {
    "noise": [inverted(DeepLeakage(), trained(GradientNoise(noise_std=level))) for level in levels],
    "shots": [
        inverted(DeepLeakage(), trained(execution=Execution(shots=count, gradient="parameter-shift")))
        for count in shots
    ],
}
guess = np.mean([one.metrics["mse"].baseline for one in plain])


def on_logs(found):
    """The geometric mean of the errors, and its 95 % interval over the runs."""
    made = mean_over_seeds([float(np.log10(one.metrics["mse"].value)) for one in found])
    return 10**made.value, 10**made.low, 10**made.high


fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for ax, (what, places, label) in zip(
    axes,
    (
        ("noise", levels, "standard deviation of the noise on each parameter"),
        ("shots", shots, "shots for each expectation value"),
    ),
    strict=True,
):
    middle, low, high = np.array([on_logs(found) for found in blurred[what]]).T
    ax.errorbar(places, middle, (middle - low, high - middle), color=BLUE, marker="o", capsize=3)
    ax.axhline(guess, color=GREY, ls="--")
    ax.text(places[0], 1.15 * guess, "best guess", color=GREY, fontsize=8, va="bottom", ha="left")
    ax.set(xscale="log", yscale="log", xlabel=label)
axes[1].invert_xaxis()
axes[0].set_ylabel("squared error of a feature (rad$^2$)")
fig.suptitle("One record, 48 parameters: geometric mean and 95 % interval, 5 runs", y=1.0)
plt.show()

# %% [markdown]
# An error grows with the noise, smoothly, until guessing is as good. Nowhere does a protection *begin*, and a failure of this search is not
# privacy: each trial says why it failed, by what the *true* record would explain.

# %%
for level, found in zip(levels, blurred["noise"], strict=True):
    print(f"noise {level:g}: {found[0].raw['why'][0]}")

# %% [markdown]
# ## What a sum leaves
#
# Under masks, single updates are gone. The server reads the sum of four updates, and an attack on *one* client's record finds other clients'
# shares in it. An attack on *all* of them does not: 16 unknowns stand behind 48 numbers in each round. It succeeds where its search does.

# %%
masked = trained(Masked(), seeds=3)
one, everybody = inverted(DeepLeakage(), masked), inverted(CohortInversion(), masked)
for name, found in (("one client's record", one), ("all four records", everybody)):
    for seed, score in enumerate(found):
        print(f"{name}, run {seed}: advantage {score.advantage:.2f}; {score.raw['why'][0]}")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.0))
first = everybody[0]
original, guess_ = np.array(first.raw["originals"]), np.array(first.raw["reconstructions"])
for client in range(4):
    places = 4.6 * client + np.arange(4)
    ax.plot(
        places,
        original[client],
        "o",
        mfc="none",
        ms=11,
        color=GREY,
        label="the records" if client == 0 else None,
    )
    ax.plot(
        places,
        np.remainder(guess_[client], 2 * np.pi),
        ".",
        ms=8,
        color=ORANGE,
        label="rebuilt from masked sums of two rounds" if client == 0 else None,
    )
ax.set_xticks([4.6 * client + 1.5 for client in range(4)], [f"record {client}" for client in range(4)])
ax.set(ylabel="angle (rad)", ylim=(-0.2, 4.4), title="Secure aggregation of four clients with a record each")
ax.legend(frameon=False, ncols=2, loc="upper left")
plt.show()

# %% [markdown]
# Masks did what they promise: nobody can say *whose* record is which (the order above is the scorer's, who knows). That the records are there, they do
# not hide. Many records in a sum, clients that are not the same in every round, or noise with a proof change that; only the last one *bounds* it.
#
# ## Exercises
#
# **1.** A round of matchgates on four qubits shows at most 12 new dimensions, and 28 are unknown to an attacker who does not know the encoder.
# Division says three rounds. How many does it take, with known residuals? Look at the figure, and set `answer_1`.

# %% tags=["answer"]
answer_1 = 4

# %% tags=["check"]
assert answer_1 is not ..., "set answer_1 first"
ranks = certificates["matchgates"].circuit.unknowns[0].ranks
assert ranks[answer_1 - 1] == 28, "the rank is not full yet"
assert ranks[answer_1 - 2] < 28, "it is full before"

# %% [markdown]
# **2.** Four records of four features are sixteen unknowns. How many layers (of 12 parameters each) must the circuit have at least, so that
# one update has rank 16 in them? It is not the number that counting parameters gives; `certify(model, records=4).tangent` knows. Set `answer_2`.

# %% tags=["answer"]
answer_2 = 3


# %% tags=["check"]
def rank(layers):
    model = build_model({"name": "vqc", "n_qubits": 4, "layers": layers})
    return certify(model, records=4).tangent.rank


assert answer_2 is not ..., "set answer_2 first"
assert rank(answer_2) == 16, f"the rank is {rank(answer_2)}"
assert answer_2 == 1 or rank(answer_2 - 1) < 16, "fewer layers would do"

# %% [markdown]
# **3.** Which of these three stacks has a *proof* that bounds what the server learns of a record: `noise` of standard deviation 1 on each
# update, `masked`, or `dp-sgd` with a noise multiplier of 1? Set `answer_3` to the names of all that have.

# %% tags=["answer"]
answer_3 = {"dp-sgd"}

# %% tags=["check"]
assert answer_3 is not ..., "set answer_3 first"
offered = {
    "noise": GradientNoise(noise_std=1.0),
    "masked": Masked(),
    "dp-sgd": DpSgd(clip_norm=1.0, noise_multiplier=1.0, delta=1e-3),
}
for name, layer in offered.items():
    proof = predicted(trained(layer, seeds=1)[0].ledger(SERVER))
    assert (proof is not None) == (name in answer_3), f"look at the ledger of {name!r} again"
