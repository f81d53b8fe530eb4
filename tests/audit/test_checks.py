"""Each check with a pipeline that has the fault, and one that has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.audit import Bench, Finding
from qflsec.audit.check import NotApplicable
from qflsec.audit.collect import parts_of, source_code
from qflsec.base import CheckCard, find, names

N = "import numpy as np\n"
CIPHER = (
    "import os\nimport numpy as np\nfrom cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
    "KEY = AESGCM.generate_key(bit_length=128)\n"
)
GCM = CIPHER + (
    "def encrypt(update):\n    nonce = os.urandom(12)\n    return nonce, AESGCM(KEY).encrypt(nonce, update.tobytes(), None)\n"
    "def decrypt(message):\n    return np.frombuffer(AESGCM(KEY).decrypt(message[0], message[1], None))\n"
)
MEDIAN = (
    N
    + "def aggregate(updates):\n    return np.median([u for u in updates if np.isfinite(u).all()], axis=0)\n"
)
DATA = N + "X = np.arange(40.0).reshape(20, 2)\nY = np.arange(20) % 2\n"
SPLIT = (
    "from sklearn.model_selection import train_test_split\nfrom sklearn.preprocessing import StandardScaler\n"
)
CTR = (
    "import os\nimport numpy as np\nfrom cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\n"
    "KEY = os.urandom(16)\ndef run(raw, nonce):\n"
    "    one = Cipher(algorithms.AES(KEY), modes.CTR(nonce)).encryptor()\n    return one.update(raw)\n"
)

CASES = [
    ("unpickling", "import pickle\ndef receive(raw):\n    return pickle.loads(raw)\n", N + "def receive(f):\n    return np.load(f)\n"),
    ("unpickling", "import torch\nstate = lambda f: torch.load(f, weights_only=False)\n", "import torch\nstate = lambda f: torch.load(f)\n"),
    ("statistical-secrets", N + "mask = np.random.normal(size=3)\nsent = 1 + mask\n", N + "mask = np.random.random(3) < 0.5\n"),
    ("statistical-secrets", N + "key = np.random.randint(9)\nsend(key)\n", N + "import jax\nkey = np.random.randint(9)\nkey = jax.random.PRNGKey(key)\n"),
    ("statistical-secrets", "import random\nsecret_key = random.getrandbits(128)\n", "import secrets\nsecret_key = secrets.randbits(128)\n"),
    ("statistical-secrets", N + "rng = np.random.default_rng()\nshared_pad = rng.bytes(32)\n", N + "rng = np.random.default_rng()\nrows = rng.permutation(32)\n"),
    (
        "seeded-noise",
        "import torch\ndef add(u):\n    torch.manual_seed(0)\n    noise = torch.randn(3)\n    return u + noise\n",
        "import torch\ndef add(u):\n    noise = torch.randn(3)\n    return u + noise\n",
    ),
    ("unauthenticated-cipher", CTR, GCM),
    ("unauthenticated-cipher", CTR.replace("CTR(nonce)", "ECB()"), CTR + "import hmac\n"),
    (
        "repeated-pad",
        N + "def cover(data, key):\n    return np.bitwise_xor(data, np.resize(key, len(data)))\n",
        N + "def cover(data, key):\n    return np.bitwise_xor(data, key)\n",
    ),
    ("secret-key-sent", "def out(context):\n    return context.serialize(save_secret_key=True)\n", "def out(context):\n    return context.serialize()\n"),
    (
        "unchecked-error-rate",
        "def bb84(alice_bits, bob_bits, bases):\n    qber = (alice_bits != bob_bits).mean()\n    print(qber)\n    return alice_bits\n",
        "def bb84(alice_bits, bob_bits, bases):\n    qber = (alice_bits != bob_bits).mean()\n    return alice_bits if qber < 0.1 else None\n",
    ),
    (
        "key-compared-in-the-clear",
        "def qkd(alice_key, bob_key, basis):\n    qber = 0\n    assert alice_key == bob_key\n    return alice_key, qber\n",
        "def qkd(alice_bits, bob_bits, basis):\n    qber = (alice_bits[:9] == bob_bits[:9]).mean()\n    return alice_bits, qber\n",
    ),
    (
        "noise-formula",
        "import math\ndef sigma(e, d):\n    return 2 * math.log(1.25 / d) / e\n",
        "import math\ndef sigma(e, d):\n    return (2 * math.log(1.25 / d)) ** 0.5 / e\n",
    ),
    (
        "noise-formula",
        "import math\nepsilon = 4.0\ndef sigma(d):\n    return math.sqrt(2 * math.log(1.25 / d)) / epsilon\n",
        "import math\nepsilon = 0.5\ndef sigma(d):\n    return math.sqrt(2 * math.log(1.25 / d)) / epsilon\n",
    ),
    (
        "scaler-on-everything",
        SPLIT + "def split(x, y):\n    x = StandardScaler().fit_transform(x)\n    return train_test_split(x, y)\n",
        SPLIT + "def split(x, y):\n    a, b = train_test_split(x)\n    s = StandardScaler().fit(a)\n    return s.transform(a), s.transform(b)\n",
    ),
    (
        "evaluated-on-training",
        "def report(model, x_train, y_train):\n    return model.score(x_train, y_train)\n",
        "def report(model, x_train, y_train, x_test, y_test):\n    return model.score(x_train, y_train), model.score(x_test, y_test)\n",
    ),
    (
        "same-seed-for-all",
        N + "def part(cid):\n    return np.random.default_rng(0).permutation(9)[:3]\n",
        N + "def part(cid):\n    return np.random.default_rng(0).permutation(9)[3 * cid : 3 * cid + 3]\n",
    ),
    (
        "fallback-partition",
        "def who(context):\n    try:\n        client_id = context['id']\n    except KeyError:\n        client_id = 0\n    return client_id\n",
        "def who(context):\n    try:\n        client_id = context['id']\n    except KeyError:\n        raise\n    return client_id\n",
    ),
    ("test-records-in-training", DATA + "data = (X, Y, X[5:9], Y[5:9])\n", DATA + "data = (X[:15], Y[:15], X[15:], Y[15:])\n"),
    ("records-at-several-clients", DATA + "data = [(X[:9], Y[:9]), (X[4:], Y[4:])]\n", DATA + "data = [(X[:9], Y[:9]), (X[9:], Y[9:])]\n"),
    ("empty-clients", DATA + "data = [(X, Y), (X[:0], Y[:0])]\n", DATA + "data = [(X[:9], Y[:9]), (X[9:], Y[9:])]\n"),
    ("plaintext-sent", N + "def encrypt(update):\n    return b'head' + update.astype('float32').tobytes()\n", GCM),
    ("plaintext-sent", N + "def encrypt(update):\n    return 3.7 * update + 0.25\n", GCM),
    (
        "plaintext-sent",
        N + "def encrypt(update):\n    mask = np.random.normal(size=update.shape)\n    return {'body': 8 * (update + mask), 'mask': mask, 'scale': 8.0}\n",
        N + "def encrypt(update):\n    return update + np.random.normal(size=update.shape) * 1e3\n",
    ),
    ("keystream-reuse", CTR + "def encrypt(update):\n    return run(update.tobytes(), bytes(16))\n", GCM),
    (
        "keystream-reuse",
        CTR + "STEP = [0]\ndef encrypt(update):\n    STEP[0] += 1\n    return bytes([STEP[0]]) + run(update.tobytes(), bytes(16))\n",
        CTR + "def encrypt(update):\n    return run(update.tobytes(), os.urandom(16))\n",
    ),
    (
        "unnoticed-change",
        CTR + "def encrypt(u):\n    n = os.urandom(16)\n    return n, run(u.tobytes(), n)\ndef decrypt(m):\n    return np.frombuffer(run(m[1], m[0]))\n",
        GCM,
    ),
    ("decryption", GCM.replace("return np.frombuffer", "return 1.01 * np.frombuffer"), GCM),
    (
        "decryption",
        ("class Half:\n    def __init__(self, v): self.v = v\n    def __add__(self, o): return Half((self.v + o.v) / 2)\n"
        "def encrypt(u): return Half(u)\ndef decrypt(m): return m.v\n"),
        ("class Whole:\n    def __init__(self, v): self.v = v\n    def __add__(self, o): return Whole(self.v + o.v)\n"
        "def encrypt(u): return Whole(u)\ndef decrypt(m): return m.v\n"),
    ),
    ("constant-key", "def bb84():\n    return bytes(range(32))\n", "import os\ndef bb84():\n    return os.urandom(32)\n"),
    ("constant-key", "import os\ndef bb84():\n    return os.urandom(8)\n", "import os\ndef bb84():\n    return [b & 1 for b in os.urandom(256)], 0.02\n"),
    ("key-without-channel", "import os\ndef qkd():\n    return os.urandom(32), os.urandom(32)\n", "import os\ndef qkd():\n    return {'key': os.urandom(32), 'qber': 0.01}\n"),
    (
        "secret-key-at-the-server",
        "from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey\nserver = {'deep': [{'k': X25519PrivateKey.generate()}]}\n",
        "from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey\nserver = {'k': X25519PrivateKey.generate().public_key()}\n",
    ),
    ("unbounded-influence", N + "def aggregate(updates):\n    return np.mean(updates, axis=0)\n", MEDIAN),
    ("non-finite-updates", N + "def aggregate(updates):\n    return np.median(updates, axis=0)\n", MEDIAN),
    ("aggregate-shape", N + "def aggregate(updates):\n    return np.mean(updates) * np.ones(len(updates[0]))\n", MEDIAN),
    ("aggregate-shape", N + "def aggregate(updates):\n    return np.mean(updates, axis=1)\n", MEDIAN),
    ("stated-counts", N + "def aggregate(u, counts):\n    return np.average(u, axis=0, weights=counts)\n", MEDIAN),
    ("no-clients", N + "def aggregate(u, counts):\n    return np.sum([c * x for c, x in zip(counts, u)], axis=0) / float(sum(counts))\n", MEDIAN),
]  # fmt: skip


def found(folder: Path, check: str, text: str) -> list[Finding]:
    """What one check finds in one pipeline."""
    (folder / "pipe.py").write_text(text)
    made = find("check", check)()
    parts = [source_code(folder, "pipe.py")]
    if not isinstance(parts[0], made.looks_at):
        parts = [
            part
            for part in parts_of(folder, "pipe.py", given={}, wanted="")[0]
            if isinstance(part, made.looks_at)
        ]  # type: ignore[misc]
    assert parts, f"no part of the kind {made.looks_at.__name__}"
    return [finding for part in parts for finding in made.run(part, Bench())]


@pytest.mark.parametrize(
    ("check", "faulty", "clean"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_a_fault_is_found_and_its_absence_too(tmp_path: Path, check: str, faulty: str, clean: str) -> None:
    assert found(tmp_path, check, faulty)
    (tmp_path / "clean").mkdir()
    assert found(tmp_path / "clean", check, clean) == []


@pytest.mark.parametrize("text", ["-----BEGIN PRIVATE KEY-----\nMIGH", "API_TOKEN=abc\n"])
def test_secrets_beside_the_code(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, "secrets-beside-the-code", "") == []
    (tmp_path / ".env").write_text(text)
    (finding,) = found(tmp_path, "secrets-beside-the-code", "")
    assert finding.place is not None
    assert finding.place.file == ".env"


def test_homomorphic_messages_are_not_asked_for_a_tag(tmp_path: Path) -> None:
    text = N + "def encrypt(u):\n    return u + 7\ndef decrypt(m):\n    return m - 7\n"
    with pytest.raises(NotApplicable):
        found(tmp_path, "unnoticed-change", text)


@pytest.mark.parametrize("name", names("check"))
def test_every_card_is_whole(name: str) -> None:
    check = find("check", name)
    card = check.card
    assert isinstance(card, CheckCard)
    assert card.name == name
    assert check.looks_at is not None
    texts = (
        card.idea,
        card.title,
        card.proves,
        card.consequence,
        card.remedy,
        card.source.paper,
        card.source.where,
        *card.cannot,
    )
    assert all(text.strip() and "\n" not in text for text in texts)
    assert card.cannot
    assert all(
        text[0].isupper() and text.endswith(".")
        for text in (card.idea, card.proves, card.consequence, card.remedy, *card.cannot)
    )
