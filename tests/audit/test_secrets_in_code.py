"""Where a seed may stand, and how a secret may be drawn: each found, and sound code of the same look left alone."""

from __future__ import annotations

import ast

import pytest

from qflsec.audit.checks.generators_in_code import Generators
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import find

N = "import os, random, secrets\nimport numpy as np\nimport torch\n"


def findings(check: str, text: str, path: str = "pipe.py") -> list[Finding]:
    file = SourceFile(path=path, text=N + text)
    return list(find("check", check)().read(file, file.tree))


ADD = "def privatise(u):\n    noise = rng.normal(0.0, 1.0, u.shape)\n    return u + noise\n"
TORCH_ADD = "def add_noise(u):\n    noise = torch.randn_like(u)\n    return u + noise\n"
NUMPY_ADD = "def privatise(u):\n    return u + np.random.normal(0, 1, u.shape)\n"
IN_CLASS = (
    "class Client:\n{made}    def protect(self, u):\n        return u + self.rng.normal(0, 1, u.shape)\n"
)

SEEDED = {
    "a generator of the file": "rng = np.random.default_rng(42)\n" + ADD,
    "its seed has a name": "SEED = 42\nrng = np.random.default_rng(SEED)\n" + ADD,
    "its seed is computed": "rng = np.random.default_rng([1234 + 7, int('3')])\n" + ADD,
    "the generator's parts": "rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(42)))\n" + ADD,
    "spawned": "rng = np.random.default_rng(42).spawn(2)[0]\n" + ADD,
    "imported by itself": "from numpy.random import default_rng as made\nrng = made(seed=42)\n" + ADD,
    "RandomState": "rng = np.random.RandomState(3)\n" + ADD,
    "random.Random": "rng = random.Random(3)\ndef privatise(u):\n    return u + rng.gauss(0, 1)\n",
    "torch's own": "torch.manual_seed(0)\n" + TORCH_ADD,
    "numpy's own": "np.random.seed(0)\n" + NUMPY_ADD,
    "by a function that is called": "def fix(seed=1):\n    np.random.seed(seed)\nfix()\n" + NUMPY_ADD,
    "by main": "def main():\n    fix(5)\ndef fix(seed):\n    torch.manual_seed(seed)\nif __name__ == '__main__':\n    main()\n" + TORCH_ADD,
    "a generator of torch": "G = torch.Generator()\nG.manual_seed(1)\ndef privatise(u):\n    return u + torch.randn(3, generator=G)\n",
    "in place": "torch.manual_seed(1)\ndef privatise(u):\n    noise = torch.empty(3).normal_(0, 1)\n    return u.add_(noise)\n",
    "a distribution": "torch.manual_seed(1)\ndef privatise(u):\n    return u + torch.distributions.Laplace(0, 1).sample(u.shape)\n",
    "a generator of torch in a class": "class A:\n    def __init__(self):\n        self.g = torch.Generator()\n        self.g.manual_seed(1)\n    def protect(self, u):\n        return u + torch.randn(3, generator=self.g)\n",
    "in __init__": IN_CLASS.format(made="    def __init__(self):\n        self.rng = np.random.default_rng(42)\n"),
    "a class attribute": IN_CLASS.format(made="    rng = np.random.default_rng(42)\n"),
    "a seed kept by __init__": IN_CLASS.format(
        made="    def __init__(self, seed=0):\n        self.seed = seed\n        self.rng = np.random.default_rng(self.seed)\n"
    ),
    "a default generator": "def privatise(u, rng=np.random.default_rng(42)):\n    return u + rng.normal(0, 1, 3)\n",
    "a default seed": "def privatise(u, seed=0):\n    rng = np.random.default_rng(seed)\n    return u + rng.normal(0, 1, 3)\n",
    "in place of None": "def privatise(u, rng=None):\n    rng = rng or np.random.default_rng(42)\n    return u + rng.normal(0, 1, 3)\n",
    "handed by a call": "def noised(u, rng):\n    return u + rng.normal(0, 1, 3)\ndef privatise(u):\n    return noised(u, np.random.default_rng(7))\n",
    "a function makes it": "def made():\n    return np.random.default_rng(7)\ndef privatise(u):\n    return u + made().normal(0, 1, 3)\n",
    "a number of the client": "def privatise(u, cid):\n    return u + np.random.default_rng(1234 + cid).normal(0, 1, 3)\n",
    "one for each client": "rngs = [np.random.default_rng(i) for i in range(9)]\ndef privatise(u, cid):\n    return u + rngs[cid].normal(0, 1, 3)\n",
    "bound as a global": "def start():\n    global rng\n    rng = np.random.default_rng(42)\n" + ADD,
    "drawn at the top": "rng = np.random.default_rng(42)\nNOISE = rng.normal(0, 1, 3)\ndef privatise(u):\n    return u + NOISE\n",
    "added in place": "rng = np.random.default_rng(42)\ndef privatise(u):\n    u += rng.laplace(0, 1, 3)\n    return u\n",
    "under another name": "rng = np.random.default_rng(42)\ndef privatise(u):\n    z = rng.normal(0, 1, 3)\n    return u + z\n",
    "around the update": "rng = np.random.default_rng(42)\ndef privatise(u):\n    return rng.normal(u, 1.0)\n",
}  # fmt: skip

