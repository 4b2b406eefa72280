from dataclasses import replace

from specmeasure.brief.memory import write_memory
from specmeasure.records.memory import MemoryNeed, MemoryPrediction
from tests.brief import examples

MIB = 2**20
NEED = MemoryNeed(arm="draft k=4", model_bytes=40 * MIB, cache_bytes=8 * MIB, working_bytes=2 * MIB)
PREDICTION = MemoryPrediction(
    device="cuda:0",
    num_prompt_tokens=900,
    num_context_tokens=1028,
    needs=(NEED,),
    free_bytes=2**30,
)


def said(prediction: MemoryPrediction, peak_bytes: int | None) -> str:
    arm = replace(examples.go()[1].baseline, name="draft k=4", peak_memory_bytes=peak_bytes)
    (fact,) = write_memory(prediction, [arm])
    return fact.text


def test_the_prediction_stands_beside_the_allocators_peak():
    """Of the arm that needs most, with its parts and what was free."""
    assert (
        "predicted before loading: 50.0 MiB for arm draft k=4 at 1,028 tokens (40.0 MiB weights of "
        "all models, 8.00 MiB keys and values, 2.00 MiB working memory); measured while decoding, "
        "by torch's allocator: 51.0 MiB; 1.00 GiB were free on cuda:0" == said(PREDICTION, 51 * MIB)
    )


def test_a_process_is_not_its_tensors():
    """On a CPU the peak is that of the whole process, and it says so."""
    text = said(replace(PREDICTION, device="cpu", free_bytes=None), 700 * MIB)

    assert text.endswith("; the whole process, with Python and its libraries, held 700 MiB")


def test_audits_and_what_was_not_measured_are_named():
    """What an audit takes comes on top, and no peak is no zero."""
    need = replace(NEED, checking_bytes=MIB)
    text = said(replace(PREDICTION, needs=(need,)), None)

    assert "; 1.00 MiB more to check the answer); what was used is not measured;" in text


def test_nothing_is_said_where_nothing_was_reckoned():
    """Models on servers, spread over devices, or with code of their own."""
    assert () == write_memory(None, [])
