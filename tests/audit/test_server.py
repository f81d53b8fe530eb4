"""What the server holds: every kind of object that decrypts."""

from __future__ import annotations

import tenseal as ts

from qflsec.audit.check import Bench
from qflsec.audit.checks.server import SecretKeyAtTheServer
from qflsec.audit.parts import Server


def test_the_secret_key_of_tenseal_decrypts_without_its_context() -> None:
    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60])
    secret = context.secret_key()
    context.make_context_public()
    for holds, found in (({"context": context, "key": secret}, True), ({"context": context}, False)):
        part = Server(name="server", place=None, holds=holds)
        assert any(SecretKeyAtTheServer().run(part, Bench())) == found