NOT_SEEDED = {
    "from the system": "rng = np.random.default_rng()\n" + ADD,
    "None": "rng = np.random.default_rng(None)\n" + ADD,
    "from secrets": "rng = np.random.default_rng(secrets.randbits(128))\n" + ADD,
    "from os.urandom": "rng = np.random.default_rng(int.from_bytes(os.urandom(16), 'big'))\n" + ADD,
    "from secrets by a name": "SEED = secrets.randbits(128)\nrng = np.random.default_rng(SEED)\n" + ADD,
    "SystemRandom": "rng = random.SystemRandom()\ndef privatise(u):\n    return u + rng.gauss(0, 1)\n",
    "torch from the system": "torch.manual_seed(secrets.randbits(63))\n" + TORCH_ADD,
    "torch taken back": "torch.manual_seed(0)\nW = torch.randn(3)\ntorch.seed()\n" + TORCH_ADD,
    "torch within a fork": "with torch.random.fork_rng():\n    torch.manual_seed(0)\n    W = torch.randn(3)\n" + TORCH_ADD,
    "another library's seed": "np.random.seed(0)\n" + TORCH_ADD,
    "the split": "def split(x):\n    return np.random.default_rng(0).permutation(len(x))\nrng = np.random.default_rng()\n" + ADD,
    "the split by numpy's own": "def load_data():\n    np.random.seed(0)\n    return np.random.permutation(9)\nDATA = load_data()\n" + NUMPY_ADD,
    "first weights": "def make_model():\n    torch.manual_seed(0)\n    return torch.nn.Linear(2, 2)\nM = make_model()\n" + TORCH_ADD,
    "a generator of the split": "split_rng = np.random.default_rng(0)\nORDER = split_rng.permutation(9)\nrng = np.random.default_rng()\n" + ADD,
    "made again": "rng = np.random.default_rng(0)\nORDER = rng.permutation(9)\nrng = np.random.default_rng()\n" + ADD,
    "records that are noisy": "rng = np.random.default_rng(0)\ndef make_data():\n    noise = rng.normal(size=9)\n    return noise + 1\n",
    "first weights that are added": "rng = np.random.default_rng(0)\ndef init_weights(w):\n    return w + rng.normal(size=9)\n",
    "a model's latent": "torch.manual_seed(0)\ndef fake(generator):\n    noise = torch.randn(8, 2)\n    return generator(noise)\n",
    "a seed that is handed": "def privatise(u, seed):\n    return u + np.random.default_rng(seed).normal(0, 1, 3)\n",
    "a default that no call takes": (
        "def noised(u, seed=0):\n    return u + np.random.default_rng(seed).normal(0, 1, 3)\n"
        "def privatise(u):\n    return noised(u, secrets.randbits(64))\n"
    ),
    "a call of a test": (
        "def noised(u, rng):\n    return u + rng.normal(0, 1, 3)\ndef test_it():\n    noised(1, np.random.default_rng(0))\n"
    ),
    "a secret of the client": "def privatise(u, client_secret):\n    return u + np.random.default_rng(client_secret).normal(0, 1, 3)\n",
    "secrets beside their numbers": (
        "def privatise(u, shared):\n    for i, seed in enumerate(shared):\n        u = u + np.random.default_rng(seed).normal(0, 1, 3)\n    return u\n"
    ),
    "in __init__, from the system": IN_CLASS.format(made="    def __init__(self):\n        self.rng = np.random.default_rng()\n"),
    "a default of None": IN_CLASS.format(made="    def __init__(self, seed=None):\n        self.rng = np.random.default_rng(seed)\n"),
    "a choice in a private function": "rng = np.random.default_rng(0)\ndef dp_train(x):\n    return x[rng.permutation(9)]\n",
}  # fmt: skip


