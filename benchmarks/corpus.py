"""How fast a large jsonl is sampled, and in how much memory.

    python benchmarks/corpus.py [--gib 2.0] [--row-bytes 2000] [--prompts 500] [--keep FILE]

Writes a file of OpenAI chat rows, no two alike, then reads it once with ``load_corpus`` in a
process of its own and prints its resident memory, throughput and the sample's size.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

GIB, MB = 2**30, 1e6
CATEGORIES = ("chat", "code", "maths", "translation", "summary")
READER = """
import resource, sys, time
from specmeasure.corpus import load_corpus
from specmeasure.records.corpus import CorpusOptions
path, limit = sys.argv[1], int(sys.argv[2])
started = time.process_time()
corpus = load_corpus([path], CorpusOptions(limit=limit))
print(len(corpus.prompts), corpus.num_prompts, time.process_time() - started,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--row-bytes", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="write the file here and reuse it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "chats.jsonl"
        if not path.exists():
            write_chats(path, num_bytes=int(options.gib * GIB), row_bytes=options.row_bytes)
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", READER, str(path), str(options.prompts)],
            capture_output=True,
            text=True,
            check=True,
        )
        num_kept, num_prompts, cpu_s, peak_bytes = map(float, done.stdout.split())
        size = path.stat().st_size
    print(
        f"{size / GIB:.2f} GiB, {num_prompts:,.0f} prompts of about {options.row_bytes} bytes: "
        f"{num_kept:.0f} kept, {size / MB / cpu_s:.0f} MB/s of one core, "
        f"{peak_bytes / MB:.0f} MB resident at most"
    )


def write_chats(path: Path, *, num_bytes: int, row_bytes: int) -> None:
    """Rows of words that no dictionary knows; each differs from every other."""
    rng = random.Random(0)
    words = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)
    ]
    pages = [" ".join(rng.choices(words, k=row_bytes // 8)) for _ in range(200)]
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < num_bytes:
            page = rng.choice(pages)
            cut = rng.randrange(len(page))
            text = f"{number} {page[cut:]} {page[:cut]}"
            written += file.write(json.dumps(row(number, text[: row_bytes * 4 // 5])) + "\n")
            number += 1


def row(number: int, text: str) -> dict[str, object]:
    return {
        "id": f"chat-{number}",
        "category": CATEGORIES[number % len(CATEGORIES)],
        "messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": text},
            {"role": "assistant", "content": text[: len(text) // 8]},
        ],
    }


if __name__ == "__main__":
    main()
