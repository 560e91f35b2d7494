from deploy.image.builder.targets import fasta

UNIPROT = """\
ID   7LESS_DROME             Reviewed;          70 AA.
AC   P13368;
DE   RecName: Full=Protein sevenless;
DE            EC=2.7.10.1;
SQ   SEQUENCE   70 AA;  7000 MW;  09E238A0F27684F8 CRC64;
     MTMFWQQNVD HQSDEQDKQA KGAAPTKRLN ISFNVKIAVN VNTKMTTTHI NQQAPGTSSS
     SSNSQNASPS
//
"""


def test_a_uniprot_entry_becomes_fasta() -> None:
    assert fasta(UNIPROT) == (
        ">7LESS_DROME RecName: Full=Protein sevenless;\n"
        "MTMFWQQNVDHQSDEQDKQAKGAAPTKRLNISFNVKIAVNVNTKMTTTHINQQAPGTSSS\n"
        "SSNSQNASPS\n"
    )


def test_fasta_stays_as_it_is_but_for_a_missing_last_newline() -> None:
    assert fasta(">a\nMK") == ">a\nMK\n"