@pytest.mark.parametrize("text", SEEDED.values(), ids=SEEDED)
def test_noise_that_can_be_drawn_again(text: str) -> None:
    assert findings("seeded-noise", text)


@pytest.mark.parametrize("text", NOT_SEEDED.values(), ids=NOT_SEEDED)
def test_seeds_of_something_else_and_of_the_system(text: str) -> None:
    assert findings("seeded-noise", text) == []


def test_the_noise_of_tests_may_be_seeded() -> None:
    text = SEEDED["a generator of the file"]
    assert [one.place.line for one in findings("seeded-noise", text) if one.place is not None] == [6]
    assert findings("seeded-noise", text, path="tests/helper.py") == []
    assert findings("seeded-noise", text, path="test_noise.py") == []


MASKED = "def send(u, n):\n    return u + {call}\n"
DRAWN = {
    "RandomState": "r = np.random.RandomState(7)\nkey = r.randint(0, 256, 32)\n",
    "a name of no meaning": "z = np.random.default_rng()\nkey = z.integers(0, 256, 32)\n",
    "random.Random": "z = random.Random(7)\nkey = z.getrandbits(256).to_bytes(32, 'big')\n",
    "random by names": "from random import getrandbits, randrange\nkey = bytes(randrange(256) for _ in range(32))\n",
    "randbytes": "key = random.randbytes(32)\n",
    "rand": "r = np.random.RandomState(3)\nmask = r.rand(9)\nsent = 1 + mask\n",
    "torch": "mask = torch.randint(0, 99, (3,))\nsent = 1 + mask\n",
    "torch in place": "mask = torch.empty(3).uniform_(-9, 9)\nsent = 1 + mask\n",
    "a seeded torch generator": "g = torch.Generator().manual_seed(3)\nmask = torch.randn(3, generator=g)\nsent = 1 - mask\n",
    "of an object": "class A:\n    def __init__(self):\n        self.source = random.Random()\n    def key(self):\n        key = self.source.getrandbits(9)\n        return key\n",
    "a mask that is returned": "def pair_mask(i, j, n):\n    return np.random.default_rng(1234 + i * 9 + j).normal(0, 10, n)\n" + MASKED.format(call="pair_mask(0, 1, n)"),
    "a mask by a plain name": "def mask_of(n):\n    z = np.random.default_rng(1)\n    values = z.normal(0, 10, n)\n    return values\n" + MASKED.format(call="mask_of(n)"),
    "a key that is returned": "def make_key():\n    return np.random.bytes(32)\n",
    "a key out of bits": "def session_key():\n    bits = np.random.randint(0, 2, 256)\n    return np.packbits(bits).tobytes()\n",
    "a key by a name": "bits = np.random.randint(0, 2, 256)\nkey = np.packbits(bits).tobytes()\n",
    "bit by bit": "key = []\nfor _ in range(9):\n    key.append(random.randint(0, 1))\n",
    "handed to a cipher": "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\nBOX = AESGCM(random.randbytes(32))\n",
    "a hash of a draw": "import hashlib\nkey = hashlib.sha256(np.random.bytes(8)).digest()\n",
    "from a seed of secrets": "z = np.random.default_rng(secrets.randbits(64))\npad = z.bytes(32)\n",
}  # fmt: skip
SOUND = {
    "secrets": "key = secrets.token_bytes(32)\nnonce = os.urandom(12)\npad = secrets.randbits(256)\n",
    "SystemRandom": "z = random.SystemRandom()\nkey = z.getrandbits(256)\nrng = secrets.SystemRandom()\nkeys = rng.randrange(9)\n",
    "secrets under another name": "import secrets as random\nkey = random.randbits(256)\n",
    "random of a cryptographic library": "from Crypto.Random import random\nkey = random.getrandbits(256)\n",
    "HKDF": (
        "from cryptography.hazmat.primitives.kdf.hkdf import HKDF\nfrom cryptography.hazmat.primitives import hashes\n"
        "def pair_mask(shared, n):\n    key = HKDF(hashes.SHA256(), n, None, b'mask').derive(shared)\n    return np.frombuffer(key, np.uint8)\n"
        + MASKED.format(call="pair_mask(b'', n)")
    ),
    "a mask of comparisons": "mask = np.random.random(3) < 0.5\nsent = 1 + mask\n",
    "a mask that selects": "def train_mask(n):\n    return np.random.default_rng(0).integers(0, 2, n)\nrows = np.arange(9)[train_mask(9) == 1]\n",
    "a key of a dictionary": "d = {}\nkey = random.choice(list(d.keys()))\n",
    "one of many keys": "KEYS = [secrets.token_bytes(32)]\nkey = KEYS[random.randrange(1)]\n",
    "order of records": "rng = np.random.default_rng(0)\norder = rng.permutation(9)\n",
    "keys of JAX": "from jax import random\nkey = random.PRNGKey(0)\nkey, sub = random.split(key)\n",
    "a start of JAX": "import jax\nkey = jax.random.PRNGKey(np.random.randint(9))\n",
    "a sort key": "def sort_key(x):\n    return random.random()\n",
    "a generator of cryptography": "rng = HMAC_DRBG(secrets.token_bytes(32))\nkey = rng.bytes(32)\n",
}  # fmt: skip


