import gzip
import io
import os
import socket
from pathlib import Path

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.corpus.dataset_names import parse_dataset_name
from specmeasure.corpus.folders import PROMPT_FILES, why_no_prompts
from specmeasure.corpus.sources import find_sources
from specmeasure.errors import UsageError
from specmeasure.records.corpus import Corpus, Dropped


def paths(corpus: Corpus) -> list[str]:
    return [file.path for file in corpus.files]


def reasons(corpus: Corpus) -> dict[str, str]:
    return {place: row.reason for row in corpus.left_out for place in row.places}


def test_folder_is_read_recursively_in_sorted_order(save):
    """A folder stands for all prompt files below it, sorted by path."""
    for name in ("in/b.txt", "in/a.jsonl.gz", "in/deep/c.json"):
        save(name, [{"prompt": name}])

    assert ["in/a.jsonl.gz", "in/b.txt", "in/deep/c.json"] == paths(load_corpus(["in"]))


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.ndjson", "a.csv.bz2", "a.txt.zst", "a.xz"])
def test_suffixes_that_a_folder_is_searched_for(save, name):
    """Prompt files are known by their suffix, in any case and under a compression's suffix."""
    save(f"in/{name}", "hello")

    expected = None if name != "a.xz" else f"not a file named {PROMPT_FILES}"

    assert expected == why_no_prompts(Path("in", name))


def test_folder_counts_other_files_by_reason(save):
    """Files of a folder that are not read as prompts are counted, the first five by name."""
    save("in/a.txt", "hello")
    for number in range(7):
        save(f"in/{number}.png", "x")

    expected = Dropped(
        reason=f"not a file named {PROMPT_FILES}",
        num_rows=7,
        places=tuple(f"in/{number}.png" for number in range(5)),
    )

    assert (expected,) == load_corpus(["in"]).left_out


def test_compressed_tables_are_left_out(save):
    """A parquet file is compressed inside; one that is compressed outside is said to be left."""
    save("in/a.txt", "hello")
    save("in/b.parquet.gz", b"x")

    assert {"in/b.parquet.gz": "a compressed .parquet file is not read"} == reasons(
        load_corpus(["in"])
    )


def test_fifo_and_socket_in_a_folder_are_left_out(save):
    """What would wait for a writer is never opened."""
    save("in/a.txt", "hello")
    os.mkfifo("in/b.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/c.jsonl")
        expected = dict.fromkeys(("in/b.jsonl", "in/c.jsonl"), "not a regular file")

        assert expected == reasons(load_corpus(["in"]))


def test_folder_ignores_readme_and_hidden_files(save):
    """READMEs, hidden files and hidden folders are neither prompts nor worth a mention."""
    for name in ("in/a.txt", "in/README.md", "in/Readme.txt", "in/.b.txt", "in/.git/c.txt"):
        save(name, "hello")

    corpus = load_corpus(["in"])

    assert ["in/a.txt"] == paths(corpus)
    assert () == corpus.left_out


def test_linked_folder_is_listed_not_followed(save, tmp_path):
    """A link to a folder, which may lead in a circle, is skipped with a reason."""
    save("in/a.txt", "hello")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")

    assert {"in/loop": "a link to a folder is not followed"} == reasons(load_corpus(["in"]))


def test_hidden_or_odd_file_is_read_when_named(save):
    """A file that the user names is read by its content, whatever its name."""
    save(".hidden", [{"prompt": "a"}])
    save("README.md", "b")

    assert [".hidden", "README.md"] == paths(load_corpus([".hidden", "README.md"]))


def test_words_keep_their_order_and_files_are_read_once(save):
    """Files come in the user's order; naming one twice changes nothing."""
    save("in/a.txt", "a")
    save("in/b.txt", "b")

    assert ["in/b.txt", "in/a.txt"] == paths(load_corpus(["in/b.txt", "in", "./in/b.txt"]))


def test_glob_is_sorted_and_recursive(save):
    """A glob matches in sorted order, ** below folders, and takes a README for no prompt."""
    for name in ("in/b.log", "in/x/a.log", "in/readme.log"):
        save(name, name)

    assert ["in/b.log", "in/x/a.log"] == paths(load_corpus(["in/**/*.log"]))


def test_glob_takes_folders_and_forgives_those_without_prompts(save):
    """A folder that a glob matches is searched; one without prompts is only listed."""
    save("in/a/a.txt", "a")
    save("in/b/b.png", "b")

    corpus = load_corpus(["in/*"])

    assert ["in/a/a.txt"] == paths(corpus)
    assert ["in/b/b.png"] == list(reasons(corpus))


def test_name_with_brackets_is_a_name_first(save):
    """A file that exists is that file, though its name could be a pattern."""
    save("a[1].txt", "hello")

    assert ["a[1].txt"] == paths(load_corpus(["a[1].txt"]))


