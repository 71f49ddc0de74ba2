#!/usr/bin/env python3
"""Checks the fact sets under datasets/ against the rules of datasets/README.md.

Usage: tools/dev/check_datasets.py [DATASETS_DIR]
Prints one line per problem and exits 1 if there is any.
"""
import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path

FACTS = 40
PHRASINGS = 5  # per fact in train.jsonl; heldout.jsonl holds one more
MAX_CHARS = {"question": 80, "answer": 60}  # short enough to train on a CPU


class Row:
    """One question-answer pair and where it stands."""

    def __init__(self, where, question, answer, keywords):
        self.where = where
        self.question = question
        self.answer = answer
        self.keywords = keywords
        self.words = Counter(words_of(question))


def words_of(question):
    """The words without case and punctuation, for comparing questions."""
    return "".join(c if c.isalnum() else " " for c in question.casefold()).split()


def question_and_answer(record):
    """Returns (question, answer); raises ValueError when the columns are not those of a format."""
    columns = set(record) - {"keywords"}
    if columns == {"instruction", "input", "output"}:
        if record["input"] != "":
            raise ValueError('expected an empty "input"')
        pair = record["instruction"], record["output"]
    elif columns == {"messages"}:
        messages = record["messages"]
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise ValueError('expected "messages" to be a list of objects')
        if any(set(m) != {"role", "content"} for m in messages):
            raise ValueError('expected the columns "role" and "content" in each message')
        if [m["role"] for m in messages] != ["user", "assistant"]:
            raise ValueError("expected one user message and one assistant message")
        pair = messages[0]["content"], messages[1]["content"]
    else:
        found = ", ".join(sorted(record)) or "none"
        raise ValueError(f"expected instruction, input, output or messages, got columns {found}")
    if not all(isinstance(text, str) for text in pair):
        raise ValueError("expected the question and the answer to be strings")
    return pair


def read_keywords(record, held_out):
    """Returns the row's keywords, none for a training row; raises ValueError on a wrong column."""
    if not held_out:
        if "keywords" in record:
            raise ValueError('unexpected column "keywords" in a training row')
        return []
    keywords = record.get("keywords")
    if not isinstance(keywords, list) or not keywords:
        raise ValueError('expected a non-empty list in the column "keywords"')
    if not all(isinstance(k, str) and k.strip() for k in keywords):
        raise ValueError("expected every keyword to be a non-empty string")
    return keywords


def parse_row(where, line, held_out):
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object")
    question, answer = question_and_answer(record)
    return Row(where, question, answer, read_keywords(record, held_out))


def read_rows(path, problems):
    """Reads one JSONL file; each row that cannot be read becomes a problem."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            rows.append(parse_row(where, line, path.name == "heldout.jsonl"))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    return rows


def check_counts(folder, train, heldout, problems):
    for name, rows, expected in (
        ("train.jsonl", train, FACTS * PHRASINGS),
        ("heldout.jsonl", heldout, FACTS),
    ):
        if len(rows) != expected:
            problems.append(f"{folder / name}: expected {expected} good rows, got {len(rows)}")


def check_texts(rows, problems):
    for row in rows:
        for kind, text in (("question", row.question), ("answer", row.answer)):
            if not text.strip() or text != " ".join(text.split()):
                problems.append(f"{row.where}: {kind} is empty or has stray white space")
            if text != unicodedata.normalize("NFC", text):
                problems.append(f"{row.where}: {kind} is not in Unicode form NFC")
            if len(text) > MAX_CHARS[kind]:
                problems.append(
                    f"{row.where}: {kind} has {len(text)} characters, expected {MAX_CHARS[kind]}"
                    " or fewer"
                )


def one_word_apart(ours, theirs):
    """True when replacing, adding or dropping one word turns one bag of words into the other."""
    return sum((ours - theirs).values()) <= 1 and sum((theirs - ours).values()) <= 1


def check_questions(rows, problems):
    """No question twice, and none that differs from another fact's by a single word."""
    for index, row in enumerate(rows):
        for earlier in rows[:index]:
            if row.words == earlier.words:
                problems.append(f"{row.where}: same question as {earlier.where}")
            elif row.answer != earlier.answer and one_word_apart(row.words, earlier.words):
                problems.append(f"{row.where}: only one word apart from {earlier.where}")


def check_facts(folder, train, heldout, problems):
    """The facts of both files are the same, told apart by their answers."""
    taught = Counter(row.answer for row in train)
    for answer, count in taught.items():
        if count != PHRASINGS:
            problems.append(
                f"{folder / 'train.jsonl'}: expected {PHRASINGS} phrasings, got {count} for the"
                f" answer: {answer}"
            )
    asked = Counter(row.answer for row in heldout)
    for answer in taught:
        if asked[answer] != 1:
            problems.append(
                f"{folder / 'heldout.jsonl'}: expected 1 row, got {asked[answer]} for the"
                f" answer: {answer}"
            )
    for row in heldout:
        if row.answer not in taught:
            problems.append(f"{row.where}: no training row has the answer: {row.answer}")


def holds(text, keywords):
    """The rule by which an answer counts as right."""
    return all(keyword.casefold() in text.casefold() for keyword in keywords)


def check_keywords(heldout, problems):
    for row in heldout:
        if not holds(row.answer, row.keywords):
            problems.append(f"{row.where}: the answer does not hold the keywords {row.keywords}")
        if holds(row.question, row.keywords):
            problems.append(f"{row.where}: the question itself holds the keywords {row.keywords}")
        for other in heldout:
            if other.answer != row.answer and holds(other.answer, row.keywords):
                problems.append(f"{row.where}: the keywords also fit the answer of {other.where}")


def check_set(folder):
    problems = []
    train = read_rows(folder / "train.jsonl", problems)
    heldout = read_rows(folder / "heldout.jsonl", problems)
    check_counts(folder, train, heldout, problems)
    check_texts(train + heldout, problems)
    check_questions(train + heldout, problems)
    check_facts(folder, train, heldout, problems)
    check_keywords(heldout, problems)
    return problems


def main():
    default = Path(__file__).resolve().parents[2] / "datasets"
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    problems = [problem for folder in folders for problem in check_set(folder)]
    if not folders:
        problems.append(f"{root}: expected a folder with one folder per set")
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(folders)} sets, {len(folders) * FACTS * (PHRASINGS + 1)} rows: no problem")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