@pytest.mark.parametrize("text", DRAWN.values(), ids=DRAWN)
def test_secrets_that_a_statistical_generator_draws(text: str) -> None:
    assert findings("statistical-secrets", text)


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_secrets_of_cryptography_and_what_is_no_secret(text: str) -> None:
    assert findings("statistical-secrets", text) == []


XOR = "KEY = os.urandom(32)\ndef enc(raw):\n    {pad}\n    return bytes(a ^ b for a, b in zip(raw, pad))\n"
REPEATED = {
    "bytes times": XOR.format(pad="pad = (KEY * (len(raw) // 32 + 1))[: len(raw)]"),
    "times a number that was counted": XOR.format(pad="n = -(-len(raw) // 32); pad = n * KEY"),
    "under a plain name": XOR.format(pad="k = KEY; pad = (k * 9)[: len(raw)]"),
    "from the system, under a plain name": "K = os.urandom(32)\ndef enc(raw):\n    return bytes(a ^ b for a, b in zip(raw, (K * len(raw))[:9]))\n",
    "a list": XOR.format(pad="pad = (list(KEY) * 99)[: len(raw)]"),
    "tile": XOR.format(pad="pad = np.tile(np.frombuffer(KEY, np.uint8), len(raw))"),
    "resize": XOR.format(pad="pad = np.resize(np.frombuffer(KEY, np.uint8), len(raw))"),
    "cycle": "from itertools import cycle\n" + XOR.format(pad="pad = cycle(KEY)"),
    "cycle and a slice": "import itertools\n" + XOR.format(pad="pad = itertools.islice(itertools.cycle(KEY), len(raw))"),
    "pad of numpy": XOR.format(pad="pad = np.pad(np.frombuffer(KEY, np.uint8), (0, 99), mode='wrap')"),
    "modulo its length": XOR.format(pad="pad = [KEY[i % len(KEY)] for i in range(len(raw))]"),
    "modulo a number": XOR.format(pad="pad = [KEY[i % 32] for i in range(len(raw))]"),
    "modulo by a name": XOR.format(pad="at = np.arange(len(raw)) % 32; pad = np.frombuffer(KEY)[at]; key = KEY; pad = key[at]"),
    "modulo under a plain name": "def enc(raw, k):\n    return bytes(b ^ k[i % len(k)] for i, b in enumerate(raw))\n",
    "made longer elsewhere": (
        "def stretch(key, n):\n    return (key * n)[:n]\ndef xor(a, b):\n    return bytes(x ^ y for x, y in zip(a, b))\n"
        "def enc(raw, key):\n    return xor(raw, stretch(key, len(raw)))\n"
    ),
    "at the top": "KEY = os.urandom(32)\nPAD = (KEY * 99)[:999]\ndef enc(raw):\n    return bytes(a ^ b for a, b in zip(raw, PAD))\n",
}  # fmt: skip
ONCE = {
    "as long as the message": "def enc(raw):\n    pad = os.urandom(len(raw))\n    return bytes(a ^ b for a, b in zip(raw, pad))\n",
    "a stream of a hash": "import hashlib\n" + XOR.format(pad="pad = hashlib.shake_256(KEY).digest(len(raw))"),
    "HKDF": "from cryptography.hazmat.primitives.kdf.hkdf import HKDF\n" + XOR.format(pad="pad = HKDF(None, len(raw), None, b'').derive(KEY)"),
    "cut": XOR.format(pad="pad = KEY[: len(raw)]"),
    "numbers": XOR.format(pad="pad = KEY; scale = 3 * len(KEY); n = len(raw) * 8"),
    "a product": "def enc(x, key, scale):\n    return (x ^ 3) + key * scale\n",
    "no XOR in the file": "def attention(keys, n):\n    return np.tile(keys, n)\n",
    "rows": "def enc(rows, pad):\n    return np.tile(rows, 3) ^ pad\n",
    "another function of the file": "def attention(keys, n):\n    return np.tile(keys, n)\ndef enc(a, b):\n    return a ^ b\n",
    "neighbours on a ring": "def parity(bits):\n    return [bits[i] ^ bits[(i + 1) % len(bits)] for i in range(len(bits))]\n",
    "a shift register": "def step(state, taps, n):\n    return state ^ taps[n % 4]\n",
    "a ring of bits": "def parity(bits, n):\n    return [bits[(i + 1) % n] for i in range(n)], n ^ 1\n",
}  # fmt: skip


@pytest.mark.parametrize("text", REPEATED.values(), ids=REPEATED)
def test_a_pad_that_begins_again(text: str) -> None:
    assert findings("repeated-pad", text)


@pytest.mark.parametrize("text", ONCE.values(), ids=ONCE)
def test_a_pad_that_is_as_long_as_the_message_and_what_is_no_pad(text: str) -> None:
    assert findings("repeated-pad", text) == []


def test_what_refers_to_itself_ends() -> None:
    for text in (
        "rng = rng\nnoise = rng.normal()\n",
        "def a():\n    return b()\ndef b():\n    return a()\ndef privatise(u):\n    return u + a().normal()\n",
        "def privatise(u, rng=None):\n    rng = rng\n    return u + rng.normal(0, 1, 3)\n",
    ):
        known = Generators(ast.parse(text))
        assert all(draw.seed == "" for _, draw in known.draws(ast.parse(text)))
        assert findings("seeded-noise", text) == []
