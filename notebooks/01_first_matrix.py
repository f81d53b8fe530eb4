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
# # 1. A first matrix: attacks against defenses
#
# **Threat model of this notebook.** Ten clients train one quantum classifier with a server. We look through the eyes of three
# adversaries: a *server that follows the protocol and looks*, *two corrupted clients* that send whatever they like, and a
# *network eavesdropper*. Each knows the circuit and owns some records of the same kind that nobody trains on. None of them sees
# another party's data, keys or coins.
#
# The question is always the same: **what can this adversary do, and what does each defense change?**
#
# **After it you can** say what an observer holds, and why `masked` does not hide a sum; read a cell with its interval, its state and its
# baseline; tell a proved epsilon from one that forbids nothing. **Time:** 40 minutes to read, 30 for the exercises; it runs in about
# half a minute.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from qflsec.accounting import render_ledger
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab import load_spec, run
from qflsec.models import build_model
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import honest_but_curious_server, wire_eavesdropper

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## One run, and what a server sees of it
#
# A `Pipeline` says what is federated; a `Stack` says which defenses stand in its way; `run_batch` trains. Several seeds are
# computed side by side and give, bit for bit, what each gives alone.

# %%
pipeline = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=4, balanced=True, members=160, nonmembers=40, auxiliary=80, test=120
    ),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, optimizer="adam", learning_rate=0.1),
)
stacks = {
    "none": Stack(name="none"),
    "masked": Stack(name="masked", client=(Masked(),)),
    "masked + link": Stack(name="masked + link", client=(Masked(), AesGcmLink())),
}
runs = {
    name: run_batch(pipeline, stack, [RunSpec(seed=s) for s in range(3)]) for name, stack in stacks.items()
}

fig, ax = plt.subplots(figsize=(6.5, 3.2))
curves = np.array([run.accuracy for run in runs["none"]])
rounds = np.arange(1, curves.shape[1] + 1)
ax.plot(rounds, curves.mean(axis=0), color="#0072B2", label="mean of 3 seeds")
ax.fill_between(
    rounds, curves.min(axis=0), curves.max(axis=0), color="#0072B2", alpha=0.2, label="range of the seeds"
)
ax.set(
    xlabel="round",
    ylabel="test accuracy",
    ylim=(0.3, 1.0),
    title="Federated training of a 4-qubit classifier",
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Under `masked`, the server learns the same model. But its *view* differs: single updates arrive as uniform words of a ring,
# and only their sum is readable. `k` is the anonymity set: how many honest clients stand behind an item whose shares the
# observer does not know.


# %%
def summary(view):
    kinds = sorted({(i.kind, i.form, i.k, i.derived) for i in view.items if i.kind != "announcement"})
    return [
        f"{kind:11s} {form:7s} k={k}{'  computed' if derived else ''}" for kind, form, k, derived in kinds
    ]


for observer in (honest_but_curious_server(), wire_eavesdropper()):
    for name in stacks:
        print(f"{observer.name} under {name!r}:")
        print("   " + "\n   ".join(summary(runs[name][0].view(observer))))

# %% [markdown]
# Look at the eavesdropper under `masked`: it reads no single update, yet it *adds up* what it hears and holds the aggregate, as
# the server does. Masks protect single updates, not the sum. Only the encrypted link takes the sum away from the network, and
# the published final model stays readable to everybody.

# %% [markdown]
# ## Four families of attacks against six stacks
#
# A matrix is a TOML file; presets come with the package. Here is `quickstart` with its three seeds. A cell shows the mean advantage, its
# 95 % interval over the seeds, and its state where there is more to say.

# %%
store_path = Path(tempfile.mkdtemp()) / "first.sqlite"
result = run(load_spec("quickstart"), store_path, jobs=1)
print(len(result.cells), "cells")

# %%
attacks, columns = [a.label for a in result.attacks], [s.name for s in result.stacks]
fig, ax = plt.subplots(figsize=(10, 4.2))
values = np.full((len(attacks), len(columns)), np.nan)
for i, attack in enumerate(attacks):
    for j, stack in enumerate(columns):
        cell = result.cells[attack, stack]
        text = cell.state
        if cell.advantage is not None:
            values[i, j] = cell.advantage.value
            low, high = cell.advantage.low, cell.advantage.high
            interval = f"[{low:.2f}, {high:.2f}]" if np.isfinite(low) else "no interval: one seed"
            text = f"{cell.advantage.value:.2f}\n{interval}" + (
                "" if cell.state == "ok" else f"\n{cell.state}"
            )
        shown = values[i, j] if np.isfinite(values[i, j]) else 0.0
        ax.text(
            j, i, text, ha="center", va="center", color="white" if shown > 0.55 else "black", fontsize=7.5
        )
        if cell.state != "ok":  # a state is told by its words and its frame, not by colour alone
            frame = plt.Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False, ls="--", ec="#B8860B", lw=1.6)
            ax.add_patch(frame)