def test_stdin_is_named_stdin_and_stays_open():
    """Standard input has its own name for source, category and id, and is not closed."""
    stdin = io.BytesIO(b'{"prompt": "hi"}\n')
    prompt = load_corpus(["-"], stdin=stdin).prompts[0]

    assert ("stdin:1", "stdin", "stdin-0001") == (prompt.source, prompt.category, prompt.prompt_id)
    assert not stdin.closed


def test_stdin_may_be_gzipped():
    """Gzip is known by its magic bytes, also where there is no name."""
    corpus = load_corpus(["-"], stdin=io.BytesIO(gzip.compress(b"one\ntwo\n")))

    assert ["one", "two"] == [prompt.text for prompt in corpus.prompts]


def test_gzip_without_the_suffix(save):
    """A gzipped file is read whatever it is called."""
    save("a.jsonl", gzip.compress(b'{"prompt": "hi"}'))

    assert "hi" == load_corpus(["a.jsonl"]).prompts[0].text


def test_plain_file_with_the_gz_suffix(save, tmp_path):
    """A file that is only called .gz is read as it is."""
    save("a", "hi")
    (tmp_path / "a").rename(tmp_path / "a.txt.gz")

    assert "hi" == load_corpus(["a.txt.gz"]).prompts[0].text


def test_missing_file(refusal, tmp_path):
    """A path that is not there is named, with the folder it was looked up in."""
    expected = (
        f"no.jsonl: no such file or folder. Check the path; relative paths start at {tmp_path}."
    )

    assert expected == refusal("no.jsonl")


def test_glob_without_match(refusal):
    """A pattern that matches nothing is an error, not an empty corpus."""
    expected = "*.jsonl: matches no file. Check the pattern; ** also looks into subfolders."

    assert expected == refusal("*.jsonl")


def test_folder_without_prompts(refusal, save):
    """A folder without prompt files says what was looked for."""
    save("in/a.png", "a")
    expected = (
        f"in: no file named {PROMPT_FILES} among 1 files. "
        "Pass another folder, or export the prompts as jsonl."
    )

    assert expected == refusal("in")


def test_no_sources(refusal):
    """Nothing given is said, not guessed."""
    expected = (
        "no prompts were given. Pass a file, a folder, a glob, a dataset (hf:org/name:split) "
        "or - (stdin)."
    )

    assert expected == refusal()


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("hf:org/chats", ("org/chats", None, None, None)),
        ("hf:chats:train", ("chats", None, "train", None)),
        ("hf:org/chats/en:test@refs/pr/1", ("org/chats", "en", "test", "refs/pr/1")),
        ("hf:org/chats@main", ("org/chats", None, None, "main")),
    ],
)
def test_parts_of_a_dataset_name(word, parts):
    """Config, split and revision are each there or not."""
    name = parse_dataset_name(word)

    assert parts == (name.place, name.config, name.split, name.revision)


@pytest.mark.parametrize("word", ["hf:", "hf:a/b/c/d:train", "hf:org/chats:", "hf:a:b:c"])
def test_dataset_name_of_no_known_form(word):
    """What is no dataset's name says which forms there are."""
    with pytest.raises(UsageError, match=r"not a dataset's name. Write hf:org/name:split, "):
        find_sources([word])


def test_dataset_folder_that_is_missing():
    """A folder of a dataset has to be there."""
    with pytest.raises(UsageError, match=r"hf:./none:train: no such folder."):
        find_sources(["hf:./none:train"])


def test_dataset_name_that_is_a_folder_too(tmp_path):
    """A hub's id never silently stands for a folder of that name."""
    (tmp_path / "org/chats").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"Write hf:./org/chats to read it"):
        find_sources(["hf:org/chats:train"])


def test_empty_name(refusal):
    """An empty string is not the current folder."""
    assert refusal("").startswith("'': no such file or folder.")


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff", "[]", "\u00a0\n"])
def test_empty_file(refusal, save, content):
    """A file without any row is an error that names it."""
    save("a.json" if content == "[]" else "a.txt", content)
    name = "a.json" if content == "[]" else "a.txt"

    assert f"{name}: it is empty. Put prompts into it or leave it out." == refusal(name)


def test_cut_off_gzip(refusal, save):
    """A gzip file that ends early is not read up to where it ends."""
    whole = gzip.compress(b'{"prompt": "hi"}\n' * 1000)
    save("a.jsonl", whole[: len(whole) // 2])
    expected = "a.jsonl: the gzip data is damaged or cut off. Copy or download the file again."

    assert expected == refusal("a.jsonl")


def test_unreadable_path(refusal):
    """What the system refuses is passed on in its words."""
    expected = "cannot be read (File name too long). Check the file and its permissions."

    assert refusal("x" * 5000).endswith(expected)
