"""The example's sequences: what Debian's hmmer-examples package ships, as one FASTA file."""

import gzip
from pathlib import Path

FASTA_WIDTH = 60
# Below the package's folder of examples: globins, a receptor with fn3 and kinase domains, and some that are no kin.
SEQUENCES = (
    "tutorial/globins45.fa",
    "tutorial/7LESS_DROME",
    "testsuite/PAX8_HUMAN",
    "testsuite/rndseq400-10.fa.gz",
    "easel/demotic/examples/example-single.fa.gz",
)
ALIGNMENTS = ("tutorial/globins4.sto", "tutorial/fn3.sto", "tutorial/Pkinase.sto")


def targets(examples: Path) -> str:
    """The database that the example searches."""
    return "".join(fasta(read(examples / name)) for name in SEQUENCES)


def read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("ascii")


def fasta(text: str) -> str:
    """FASTA as it is; an entry in UniProt's own format as FASTA."""
    if text.startswith(">"):
        return text if text.endswith("\n") else text + "\n"
    name = description = ""
    sequence: list[str] = []
    for line in text.splitlines():
        if line.startswith("ID "):
            name = line.split()[1]
        elif line.startswith("DE ") and not description:
            description = line[5:].strip()
        elif line.startswith(" "):
            sequence += line.split()
    residues = "".join(sequence)
    lines = [residues[at : at + FASTA_WIDTH] for at in range(0, len(residues), FASTA_WIDTH)]
    return "\n".join([f">{name} {description}".rstrip(), *lines, ""])
