"""Rows that gateways and endpoints log: the request, the response, often as JSON kept in text."""

from collections.abc import Mapping

from specmeasure.corpus.found import NOTHING, Found, Row, prompts_of_request
from specmeasure.corpus.paths import follow, unpacked

_LOGGED = (  # path to the request, path to the response, name
    ("proxy_server_request.body", "response", "LiteLLM log"),
    ("request_body", "response_body", "Helicone log"),
    ("request.body", "response.body", "Helicone log"),
    ("request", "response", "request log"),
)


def read_sagemaker(row: Row) -> list[Found]:
    body = unpacked(
        follow(row, "captureData.endpointInput.data"),
        follow(row, "captureData.endpointInput.encoding"),
    )
    answer = unpacked(
        follow(row, "captureData.endpointOutput.data"),
        follow(row, "captureData.endpointOutput.encoding"),
    )
    place = "captureData.endpointInput.data"
    if isinstance(body, Mapping):
        if "inputs" in body:
            parameters = body.get("parameters")
            request = parameters if isinstance(parameters, Mapping) else NOTHING
            return [
                Found(
                    shape="SageMaker capture",
                    field=f"{place}.inputs",
                    value=body["inputs"],
                    request=request,
                    answer=answer,
                )
            ]
        return prompts_of_request(
            body, shape="SageMaker capture", prefix=f"{place}.", answer=answer
        )
    return [Found(shape="SageMaker capture", field=place, value=body, answer=answer)]


def read_logged(row: Row) -> list[Found]:
    for request, response, shape in _LOGGED:
        body = unpacked(follow(row, request))
        if isinstance(body, Mapping) and ("messages" in body or "prompt" in body):
            answer = unpacked(follow(row, response))
            return prompts_of_request(body, shape=shape, prefix=f"{request}.", answer=answer)
    return []


def read_langfuse(row: Row) -> list[Found]:
    """A trace's `input` that is messages, a request, or JSON text of either."""
    value = unpacked(row["input"])
    answer = unpacked(row.get("output"))
    if "instruction" in row or "question" in row or "prompt" in row:
        return []
    if isinstance(value, Mapping) and ("messages" in value or "prompt" in value):
        return prompts_of_request(value, shape="Langfuse log", prefix="input.", answer=answer)
    if isinstance(value, list):
        parameters = row.get("modelParameters")
        request = parameters if isinstance(parameters, Mapping) else NOTHING
        return [
            Found(shape="Langfuse log", field="input", value=value, request=request, answer=answer)
        ]
    return []