ax.imshow(np.clip(values, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(len(columns)), columns)
ax.set_yticks(range(len(attacks)), attacks)
ax.set_title("Advantage of each attack (0: nothing, 1: perfect), three seeds")
plt.show()

# %% [markdown]
# Read it row by row:
#
# - **dlg** rebuilds a client's record from its update, exactly, and no rule at the server changes what the server saw.
# - **scaled-sign-flip** turns the model round. Clipping at the client is voluntary, so it stops nothing; a bound that the *server*
#   enforces does, and so does the median.
# - **masked** takes the single updates away from the attacker, and from every defense that needs them: hiding and checking pull
#   in opposite directions.

# %%
for attack in attacks:
    print(result.cells[attack, "none"].sentence)
    print(result.cells[attack, "masked"].sentence)

# %% [markdown]
# ## The ledger
#
# What does the honest-but-curious server learn of one record, *by which proof*? Noise earns an epsilon only as a proved
# mechanism; everything that no proof covers is listed as well. The epsilon of this run is proved, and *vacuous*: above 9.9 it
# forbids an attack next to nothing. Notebook 5 has epsilons that forbid something, and what they cost.

# %%
private = Stack(name="dp-sgd", client=(DpSgd(clip_norm=1.0, noise_multiplier=2.0, delta=1e-3), AesGcmLink()))
run = run_batch(pipeline, private, [RunSpec(seed=0)])[0]
print(render_ledger([*run.ledger(honest_but_curious_server()), *run.ledger(wire_eavesdropper())]))

# %% [markdown]
# ## Exercises
#
# **1.** A coalition of the server and some clients pools what it holds. Under `masked` with ten clients, how many clients must the
# server corrupt before it can read one honest client's update (`k = 1`)? Set `answer_1`, and the next cell checks it.

# %% tags=["answer"]
answer_1 = 9

# %% tags=["check"]
from qflsec.threat import coalition


def smallest_k(n_corrupted):
    view = runs["masked"][0].view(coalition(server=True, n=n_corrupted))
    return min(item.k for item in view.readable("update", "aggregate") if item.k > 0)


assert answer_1 is not ..., "set answer_1 first"
assert smallest_k(answer_1) == 1, "not enough: the masks between two honest clients still hide both"
assert smallest_k(answer_1 - 1) > 1, "fewer would do"
print([(n, smallest_k(n)) for n in range(10)])

# %% [markdown]
# **2.** Which observers hold a round's *sum* under `masked + link`? Set `answer_2` to the names of all that do, out of
# `honest-but-curious-server` and `wire-eavesdropper`. Think first of what the link encrypts, and for whom.

# %% tags=["answer"]
answer_2 = {"honest-but-curious-server"}

# %% tags=["check"]
assert answer_2 is not ..., "set answer_2 first"
for observer in (honest_but_curious_server(), wire_eavesdropper()):
    held = runs["masked + link"][0].view(observer).readable("update", "aggregate")
    assert bool(held) == (observer.name in answer_2), f"look again at what {observer.name} holds"

# %% [markdown]
# **3.** The epsilon of the ledger above is vacuous. What is the smallest noise multiplier, to one decimal, at which the epsilon of
# one record against the server is at most 9.9, so that it forbids something? Set `answer_3`. Then say what it costs in accuracy.

# %% tags=["answer"]
answer_3 = 2.6


# %% tags=["check"]
def epsilon_of(noise_multiplier):
    layer = DpSgd(clip_norm=1.0, noise_multiplier=noise_multiplier, delta=1e-3)
    made = run_batch(pipeline, Stack(name="dp-sgd", client=(layer,)), [RunSpec(seed=0)])[0]
    proved = [row.epsilon for row in made.ledger(honest_but_curious_server()) if row.epsilon is not None]
    return min(proved), made.accuracy[-1]


assert answer_3 is not ..., "set answer_3 first"
epsilon, accuracy = epsilon_of(answer_3)
assert epsilon <= 9.9, f"epsilon is {epsilon:.2f}: it still forbids next to nothing"
assert epsilon_of(answer_3 - 0.1)[0] > 9.9, "less noise would do"
print(
    f"epsilon {epsilon:.2f}, accuracy {accuracy:.2f} against {runs['none'][0].accuracy[-1]:.2f} without noise"
)
