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
# # 6. Membership: was a record trained on?
#
# **Threat model of this notebook.** Ten clients of two records each train a classifier and publish it. The adversary holds forty records,
# of which twenty were trained on, and wants to tell which. It is *the public*: it reads the final model, knows the circuit and how it was
# trained, and owns records of the same kind. Later it may only *query* the model, with few shots; and once it is *the server*, which
# reads every update. Nobody here sees another party's data or coins.
#
# **After it you can** say why one number is not enough for an attack on membership, and read a ROC curve at its left end; say what LiRA adds
# to a loss threshold; tell noise that hides from noise that ruins; put a claim of differential privacy to the test. **Time:** 50 minutes to
# read, 30 for the exercises; it runs in about half a minute.

# %%
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats

from qflsec.accounting.predictions import Prediction, exchanged, predicted
from qflsec.accounting.roc import tpr_at_fpr
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.membership import GradientRegression, Lira, LossThreshold
from qflsec.base import stream
from qflsec.circuits import NoiseModel
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Execution, build_model
from qflsec.threat import honest_but_curious_server, public_final_model

torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
PUBLIC, SERVER = public_final_model(), honest_but_curious_server()
SEEDS = 8

# %% [markdown]
# ## Overfitting is what leaks
#
# A circuit that reads its four features over and over fits twenty records almost perfectly, and other records less well. So the *loss* of
# a record, $-\log p(y \mid x)$, tends to be smaller where the record was trained on.

# %%
DATA = DataSpec(
    name="breast-cancer", n_features=4, balanced=True, members=20, nonmembers=20, auxiliary=60, test=150
)
LOOP = FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5)
MODELS = {
    "circuit, 10 layers": {
        "name": "vqc",
        "n_qubits": 4,
        "layers": 10,
        "encoder": "reuploading",
        "scale": 6.0,
    },
    "circuit, 5 layers": {"name": "vqc", "n_qubits": 4, "layers": 5, "encoder": "reuploading", "scale": 6.0},
    "hybrid": {"name": "hybrid", "n_features": 4, "n_qubits": 4, "layers": 3},
}


def trained(model, layers=(), seeds=SEEDS, loop=LOOP):
    pipeline = Pipeline(data=DATA, model=build_model(MODELS[model]), federation=loop)
    specs = [RunSpec(seed=seed, evaluate="last") for seed in range(seeds)]
    return run_batch(pipeline, Stack.from_layers("tried", list(layers)), specs, secrets="seeded")


runs = {model: trained(model) for model in MODELS}


def fit(run):
    members = run.records("member")
    answers = run.pipeline.model(run.params, members.features).argmax(-1)
    return float((answers == members.labels).float().mean()), run.accuracy[-1]


for model, made in runs.items():
    train, test = np.mean([fit(run) for run in made], axis=0)
    print(f"{model:20s} members {train:.2f}, other records {test:.2f} classified correctly")

# %%
deep = runs["circuit, 10 layers"]


def losses(run, split):
    records = run.records(split)
    logits = run.pipeline.model(run.params, records.features)
    return torch.nn.functional.cross_entropy(logits, records.labels, reduction="none").numpy()


fig, ax = plt.subplots(figsize=(6.5, 3.2))
bins = np.logspace(-3, 1, 40)
for split, color, label in (("member", BLUE, "trained on"), ("nonmember", ORANGE, "not trained on")):
    found = np.concatenate([losses(run, split) for run in deep])
    ax.hist(np.clip(found, bins[0], None), bins, color=color, alpha=0.55, label=f"{label} ({len(found)})")
ax.set(
    xscale="log",
    xlabel="loss of a record (nats)",
    ylabel="records",
    title=f"Losses at the published model, {SEEDS} runs",
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **Loss threshold** (Yeom et al. 2018): call a record a member where its loss is small. A score for each record is enough; whoever judges
# the attack varies the threshold, which gives the ROC curve. The area under it is the probability that a member's score is above that of
# another record; the *advantage* is twice the area less one, 0 for a guess and 1 for certainty.
#
# ## LiRA: how unusual is this confidence?
#
# Some records are easy whether or not they were trained on. LiRA (Carlini et al. 2022) trains *shadow models*, each on half of the
# candidates, and asks for each record: is the confidence that I see likelier among models that saw the record, or among those that did
# not? The adversary can do so because it knows the pipeline, not because it knows any record's membership.


# %%
def judged(attack, run, threat, view=None):
    trainer = ShadowTrainer(pipeline=run.pipeline, like=run.dataset, seed=run.spec.seed)
    challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=threat, trainer=trainer)
    return score_claim(attack(run.view(threat) if view is None else view, challenge), truth)


def spread(values):
    found = mean_over_seeds(list(values), within=(-1.0, 1.0))
    return found.value, found.low, found.high


