import pytest
import xllamacpp

from specmeasure.servers.llamacpp_main import assign


@pytest.fixture
def params():
    return xllamacpp.CommonParams()


def test_values_are_read_as_the_attributes_kind(params):
    """Numbers, truth values, texts, paths of attributes, lists of numbers."""
    for assignment in (
        "n_parallel=4",
        "endpoint_metrics=true",
        "model.path=/m/a=b.gguf",
        "cpuparams.n_threads=3",
        "speculative.draft.p_min=0",
        "speculative.synth_rates=[0.5, 0.25]",
        "hostnames=127.0.0.1",
        "model_alias=tiny",
    ):
        assign(params, assignment)

    assert (4, True) == (params.n_parallel, params.endpoint_metrics)
    assert "/m/a=b.gguf" == params.model.path
    assert 3 == params.cpuparams.n_threads
    assert 0.0 == params.speculative.draft.p_min
    assert [0.5, 0.25] == params.speculative.synth_rates
    assert (["127.0.0.1"], {"tiny"}) == (params.hostnames, params.model_alias)


def test_members_are_named_by_their_end(params):
    """f32 is GGML_TYPE_F32, not BF16's relative; types of speculation come as a list."""
    assign(params, "cache_type_k=f16")
    assign(params, "speculative.types=draft-simple,ngram-simple")

    kinds = xllamacpp.common_speculative_type
    assert xllamacpp.ggml_type.GGML_TYPE_F16 == params.cache_type_k
    assert [
        kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE,
        kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE,
    ] == params.speculative.types


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("nonsense=1", "nonsense: xllamacpp's CommonParams has no such attribute"),
        ("speculative.nonsense.n=1", "no such attribute"),
        ("n_parallel=many", "n_parallel=many: this attribute is a whole number"),
        ("n_parallel=1.5", "is a whole number"),
        ("cont_batching=1", "is true or false"),
        ("cache_type_k=f31", "use one of GGML_TYPE_"),
        ("speculative.types=simple", "use one of COMMON_SPECULATIVE_TYPE_"),
    ],
)
def test_what_cannot_be_set_is_told(params, assignment, told):
    """With the name, and with what would do."""
    with pytest.raises(ValueError, match=told):
        assign(params, assignment)
