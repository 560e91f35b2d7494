"""Write the golden files anew, to be read as a diff before they are committed.

Run as `python -m tests.unit.domain_xml.write_golden`; no test does.
"""

from tests.unit.domain_xml.cases import CASES

if __name__ == "__main__":
    for case in CASES:
        case.golden.write_text(case.output())
