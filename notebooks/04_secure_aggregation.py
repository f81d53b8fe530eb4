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
# # 4. Secure aggregation: who learns the sum, and who learns nothing
#
# **Threat model of this notebook.** A server adds up what clients send and must learn the sum alone. It may only look, or deviate from
# the protocol; some clients may help it; clients may drop out at any moment. Whoever listens on the network hears all that is said.
# Everybody sees who takes part, who drops out, and how long the messages are. Nobody here bounds what a client *submits*, and nothing
# hides the sum from those who are to have it: the second half of the notebook shows what follows from that.
#
# **After it you can** say who can open what under each protocol, and with whose help; choose a threshold and a fixed-point grid; show
# what sums tell all the same. **Time:** 50 minutes to read, 30 for the exercises; it runs in about a minute.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats

from qflsec.base import OsSecrets
from qflsec.lab import load_spec, run
from qflsec.protocols.secagg import FixedPoint
from qflsec.protocols.secagg.catalogue import protocol
from qflsec.protocols.secagg.masks.expansion import add_masks, expand
from qflsec.protocols.secagg.one_round import run_round
from qflsec.protocols.secagg.who_sees_what import sights

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"

# %% [markdown]
# ## Masks that cancel
#
# Three clients hold a vector each. Numbers become words of the ring $\mathbb{Z}_{2^{32}}$. Every pair of clients expands a common
# key to a mask, which one of them adds and the other subtracts. Each masked word is uniform; the sum of all is the sum of the plain
# words, exactly. (Real keys come from a key agreement and serve one round; here they are written down to look at.)

# %%
n, size = 3, 5000
fixed = FixedPoint(bits=32, fractional_bits=16)
generator = torch.Generator().manual_seed(0)
vectors = [0.3 * torch.randn(size, generator=generator) for _ in range(n)]
plain = [fixed.encode(v, 1.0, n=n, secrets=OsSecrets()) for v in vectors]
keys = {(i, j): bytes([i, j]) * 16 for i in range(n) for j in range(i + 1, n)}
masked = [
    add_masks(
        plain[i].copy(),
        [
            (1 if i < j else -1, expand(keys[min(i, j), max(i, j)], size + 1, fixed.dtype))
            for j in range(n)
            if j != i
        ],
    )
    for i in range(n)
]
total = masked[0] + masked[1] + masked[2]
print("sum of masked words equals sum of plain words:", bool((total == plain[0] + plain[1] + plain[2]).all()))

fig, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for ax, words, title in zip(
    axes, (plain[0], masked[0]), ("what client 0 holds", "what it sends"), strict=True
):
    ax.hist(words[:-1].astype(float), bins=64, range=(0, 2**32), color=BLUE)
    ax.axhline(size / 64, color=ORANGE, ls="--", label="uniform")
    ax.set(xlabel="word of the ring, 0 to $2^{32} - 1$", title=title, yscale="log")
axes[0].set_ylabel(f"of {size:,} words")
axes[0].legend(frameon=False)
plt.show()
p = stats.chisquare(np.histogram(masked[0].astype(float), bins=64, range=(0, 2**32))[0]).pvalue
print(f"masked words against uniform: chi-square p = {p:.2f}")

# %% [markdown]
# ## A dropout
#
# With pairwise masks alone, a client that is not heard leaves its masks in the sum. `secagg` (Bonawitz et al. 2017) shares the keys
# among the clients before anything is masked, so that those who remain can open what is missing: *either* the masks of a client that
# dropped out *or* the own mask of one that stayed, never both. Below the threshold the round stops and opens nothing.

# %%
secagg = protocol("secagg").layer()
for drop in ((), (8, 9), (6, 7, 8, 9)):
    report = run_round(secagg, n_clients=10, n_params=36, drop=drop)
    if report.status == "sum":
        what = f"sum of {len(report.survivors)}, error against what was encoded {report.encoding_error:.0e}"
    else:
        what = f"aborted: {report.reason}"
    print(f"{len(drop)} of 10 drop out: {what}")