attacks = {"loss threshold": LossThreshold(), "LiRA, 32 shadow models": Lira(shadows=32, variance="bayes")}
scores = {name: [judged(attack, run, PUBLIC) for run in deep] for name, attack in attacks.items()}
for name, found in scores.items():
    print(f"{name:24s} advantage {'{:.2f} [{:.2f}, {:.2f}]'.format(*spread(one.advantage for one in found))}")
gain = [two.advantage - one.advantage for one, two in zip(*scores.values(), strict=True)]
print("LiRA less the threshold, paired by seed:  {:.2f} [{:.2f}, {:.2f}]".format(*spread(gain)))

# %%
fig, ax = plt.subplots(figsize=(5.2, 4.2))
budgets = np.arange(1, 20) / 20  # twenty other records resolve steps of 5 %
for (name, found), color in zip(scores.items(), (BLUE, ORANGE), strict=True):
    rates = np.array(
        [
            [
                tpr_at_fpr(one.raw["member_scores"], one.raw["nonmember_scores"], at).tpr.value
                for at in budgets
            ]
            for one in found
        ]
    )
    middle, low, high = np.array([spread(column) for column in rates.T]).T
    ax.plot(budgets, middle, color=color, marker=".", label=name)
    ax.fill_between(budgets, np.clip(low, 0, 1), high, color=color, alpha=0.18)
ax.plot([0.05, 1], [0.05, 1], color=GREY, ls="--", label="guessing")
ax.set(
    xscale="log",
    yscale="log",
    xlim=(0.045, 1),
    ylim=(0.045, 1.05),
    xlabel="false-positive rate",
    ylabel="true-positive rate",
    title=f"ROC on logarithmic axes: mean and 95 % interval, {SEEDS} runs",
)
ax.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# ## Why the area is not enough
#
# Two trainings, both with an area of 0.55. One leaks a little of everybody: a member's score is normal with a mean 0.18 above that of
# other records. The other gives *one member in ten* away for certain, and nothing of the rest. On average they are the same. To the ten percent
# they are not, and the left end of the curve shows it: at one false positive in a thousand, the second attack still names every tenth member.

# %%
rate = np.logspace(-4, 0, 200)
shift = np.sqrt(2) * stats.norm.ppf(0.55)
little = stats.norm.sf(stats.norm.isf(rate) - shift)
some = 0.1 + 0.9 * rate
fig, ax = plt.subplots(figsize=(5.2, 4.0))
ax.plot(rate, little, color=BLUE, label=f"a little of everybody, area {np.trapezoid(little, rate):.2f}")
ax.plot(rate, some, color=ORANGE, label=f"one in ten for certain, area {np.trapezoid(some, rate):.2f}")
ax.plot(rate, rate, color=GREY, ls="--", label="guessing")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="false-positive rate",
    ylabel="true-positive rate",
    title="Two leaks with one area (exact curves)",
)
ax.legend(frameon=False)
plt.show()
for at in (1e-1, 1e-2, 1e-3):
    print(f"at {at:g}: {np.interp(at, rate, little):.4f} and {np.interp(at, rate, some):.4f}")

# %% [markdown]
# A rate of 0.1 % needs a thousand other records to be seen at all; with twenty, the smallest step is 5 %. `tpr_at_fpr` says whether a
# budget is resolved, and the lab refuses the rate at 0.1 % where it is not.
#
# ## What shots do
#
# Su et al. (arXiv:2509.06086) attack quantum models that can be *queried*, and find that the number of shots matters. Here the adversary gets
# no parameters: it sends each record once, and the model's owner answers with so many measurements. The last point is the exact answer.

# %%
SHOTS = (1, 4, 16, 64, 256, None)


def queried(run, execution):
    """A view that holds no model, only answers of this execution."""
    view, generator = run.view(PUBLIC), stream(run.spec.seed, "answers")

    def answer(features):
        return run.pipeline.model(run.params, features, execution=execution, generator=generator)

    return replace(view, items=(), granted=replace(view.granted, model=None), oracle=answer)


def by_execution(model, executions):
    return [
        spread(judged(LossThreshold(), run, PUBLIC, queried(run, execution)).advantage for run in runs[model])
        for execution in executions
    ]


fig, ax = plt.subplots(figsize=(6.5, 3.6))
places = np.arange(len(SHOTS))
for offset, (model, color) in enumerate(zip(MODELS, (ORANGE, BLUE, GREEN), strict=True)):
    middle, low, high = np.array(by_execution(model, [Execution(shots=shots) for shots in SHOTS])).T
    ax.errorbar(
        places + 0.08 * (offset - 1),
        middle,
        (middle - low, high - middle),
        color=color,
        marker="o",
        capsize=3,
        label=model,
    )
