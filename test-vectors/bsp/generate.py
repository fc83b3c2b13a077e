#!/usr/bin/env python3
"""Makes segments.txt, sequences.txt, kdf-own.txt, ecdh-own.txt and ../bpp/own.txt.

Written from the rules of SGP.22 (2.5.3, 2.5.4, 3.1.3.2, 5.5, Annex G) with the primitives of the Python package
`cryptography`, apart from Bindery's code: it encrypts and authenticates each segment with fresh, one-shot calls and builds
packages inside out. Run it in this directory; the output does not change between runs (ECDSA by RFC 6979).
"""
import hashlib
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC


def filler(n, seed=0):
    return bytes((i * 7 + 3 + seed) % 251 for i in range(n))


def ber_length(n):
    if n < 0x80:
        return bytes([n])
    octets = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def tlv(tag, value):
    return bytes.fromhex(tag) + ber_length(len(value)) + value


def x963(z, info, n):
    return b"".join(hashlib.sha256(z + struct.pack(">I", i) + info).digest() for i in range(1, n // 32 + 2))[:n]


def session_keys(z, host, eid):
    return x963(z, b"\x88\x10" + bytes([len(host)]) + host + bytes([16]) + eid, 48)


class Chain:
    def __init__(self, octets):
        self.chain, self.enc, self.mac, self.n = octets[:16], octets[16:32], octets[32:], 1

    def close(self, tag, body):
        head = bytes([tag]) + ber_length(len(body) + 8)
        cmac = CMAC(algorithms.AES(self.mac))
        cmac.update(self.chain + head + body)
        self.chain = cmac.finalize()
        self.n += 1
        sealed = head + body + self.chain[:8]
        assert len(sealed) <= 1020
        return sealed

    def seal(self, tag, plain):
        if tag == 0x88:
            assert len(plain) <= 1008
            return self.close(tag, plain)
        assert len(plain) <= 1007
        ecb = Cipher(algorithms.AES(self.enc), modes.ECB()).encryptor()
        icv = ecb.update(self.n.to_bytes(16, "big"))
        padded = plain + b"\x80" + bytes(-(len(plain) + 1) % 16)
        cbc = Cipher(algorithms.AES(self.enc), modes.CBC(icv)).encryptor()
        return self.close(tag, cbc.update(padded) + cbc.finalize())

    def seal_all(self, tag, data, size):
        return b"".join(self.seal(tag, data[i : i + size]) for i in range(0, len(data), size))


def columns(*values):
    return " ".join(v if isinstance(v, str) else v.hex() or "-" for v in values) + "\n"


def write(path, head, lines):
    with open(path, "w") as out:
        out.write("".join(f"# {line}\n" for line in head))
        out.writelines(lines)


def segments():
    first, second = filler(48), filler(48, 100)
    script = [  # keys (new chain) or None, tag, plain octets
        (first, 0x87, bytes.fromhex("bf2400")),
        (None, 0x88, filler(1008, 1)),
        (None, 0x88, filler(1, 2)),
        (None, 0x87, filler(57, 3)),
        (second, 0x86, filler(1007, 4)),
        (None, 0x86, filler(1, 5)),
        (first, 0x86, filler(15, 6)),
        (None, 0x86, filler(16, 7)),
        (None, 0x86, filler(103, 8)),  # body 112 + MAC 8 = 120: one octet of length
        (None, 0x86, filler(111, 9)),  # body 112 as well
        (None, 0x86, filler(112, 10)),  # body 128 + 8 = 136: two octets of length
        (None, 0x86, filler(239, 11)),
        (None, 0x86, filler(240, 12)),  # body 256 + 8: three octets of length
        (None, 0x86, filler(991, 13)),
        (None, 0x86, filler(992, 14)),
        (None, 0x88, filler(119, 15)),  # 127 with the MAC
        (None, 0x88, filler(120, 16)),  # 128
        (None, 0x88, filler(247, 17)),  # 255
        (None, 0x88, filler(248, 18)),  # 256
        (None, 0x86, filler(1007, 19)),
    ]
    chain = None
    for keys, tag, plain in script:
        chain = Chain(keys) if keys else chain
        yield columns(keys or b"", bytes([tag]), plain, chain.seal(tag, plain))


def sequences():
    for n in [1, 991, 992, 1007, 1008, 1023, 2014, 2015, 16 * 1007, 16 * 1007 + 1, 33 * 1007 + 500]:
        sealed = Chain(filler(48, 40)).seal_all(0x86, filler(n), 1007)
        digest = hashlib.sha256(sealed).digest()
        yield columns(filler(48, 40), n.to_bytes(4, "big"), len(sealed).to_bytes(4, "big"), digest)


def kdf():
    eid = bytes.fromhex("89049032123451234512345678901235")
    for z, host in [(bytes(2) + filler(30), b"h"), (filler(32, 9), b"sixteen octets!!")]:
        keys = session_keys(z, host, eid)
        yield columns(z, host, eid, keys)


def private_key(octet):
    return ec.derive_private_key(int.from_bytes(bytes([octet]) * 32, "big"), ec.SECP256R1())


def point(key):
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def package(metadata, upp, ppk, host=b"smdp.example.com", transaction=filler(16, 77)):
    eid = bytes.fromhex("89049032123451234512345678901235")
    ours, theirs, signer = private_key(0x21), private_key(0x42), private_key(0x63)
    z = ours.exchange(ec.ECDH(), theirs.public_key())
    assert z == theirs.exchange(ec.ECDH(), ours.public_key())
    chain = Chain(session_keys(z, host, eid))
    crt = tlv("80", b"\x88") + tlv("81", b"\x10") + tlv("84", host)
    fields = tlv("82", b"\x01") + tlv("80", transaction) + tlv("a6", crt) + tlv("5f49", point(ours))
    der = signer.sign(fields + tlv("5f49", point(theirs)), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = utils.decode_dss_signature(der)
    inner = tlv("bf23", fields + tlv("5f37", r.to_bytes(32, "big") + s.to_bytes(32, "big")))
    inner += tlv("a0", chain.seal(0x87, bytes.fromhex("bf2400")))
    inner += tlv("a1", chain.seal_all(0x88, metadata, 1008))
    if ppk:
        replace = tlv("bf26", tlv("80", ppk[:16]) + tlv("81", ppk[16:32]) + tlv("82", ppk[32:]))
        inner += tlv("a2", chain.seal(0x87, replace))
        chain = Chain(ppk)
    inner += tlv("a3", chain.seal_all(0x86, upp, 1007))
    return columns(b"\x21" * 32, point(theirs), eid, host, transaction, metadata, upp, ppk, point(signer),
                   tlv("bf36", inner))


def leading_zero():
    theirs = private_key(0x42)
    scalar = 1
    while True:
        z = ec.derive_private_key(scalar, ec.SECP256R1()).exchange(ec.ECDH(), theirs.public_key())
        if z[0] == 0:
            yield columns(scalar.to_bytes(32, "big"), point(theirs), z)
            return
        scalar += 1


def packages():
    iccid = bytes.fromhex("98001032547698103214")
    small = tlv("bf25", tlv("5a", iccid) + tlv("91", b"Example") + tlv("92", b"Bootstrap"))
    icon = tlv("93", b"\x01") + tlv("94", filler(1024, 5))
    large = tlv("bf25", tlv("5a", iccid) + tlv("91", b"Example") + tlv("92", b"With an icon") + icon)
    ppk = filler(48, 150)
    yield package(small, filler(3000), b"")
    yield package(small, filler(3000), ppk)
    yield package(large, filler(1007), b"", host=b"h")
    yield package(large, filler(1008), ppk)


write("segments.txt",
      ["keys (MCV, ENC, MAC: a new chain with counter 1) or - (go on), tag, plain, sealed; made by generate.py"],
      segments())
write("sequences.txt",
      ["keys (MCV, ENC, MAC), octets of the profile (octet i is (7 i + 3) mod 251), octets sealed, SHA-256 of the 86 segments;",
       "made by generate.py"],
      sequences())
write("kdf-own.txt", ["Z, host id, EID packed, MCV and S-ENC and S-MAC; made by generate.py"], kdf())
write("ecdh-own.txt", ["own scalar, peer's point, x coordinate of the shared point; made by generate.py"], leading_zero())
write("../bpp/own.txt",
      ["otSK.DP, otPK.EUICC, EID packed, host id, transactionId, metadata, UPP, PPK (MCV, ENC, MAC) or -, public point of DPpb,",
       "BPP; made by ../bsp/generate.py"],
      packages())