# %% [markdown]
# ## What the server sees under each protocol
#
# The same round of five clients under several protocols: what can the server read, alone and together with one client? Homomorphic
# encryption under one shared key hides everything from the server *alone*, and nothing from the server and any single client.

# %%
names = ["plain", "masked", "secagg", "he-bfv", "he-masked", "he-threshold"]
observers = ["the server", "the network", "one client", "the server and one client"]
reports = {name: run_round(protocol(name).layer(), n_clients=5, n_params=36) for name in names}
seen = {(name, s.observer): s for name, report in reports.items() for s in sights(report, 5)}


def cell(sight):
    """What an observer reads: single vectors (2), a sum that mixes unknown ones (1), or nothing (0)."""
    if sight.reads:
        return 2, f"{len(sight.reads)} single vector{'s' if len(sight.reads) > 1 else ''}"
    unknown = [k for _, k in sight.sums if k > 1]
    return (1, f"a sum of {min(unknown)} unknown") if unknown else (0, "nothing")


fig, ax = plt.subplots(figsize=(8.6, 3.2))
colours = {0: "white", 1: "#d2e4f3", 2: "#f4c7c3"}
for i, name in enumerate(names):
    for j, observer in enumerate(observers):
        level, text = cell(seen[name, observer])
        ax.add_patch(plt.Rectangle((j, i), 1, 1, facecolor=colours[level], edgecolor="#888888"))
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=9)
ax.set(
    xlim=(0, len(observers)),
    ylim=(len(names), 0),
    title="What each observer reads of five clients' vectors in one round",
)
ax.set_xticks(np.arange(len(observers)) + 0.5, observers)
ax.set_yticks(np.arange(len(names)) + 0.5, names)
ax.tick_params(length=0)
plt.show()
for name, report in reports.items():
    print(
        f"{name:<13} {report.up_bytes:>9,.0f} bytes from each client, error of the mean {report.max_error:.0e}"
    )
print("everybody on the network sees", seen["secagg", "the server"].metadata)

# %% [markdown]
# ## Three attacks on the aggregate
#
# The sum itself is released, and it speaks.
#
# - **Differencing.** Clients come and go while the model hardly moves. From sums over changing sets of clients, the server solves for
#   single updates, and inverts those.
# - **Membership.** The sum of the updates still points along the gradient of a record that was used.
# - **Inconsistent models.** A server that deviates sends all clients but one a model without gradients: then the "sum" is one client's
#   update. `secagg` compares signed hashes of the model before anybody masks, stops, and names the clients.
#
# Gradient matching on a single update stands first, as what secure aggregation does stop. The scorer alone knows the truth; the
# intervals are over three seeds.

# %%
SPEC = """
name = "aggregate"
seeds = [0, 1, 2]

[pipelines.two-records]
data = { name = "breast-cancer", n_features = 4, balanced = true, members = 20, nonmembers = 0, auxiliary = 100, test = 150 }
model = { name = "vqc", n_qubits = 4, layers = 3 }
federation = { n_clients = 10, rounds = 3, learning_rate = 0.1 }

[pipelines.changing-clients]
data = { name = "breast-cancer", n_features = 4, balanced = true, members = 20, nonmembers = 0, auxiliary = 100, test = 150 }
model = { name = "vqc", n_qubits = 4, layers = 3 }
federation = { n_clients = 10, rounds = 40, participation = 0.5, learning_rate = 0.02 }

[pipelines.few-records]
data = { name = "breast-cancer", n_features = 4, balanced = true, members = 20, nonmembers = 40, auxiliary = 60, test = 100 }
model = { name = "vqc", n_qubits = 4, layers = 8, encoder = "reuploading" }
federation = { n_clients = 10, rounds = 10, learning_rate = 0.05 }

[stacks]
none = []
masked = [{ name = "masked" }]
secagg = [{ name = "secagg" }]
he-bfv = [{ name = "he-bfv" }]

[threats.server]
kind = "honest-but-curious-server"

[threats.malicious-server]
kind = "malicious-server"

[[attacks]]
label = "single update"
name = "dlg"
pipeline = "two-records"
threat = "server"

[[attacks]]
label = "differencing"
name = "disaggregation"
pipeline = "changing-clients"
threat = "server"

[[attacks]]
label = "membership from sums"
name = "sum-alignment"
pipeline = "few-records"
threat = "server"

[[attacks]]
label = "inconsistent models"
name = "inconsistent-models"
pipeline = "two-records"
threat = "malicious-server"
"""
folder = Path(tempfile.mkdtemp())
(folder / "aggregate.toml").write_text(SPEC)
result = run(load_spec(folder / "aggregate.toml"), folder / "aggregate.sqlite", jobs=1)