ax.axhline(0, color=GREY, lw=1)
ax.set_xticks(places, [str(shots) if shots else "exact" for shots in SHOTS])
ax.set(
    xlabel="shots for each answer",
    ylabel="advantage of the loss threshold",
    ylim=(-0.3, 1.0),
    title=f"One query for each record: mean and 95 % interval, {SEEDS} runs",
)
ax.legend(frameon=False, loc="upper left", ncols=3)
plt.show()

# %% [markdown]
# Few shots blur the loss, so less of it is told; four shots already tell half. That is no protection: whoever may ask *again* averages, and
# shots have no epsilon (notebook 5). The hybrid hardly leaks at any number of shots, and not because it is quantum or because it is not: it
# fits its members no better than other records. **Whether a model leaks is first of all a matter of how it generalises.**
#
# Noise on the circuit shrinks all expectation values towards 0. Does it hide members? Below, the same models answer from a circuit with
# depolarizing noise after every gate, exactly (infinitely many shots).

# %%
LEVELS = (0.0, 0.005, 0.01, 0.02, 0.05)
noises = [
    Execution(noise=NoiseModel(kind="local-depolarizing", p=p, where="every-gate")) if p else Execution()
    for p in LEVELS
]


def accuracy(run, execution):
    records = run.records("test")
    with torch.no_grad():
        answers = run.pipeline.model(run.params, records.features, execution=execution).argmax(-1)
    return float((answers == records.labels).float().mean())


model = "circuit, 5 layers"
leaks = np.array(by_execution(model, noises)).T
useful = np.array([spread(accuracy(run, one) for run in runs[model]) for one in noises]).T
fig, ax = plt.subplots(figsize=(6.5, 3.4))
for (middle, low, high), color, label in (
    (leaks, ORANGE, "advantage of the loss threshold"),
    (useful, BLUE, "test accuracy"),
):
    ax.errorbar(
        LEVELS, middle, (middle - low, high - middle), color=color, marker="o", capsize=3, label=label
    )
ax.axhline(0, color=GREY, lw=1)
ax.set(
    xlabel="p of depolarizing noise after every gate",
    ylabel="advantage, and accuracy",
    ylim=(-0.1, 1.0),
    title=f"Exact answers of a noisy circuit: mean and 95 % interval, {SEEDS} runs",
)
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.8))
plt.show()

# %% [markdown]
# Nothing happens. Noise shrinks all answers nearly alike, which keeps the *order* of the losses, and the order is all that a threshold needs;
# it keeps the sign of the answers too, so the model is as useful as before. Exact answers of a noisy circuit have no epsilon, however noisy.
# (With few shots a shrunken answer drowns sooner; that is shot noise again.)
#
# ## The ceiling of a claim
#
# DP-SGD clips each record's gradient and adds noise, and its epsilon is a *theorem*: exchange one member for another record, and no event's
# probability grows by more than a factor $e^{\varepsilon}$, but for $\delta$. So whatever the attack,
#
# $$\mathrm{TPR} \le e^{\varepsilon}\,\mathrm{FPR} + \delta, \qquad 2\,\mathrm{AUC} - 1 \le \frac{e^{\varepsilon} - 1 + 2\delta}{e^{\varepsilon} + 1}.$$
#
# The ceiling is known before the attack is run. A measurement above it refutes the claim; one below it proves nothing, since the next attack
# may be better. So we take the strongest attack that we have: the server solves the sums of all rounds for the records that are in them
# (`gradient-regression`).

# %%
short = FederationConfig(n_clients=4, rounds=10, learning_rate=0.1)
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
private = {
    epsilon: trained(
        "circuit, 5 layers", [DpSgd(clip_norm=0.1, target_epsilon=epsilon, delta=1e-5)], loop=short
    )
    for epsilon in EPSILONS
}
proofs = {epsilon: predicted(made[0].ledger(SERVER)) for epsilon, made in private.items()}
solver = GradientRegression()
reached = {epsilon: [judged(solver, run, SERVER) for run in made] for epsilon, made in private.items()}
open_ = spread(judged(solver, run, SERVER).advantage for run in trained("circuit, 5 layers", loop=short))
print("without noise: {:.2f} [{:.2f}, {:.2f}]".format(*open_))

fig, ax = plt.subplots(figsize=(6.5, 3.6))
grid = np.logspace(np.log10(0.3), 2, 80)
ax.plot(
    grid,
    [Prediction(epsilon=2 * e, delta=0.0, layer="", unit="", adjacency="", stated=e).advantage for e in grid],
    color=GREY,
    label="allowed by the proof",
)
middle, low, high = np.array([spread(one.advantage for one in found) for found in reached.values()]).T
ax.errorbar(
    EPSILONS,
    middle,
    (middle - low, high - middle),
    color=ORANGE,
    marker="o",
    capsize=3,
    ls="",
    label="measured",
)
ax.axhline(0, color=GREY, lw=1, ls=":")
ax.set(
    xscale="log",
    xlabel="proved epsilon of a record (zero-out adjacency)",
    ylabel="advantage",
    ylim=(-0.35, 1.05),
    title=f"gradient-regression by the server: mean and 95 % interval, {SEEDS} runs",
)
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0.02, 0.62))
plt.show()

