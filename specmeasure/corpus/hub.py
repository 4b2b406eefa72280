"""Splits of datasets on a hub or in a folder to rows, through the `datasets` library.

Reads data files alone: a dataset that needs its own code is refused. Nothing is kept on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specmeasure.corpus.columnar import to_json_row
from specmeasure.corpus.dataset_names import DatasetName
from specmeasure.corpus.rows import Row, RowStream
from specmeasure.errors import UnreadableCorpus, UsageError

_SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk leaves behind
_INSTALL = 'pip install "specmeasure[datasets]"'


def read_dataset(name: DatasetName) -> RowStream:
    """The rows of one split; the revision is the commit that was read, None for a folder.

    Raises:
        UsageError: a missing package, or a dataset, config or split that is not there.
        UnreadableCorpus: data files that cannot be read, here or while rows are read.
    """
    _silence()
    revision = None if name.is_local else _resolve_revision(name)
    split = _choose_split(_open(name, revision), name)
    return RowStream(format="dataset", rows=_read_rows(split, name), revision=revision)


def _silence() -> None:
    """No progress bars and no advice: stderr is ours."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"reading hf: datasets needs a package that is not installed. Run {_INSTALL}."
        ) from error
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


def _resolve_revision(name: DatasetName) -> str | None:
    """The commit that a branch, a tag or nothing stands for now."""
    from huggingface_hub import HfApi

    with _explain(name):
        return HfApi().dataset_info(name.place, revision=name.revision).sha


def _open(name: DatasetName, revision: str | None) -> Any:
    import datasets

    with _explain(name):
        if name.is_local and any(Path(name.place, file).exists() for file in _SAVED):
            return datasets.load_from_disk(name.place)
        if not name.is_local:
            _require_config(datasets.get_dataset_config_names(name.place, revision=revision), name)
        return datasets.load_dataset(name.place, name.config, revision=revision, streaming=True)


def _require_config(configs: Sequence[str], name: DatasetName) -> None:
    if name.config is not None and name.config not in configs:
        raise UsageError(f"{name.word}: no config {name.config}. It has: {', '.join(configs)}.")
    if name.config is None and len(configs) > 1 and "default" not in configs:
        raise UsageError(
            f"{name.word}: several configs: {', '.join(configs)}. "
            f"Name one, as in hf:{name.place}/{configs[0]}:split."
        )


def _choose_split(loaded: Any, name: DatasetName) -> Any:
    if not isinstance(loaded, Mapping):  # one that was saved without splits
        loaded = {str(loaded.split or name.split or "all"): loaded}
    splits = [str(split) for split in loaded]
    if name.split is None and len(splits) > 1:
        listed = " or ".join(f":{split}" for split in splits)
        raise UsageError(f"{name.word}: several splits. Add {listed} to the name.")
    wanted = splits[0] if name.split is None else name.split
    if wanted not in splits:
        raise UsageError(f"{name.word}: no split {wanted}. It has: {', '.join(splits)}.")
    return loaded[wanted]


def _read_rows(split: Any, name: DatasetName) -> Iterator[Row]:
    with _explain(name):
        rows = iter(_undecoded(split))
    index = 0
    while True:
        with _explain(name):
            row = next(rows, None)
        if row is None:
            return
        yield Row(source=f"{name.word}[{index}]", number=index, value=to_json_row(row))
        index += 1


def _undecoded(split: Any) -> Any:
    """Rows whose images and sounds stay bytes: decoding them would need more packages."""
    stream = split if hasattr(split, "decode") else split.to_iterable_dataset()
    return stream.decode(enable=False)


@contextmanager
def _explain(name: DatasetName) -> Iterator[None]:
    """What the libraries raise, in one line each; their own words may hold rows."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors
    from pyarrow import ArrowException

    network: type[Exception] = vars(errors)["HTTPError"]  # of whichever http client it uses
    try:
        yield
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{name.word}: access is restricted. Ask for it on the dataset's page, then run "
            f"`hf auth login` or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{name.word}: no such revision. Leave @revision out, or name a branch, tag or commit."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{name.word}: no such dataset, or a private one. Check org/name, or run "
            f"`hf auth login` or set HF_TOKEN."
        ) from error
    except (ConnectionError, TimeoutError, network) as error:
        raise UsageError(
            f"{name.word}: the hub cannot be reached ({type(error).__name__}). Check the network "
            f"and HF_HUB_OFFLINE, or download the dataset and pass its folder."
        ) from error
    except (DatasetsError, ArrowException, OSError, ValueError, RuntimeError) as error:
        raise UnreadableCorpus(
            f"{name.word}: cannot be read as a dataset of data files ({type(error).__name__}). "
            f"Check the name, or download the files and pass them themselves."
        ) from error
