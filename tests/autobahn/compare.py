"""Compares the suite's report with the expected results: compare.py expected.txt index.json

Runs with the suite's own Python 2.7, and with Python 3 as well.
"""
from __future__ import print_function

import collections
import json
import os
import sys


def read_expectation(path):
    cases, exceptions = None, {}
    with open(path) as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if len(words) == 2 and words[0] == "cases":
                cases = int(words[1])
            elif words:
                exceptions[words[0]] = (words[1], words[2])
    return cases, exceptions


def main(expectation_path, report_path):
    cases, exceptions = read_expectation(expectation_path)
    with open(report_path) as report:
        (results,) = json.load(report).values()
    as_expected = 0
    for case in sorted(results, key=lambda case: [int(number) for number in case.split(".")]):
        result = results[case]
        found = (result["behavior"], result["behaviorClose"])
        expected = exceptions.get(case, ("OK", "OK"))
        if found == expected:
            as_expected += 1
        else:
            events = os.path.join(os.path.dirname(report_path), result["reportfile"])
            print("%s: %s, expected %s; see %s" % (case, "/".join(found), "/".join(expected), events))
    if len(results) != cases:
        print("expected %d cases" % cases)
    counts = collections.Counter(result["behavior"] for result in results.values()).most_common()
    kinds = ", ".join("%d %s" % (count, kind if kind == "OK" else kind.lower()) for kind, count in counts)
    print("%d cases: %d as expected (%s)" % (len(results), as_expected, kinds))
    return 0 if as_expected == len(results) == cases else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
