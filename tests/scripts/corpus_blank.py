#!/usr/bin/env python3
"""What can be scored on mini-mmlu by looking at the choices alone, the question blanked?

usage: corpus_blank.py TRAIN.txt MMLU_DIR [--control]

Guesses every test question by priors learnt from the training text: letters, how often a choice occurs
or answers a question in words, how often it was right where it was offered (by itself, by letter, beside
each other choice), its length, its place in the alphabet, and the answers of the shots. Prints a line a
prior and "worst PERCENT".
--control replaces the wrong choices by values that the subject never has, which a prior must notice.
"""

import collections
import csv
import os
import re
import sys

QUESTION = re.compile(r"^(.*)\nA\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)\nAnswer: ([A-D])$", re.M)
ABOUT = re.compile(r"The following are multiple choice questions \(with answers\) about (.*)\.\n")
WORDS = re.compile(r"^Answer: ([A-Za-z].+)$", re.M)
LETTERS = "ABCD"


def read_training(path):
    """Counts: of words; of choices by subject; right and offered by several keys; of letters."""
    counts = collections.defaultdict(collections.Counter)
    with open(path) as f:
        documents = f.read().split("\n<|endoftext|>\n")
    for document in documents:
        counts["word"].update(re.findall(r"[a-z]+", document.lower()))
        counts["answer"].update(WORDS.findall(document))
        about = ABOUT.search(document)
        if not about:
            continue
        subject = about.group(1)
        for match in QUESTION.finditer(document, about.end() - 1):
            choices, letter = match.groups()[1:5], match.group(6)
            counts["letter"][letter] += 1
            for i, choice in enumerate(choices):
                keys = [(subject, choice), (subject, choice, LETTERS[i])]
                keys += [(subject, choice, "with", other) for other in choices]
                counts["subject"][subject, choice] += 1
                counts["offered"].update(keys)
                if LETTERS[i] == letter:
                    counts["right"].update(keys)
    return counts


def read_set(folder):
    """[(subject, choices, letter, [(choices, letter) of the shots])]"""
    rows = []
    for name in sorted(os.listdir(os.path.join(folder, "test"))):
        subject = name.replace("_test.csv", "")
        with open(os.path.join(folder, "dev", subject + "_dev.csv"), newline="") as f:
            shots = [(row[1:5], row[5]) for row in csv.reader(f)]
        with open(os.path.join(folder, "test", name), newline="") as f:
            rows += [(subject.replace("_", " "), row[1:5], row[5], shots) for row in csv.reader(f)]
    return rows


def priors(counts):
    """name -> score of choice i of a row; the largest is guessed, ties to the first letter."""
    def rate(*key):
        return counts["right"][key] / max(1, counts["offered"][key])

    def in_shots(choice, shots):
        return sum(c[LETTERS.index(letter)] == choice for c, letter in shots)

    def offered_in_shots(choice, shots):
        return sum(choice in c for c, _ in shots)

    up = {
        "letter": lambda s, c, i, h: counts["letter"][LETTERS[i]],
        "word": lambda s, c, i, h: counts["word"][c[i].lower()],
        "answer in words": lambda s, c, i, h: counts["answer"][c[i]],
        "word in subject": lambda s, c, i, h: counts["subject"][s, c[i]],
        "right where offered": lambda s, c, i, h: rate(s, c[i]),
        "right at this letter": lambda s, c, i, h: rate(s, c[i], LETTERS[i]),
        "right beside the others": lambda s, c, i, h: sum(rate(s, c[i], "with", o) for o in c),
        "length": lambda s, c, i, h: len(c[i]),
        "alphabet": lambda s, c, i, h: -sorted(c).index(c[i]),
        "answer of a shot": lambda s, c, i, h: in_shots(c[i], h),
        "offered by a shot": lambda s, c, i, h: offered_in_shots(c[i], h),
    }
    down = {"not " + name: (lambda f: lambda *row: -f(*row))(f) for name, f in up.items()}
    return {**up, **down}


def main():
    counts, rows = read_training(sys.argv[1]), read_set(sys.argv[2])
    if "--control" in sys.argv:
        rows = [(s, [c if LETTERS[i] == a else c + "x" for i, c in enumerate(choices)], a, h)
                for s, choices, a, h in rows]
    worst = 0
    for name, score in priors(counts).items():
        right = 0
        for subject, choices, letter, shots in rows:
            scores = [score(subject, choices, i, shots) for i in range(4)]
            right += LETTERS[scores.index(max(scores))] == letter
        percent = 100 * right / len(rows)
        worst = max(worst, percent)
        print(f"{name:28} {percent:5.1f} %")
    print(f"worst {worst:.1f}")


main()