# %% [markdown]
# The ledger's epsilon is for a record that is *taken away*. To exchange two records takes two such steps, so the ceiling is that of
# $2\varepsilon$. All points stay below it, as they must. From an epsilon of about 2 on the ceiling is near 1: such a proof forbids
# next to nothing, even where this attack gains little. Between what is proved and what is reached lies room for a better attack, or for a
# better proof; a measurement cannot tell which.
#
# And now a mechanism that claims an epsilon of 0.2 and forgets the noise on half of the parameters. Nothing in its output says so.


# %%
@dataclass(frozen=True, kw_only=True)
class NoiseOnSome(DpSgd):
    """Broken: the second half of the parameters goes without noise."""

    def gradient(self, per_sample, mask, expected, streams):
        noisy = super().gradient(per_sample, mask, expected, streams)
        bare = DpSgd(clip_norm=self.clip_norm, noise_multiplier=0.0)
        quiet = bare.gradient(per_sample, mask, expected, streams)
        half = noisy.shape[-1] // 2
        return torch.cat([noisy[..., :half], quiet[..., half:]], dim=-1)


for kind in (DpSgd, NoiseOnSome):
    made = trained("circuit, 5 layers", [kind(clip_norm=0.02, target_epsilon=0.2, delta=1e-5)], loop=short)
    allowed = predicted(made[0].ledger(SERVER)).advantage
    middle, low, high = spread(judged(solver, run, SERVER).advantage for run in made)
    verdict = "REFUTED" if low > allowed else "not refuted"
    print(
        f"{kind.__name__:12s} allowed {allowed:.2f}, measured {middle:.2f} [{low:.2f}, {high:.2f}]: {verdict}"
    )

# %% [markdown]
# ## Exercises
#
# **1.** An attack names 3 % of the members and not one other record. How many other records must the judge have at least, before a
# true-positive rate *at a false-positive rate of 1 %* means more than the rate at no false positive at all? Set `answer_1`.

# %% tags=["answer"]
answer_1 = 100

# %% tags=["check"]
assert answer_1 is not ..., "set answer_1 first"
ramp = np.linspace(0, 1, 50).tolist()
assert tpr_at_fpr(ramp, np.linspace(0, 0.9, answer_1).tolist(), 0.01).resolved, (
    "one false positive is still too much"
)
assert not tpr_at_fpr(ramp, np.linspace(0, 0.9, answer_1 - 1).tolist(), 0.01).resolved, "fewer would do"

# %% [markdown]
# **2.** The ledger proves an epsilon in zero-out adjacency, at a delta that we neglect. Which is the largest epsilon, to two decimals, whose
# ceiling on the advantage is at most 0.5? Set `answer_2`.

# %% tags=["answer"]
answer_2 = 0.54


# %% tags=["check"]
def ceiling(epsilon):
    doubled, delta = exchanged(epsilon, 0.0, "zero-out")
    return Prediction(epsilon=doubled, delta=delta, layer="", unit="", adjacency="", stated=epsilon).advantage


assert answer_2 is not ..., "set answer_2 first"
assert ceiling(answer_2) <= 0.5, f"it allows {ceiling(answer_2):.3f}"
assert ceiling(answer_2 + 0.01) > 0.5, "a larger one would do"

# %% [markdown]
# **3.** The owner of the ten-layer circuit answers with 4 shots. How many times must the adversary ask about each record, at least, before the
# *average* of the answers' probabilities gives it 90 % of the advantage that exact answers give, on the mean of the eight runs? Try powers of
# two, and set `answer_3`. What does that say of shots as a defense?

# %% tags=["answer"]
answer_3 = 8


# %% tags=["check"]
def averaged(times):
    found = []
    for run in deep:
        view = queried(run, Execution(shots=4))
        asked = view.oracle

        def answer(features, asked=asked):
            return torch.stack([asked(features).softmax(-1) for _ in range(times)]).mean(0).log()

        found.append(judged(LossThreshold(), run, PUBLIC, replace(view, oracle=answer)).advantage)
    return np.mean(found)


assert answer_3 is not ..., "set answer_3 first"
exact = np.mean([judged(LossThreshold(), run, PUBLIC, queried(run, Execution())).advantage for run in deep])
assert averaged(answer_3) >= 0.9 * exact, f"{averaged(answer_3):.2f} of {exact:.2f}: ask more often"
assert averaged(answer_3 // 2) < 0.9 * exact, "half as many would do"
