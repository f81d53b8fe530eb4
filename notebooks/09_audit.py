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
# # 9. Audits: what somebody else's pipeline really does
#
# **Threat model of this notebook.** Nobody attacks. Somebody *claims*: that an epsilon holds, that updates are encrypted, that a rule is
# robust. You have the code, five minutes and two processor cores, and must say what is true, what is false, and what you could not have
# found out. The code is not malicious: it runs in a process of its own against accidents, which is no sandbox.
#
# **After it you can** run an audit and read its coverage before its findings; explain why a broken `TorchLayer` under Opacus reports an
# ordinary epsilon; see what a server of a Flower app sees; say why *not refuted* is not *true*, and what the ceiling beside it means.
# **Time:** 40 minutes to read, 30 for the exercises; it runs in about a minute.

# %%
import os
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import qflsec
from qflsec.accounting.audited import Ranks, audit_scores
from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.audit import audit, find_target, read_claims
from qflsec.audit.outputs.text import audit_lines
from qflsec.circuits import build_circuit
from qflsec.models import QuantumLayer, check_per_sample_gradients

warnings.filterwarnings("ignore")
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
# the examples lie beside the package in a checkout
PLACES = (*Path.cwd().resolve().parents, Path(qflsec.__file__).parents[1])
ROOT = next(place for place in PLACES if (place / "examples" / "audit").is_dir())
EXAMPLES = Path(os.path.relpath(ROOT)) / "examples" / "audit"


def show(result, *, most=30):
    """The audit as the command prints it, without what was skipped."""
    lines = [line for line in audit_lines(result) if not line.startswith("  skipped")]
    print("\n".join(line[:160] for line in lines[:most]))


# %% [markdown]
# ## A federation by hand
#
# Five clients, a key from a "quantum" key distribution, a mean at the server. The author claims nothing, so that the audit looks for what
# can be found without a claim. Read the **coverage** first: a check that did not run has found nothing, whatever that looks like.

# %%
by_hand = audit(find_target(str(EXAMPLES / "federation.py")), budget=120)
show(by_hand, most=60)

# %% [markdown]
# Each finding names a line, says what was seen, and what it means for whom. `repeated-pad` was *read*: the key is resized to the length
# of the message. `unnoticed-change` was *tried*: one bit of a message was flipped, and the receiver took it.
#
# ## A circuit under Opacus
#
# The next file trains PennyLane's `TorchLayer` with `PrivacyEngine`, as many do. It runs, it converges, and it prints an epsilon.

# %%
claimed = read_claims(EXAMPLES / "opacus_claims.toml")
opacus = audit(find_target(str(EXAMPLES / "broken_opacus.py")), claimed, budget=180)
for run, finding in opacus.found():
    print(f"{finding.severity}: {finding.place}: {finding.what}")
for verdict in opacus.verdicts:
    print(f"\n{verdict.judgement}: {verdict.claim}\n  {verdict.why}")

# %% [markdown]
# Opacus computes per-sample gradients by swapping the module's registered parameters. `TorchLayer` reads its weights from another
# dictionary: what was swapped changes nothing, and the gradients of the circuit are zero. The circuit gets noise and no training. In
# *ghost* mode the norm leaves the circuit out while the second pass takes it in, so that the clip norm does not bind, and the epsilon
# that is printed has no proof. A layer that reads its registered weights is right in every mode:

# %%
torch.manual_seed(0)
features, labels = torch.rand(8, 2), torch.arange(8) % 2
layer = QuantumLayer(build_circuit(n_qubits=2, layers=2), generator=torch.Generator().manual_seed(0))
right = check_per_sample_gradients(torch.nn.Sequential(layer, torch.nn.Linear(1, 2)), features, labels)
broken = next(run for run in opacus.runs if run.check == "per-sample-gradients")
modes = [mode.mode for mode in right.modes]
shares = {
    "TorchLayer": [
        next(
            float(f.evidence["released_norm"]) / float(f.evidence["clip_norm"])
            for f in broken.findings
            if f"mode {mode}" in f.what
        )
        for mode in modes
    ],
    "QuantumLayer": [mode.released_norm / mode.clip_norm for mode in right.modes],
}
figure, axis = plt.subplots(figsize=(6, 3))
for place, (name, color) in enumerate((("TorchLayer", ORANGE), ("QuantumLayer", BLUE))):
    axis.plot(np.arange(len(modes)) + 0.1 * place - 0.05, shares[name], "os"[place], color=color, label=name)
axis.axhline(1, color=BLACK, linewidth=1, linestyle="--")
axis.set_xticks(range(len(modes)), modes)
axis.set_ylim(0.95, 1.1)
axis.set_xlim(-0.5, len(modes) - 0.5)
axis.set_ylabel("longest release of one record\n(in clip norms)")
axis.set_title("In ghost mode one record exceeds the clip norm")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A Flower app, unchanged
#
# The folder holds a `pyproject.toml` with a ServerApp and a ClientApp. The audit runs both in one process over a grid of its own, which
# hands every message on and keeps a copy: what the server of this app sees is what an attack of the lab may use.