# %%
attacks, columns = [a.label for a in result.attacks], [s.name for s in result.stacks]
fig, axes = plt.subplots(1, len(attacks), figsize=(10, 3), sharey=True)
for ax, attack in zip(axes, attacks, strict=True):
    for j, stack in enumerate(columns):
        found = result.cells[attack, stack]
        if found.advantage is None:
            ax.text(j, 0.03, found.state, ha="center", va="bottom", rotation=90, fontsize=8)
            continue
        a = found.advantage
        ax.errorbar(j, a.value, yerr=[[a.value - a.low], [a.high - a.value]], fmt="o", color=BLUE, capsize=3)
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.axhline(1, color=BLACK, lw=0.8, ls=":")
    ax.set_title(attack, fontsize=10)
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    ax.set_xlim(-0.5, len(columns) - 0.5)
axes[0].set_ylabel("advantage (0: nothing, 1: perfect)")
fig.suptitle("Attacks on single updates and on the aggregate (3 seeds, 95 % intervals)")
fig.tight_layout()
plt.show()
for attack in attacks:
    print(result.cells[attack, "secagg"].sentence)

# %% [markdown]
# Secure aggregation takes away the single update. It takes away neither what the sum tells, nor what a server makes of sums over
# changing cohorts. Against those stands noise with an epsilon: the layer `ddp` adds it under the masks, calibrated to the clients that
# are sure to remain.

# %% [markdown]
# ## Exercises
#
# **1.** Under `secagg` with five clients, how many clients must help the server before it can open the vectors of *all* the others? Set
# `answer_1`; the next cell checks it. Then explain why the protocol refuses a threshold of half the clients or less.

# %% tags=["answer"]
answer_1 = 4

# %% tags=["check"]


def opens_others(helpers):
    sight = seen[
        "secagg", "the server and one client" if helpers == 1 else f"the server and {helpers} clients"
    ]
    return len(sight.reads) == 5 - helpers


assert answer_1 is not ..., "set answer_1 first"
assert opens_others(answer_1), "not enough shares"
assert not opens_others(answer_1 - 1), "fewer would do"

# %% [markdown]
# **2.** With ten clients and the default threshold, how many may drop out before the round opens nothing at all? Set `answer_2` to the
# largest number that still ends in a sum.

# %% tags=["answer"]
answer_2 = 3

# %% tags=["check"]
assert answer_2 is not ..., "set answer_2 first"
assert run_round(secagg, n_clients=10, n_params=36, drop=range(answer_2)).status == "sum", "too many"
stopped = run_round(secagg, n_clients=10, n_params=36, drop=range(answer_2 + 1))
assert stopped.status == "aborted", "one more is still a sum"
print(stopped.reason)

# %% [markdown]
# **3.** Words of 32 bits carry a sum over 100 clients, each with weighted coordinates up to 50. How many fractional bits can be had before
# the sum may wrap? Set `answer_3`. Then say why a client that lies about its weight is not stopped by this.

# %% tags=["answer"]
answer_3 = 18

# %% tags=["check"]
assert answer_3 is not ..., "set answer_3 first"
assert FixedPoint(bits=32, fractional_bits=answer_3).largest(100) >= 50, "the sum may wrap"
assert FixedPoint(bits=32, fractional_bits=answer_3 + 1).largest(100) < 50, "a finer grid still fits"
print(
    f"a step is {2.0**-answer_3:.1e}, and a coordinate at most {FixedPoint(bits=32, fractional_bits=answer_3).largest(100):.1f}"
)
