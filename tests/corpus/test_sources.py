import gzip
import io

import pytest

from specmeasure.corpus import load_corpus
from specmeasure.records.corpus import Corpus


def paths(corpus: Corpus) -> list[str]:
    return [file.path for file in corpus.files]


def reasons(corpus: Corpus) -> dict[str, str]:
    return {row.source: row.reason for row in corpus.skipped}


def test_folder_is_read_recursively_in_sorted_order(save):
    """A folder stands for all prompt files below it, sorted by path."""
    for name in ("in/b.txt", "in/a.jsonl.gz", "in/deep/c.json"):
        save(name, [{"prompt": name}])

    assert ["in/a.jsonl.gz", "in/b.txt", "in/deep/c.json"] == paths(load_corpus(["in"]))


def test_folder_lists_other_files_as_skipped(save):
    """A file of a folder that is not read as prompts is listed with its reason."""
    save("in/a.txt", "hello")
    save("in/table.csv", "prompt\nhi\n")

    skipped = reasons(load_corpus(["in"]))

    assert {"in/table.csv": "not a .jsonl, .json or .txt file (also .gz)"} == skipped


def test_folder_ignores_readme_and_hidden_files(save):
    """READMEs, hidden files and hidden folders are neither prompts nor worth a mention."""
    for name in ("in/a.txt", "in/README.md", "in/Readme.txt", "in/.b.txt", "in/.git/c.txt"):
        save(name, "hello")

    corpus = load_corpus(["in"])

    assert ["in/a.txt"] == paths(corpus)
    assert () == corpus.skipped


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
    save("in/b/b.csv", "b")

    corpus = load_corpus(["in/*"])

    assert ["in/a/a.txt"] == paths(corpus)
    assert ["in/b/b.csv"] == list(reasons(corpus))


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
    save("in/a.csv", "a")
    expected = (
        "in: no .jsonl, .json or .txt file (also .gz) among 1 files. "
        "Pass another folder, or export the prompts as jsonl."
    )

    assert expected == refusal("in")


def test_no_sources(refusal):
    """Nothing given is said, not guessed."""
    assert "no prompts were given. Pass a file, a folder, a glob, or - (stdin)." == refusal()


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