# %%
flower = audit(find_target(str(EXAMPLES / "flower_app")), budget=180)
show(flower, most=60)

# %% [markdown]
# ## An epsilon, refuted and not refuted
#
# To try the claim of an epsilon one trains many times, half of the times with one record more (the *canary*), and looks at the loss of
# that record. If the two sides can be told apart better than the claim allows, it is false. Here is a training whose epsilon is known:
# one sum of clipped records with Gaussian noise of scale sigma.

# %%
DELTA = 1e-5
rng = np.random.default_rng(0)
records = rng.normal(size=(40, 2))


def scores(sigma, n, seed=0):
    """What the sum says of the canary, with it and without it."""
    noise = np.random.default_rng(seed).normal(0, sigma, (2, n, 2))
    canary, total = (
        np.array([1.0, 0.0]),
        (records / np.maximum(1, np.linalg.norm(records, axis=1))[:, None]).sum(0),
    )
    return (total + canary + noise[0]) @ canary, (total + noise[1]) @ canary


def bounds(sigma, n):
    inside, outside = scores(sigma, n)
    choice = Ranks(counts=(0, max(1, n // 10)))
    plain = audit_scores(inside, outside, delta=DELTA, choice=choice)
    gauss = audit_scores(inside, outside, delta=DELTA, choice=choice, method="gaussian")
    return plain.lower, plain.ceiling, gauss.lower


numbers = np.array([20, 50, 100, 200, 500, 1000, 2000, 5000])
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for axis, sigma in zip(axes, (1.0, 0.4), strict=True):
    low, top, gauss = np.array([bounds(sigma, int(n)) for n in numbers]).T
    axis.axhline(epsilon_of_mu(1 / sigma, DELTA), color=BLACK, linewidth=1, label="true epsilon")
    axis.axhline(4.38, color=BLACK, linewidth=1, linestyle=":", label="claimed: 4.38")
    axis.semilogx(numbers, top, color=GREEN, linestyle="--", label="ceiling")
    axis.semilogx(numbers, gauss, color=BLUE, marker="o", label="bound if the mechanism is Gaussian")
    axis.semilogx(numbers, low, color=ORANGE, marker="o", label="bound that assumes nothing")
    axis.set_xlabel("trainings on a side")
    axis.set_title(f"sigma = {sigma}")
axes[0].set_ylabel(f"epsilon (nats) at delta = {DELTA:g}")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# On the left the claim is true, and no bound passes the line but by bad luck (one time in twenty at most). On the right the noise is less
# than half of what was claimed. The bound that assumes nothing needs many trainings to say so, if it can at all: with a hundred its
# *ceiling* is below the claim, so that it could not have refuted it **whatever the mechanism did**. The conditional bound says it with
# fifty, and is right only where the mechanism is Gaussian. That is why a verdict of *not refuted* never stands without its ceiling.

# %% [markdown]
# ## Exercises
#
# **1.** Which exit code does `qflsec audit` give for a file that ends in `raise SystemExit`, and no claims? Set `answer_1`.

# %% tags=["answer"]
answer_1 = 3

# %% tags=["check"]
assert answer_1 is not ..., "set answer_1 first"
folder = Path("audit_exercise")
folder.mkdir(exist_ok=True)
(folder / "stops.py").write_text("raise SystemExit\n")
stopped = audit(find_target(str(folder / "stops.py")), budget=30)
(folder / "stops.py").unlink()
folder.rmdir()
assert stopped.exit_code == answer_1, "what was not tested is not safe, and no fault was found either"
print(next(run.why for run in stopped.runs if run.check == "load"))

# %% [markdown]
# **2.** How many trainings on a side are needed, of 20, 50, 100, 200, 500, before the ceiling of the bound that assumes nothing exceeds 3?
# Set `answer_2`.

# %% tags=["answer"]
answer_2 = 100

# %% tags=["check"]
assert answer_2 is not ..., "set answer_2 first"
ceilings = {n: bounds(1.0, n)[1] for n in (20, 50, 100, 200, 500)}
assert ceilings[answer_2] > 3, "this ceiling is not above 3"
assert all(top <= 3 for n, top in ceilings.items() if n < answer_2), "fewer would do"
print({n: round(float(top), 2) for n, top in ceilings.items()})

# %% [markdown]
# **3.** A server aggregates by the plain mean of ten updates. By how many honest spreads does one client move it who sends an update that
# is 1,000 spreads away? Set `answer_3`, to within a tenth. What would a bound on the norm of each update change?

# %% tags=["answer"]
answer_3 = 100.0

# %% tags=["check"]
assert answer_3 is not ..., "set answer_3 first"
updates = np.zeros((10, 1))
moved = updates.copy()
moved[-1] = 1000.0
assert abs(moved.mean() - updates.mean() - answer_3) < 0.1, "one of ten has a tenth of the weight"
print(f"{moved.mean():.1f} spreads")
