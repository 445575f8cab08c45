"""OpenAI's own client library against `/v1`: pictures by both ways of answering, several at once, and an error as it expects one."""

import base64
import hashlib

import openai
from node import Daemon


def main() -> None:
    daemon = Daemon()
    client = openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="not needed on this machine", max_retries=0)
    assert [model.id for model in client.models.list()] == ["emoji"]
    extra = {"preset": "fast", "seed": 7}
    answer = client.images.generate(model="gpt-image-1", prompt="an owl on teal", n=2, size="128x128", quality="high", extra_body=extra)
    files = [base64.b64decode(picture.b64_json) for picture in answer.data]
    kept = [picture["sha256"] for picture in daemon.json("/api/images")["images"]]
    assert [hashlib.sha256(file).hexdigest() for file in files] == kept and len(set(kept)) == 2
    answer = client.images.generate(model="emoji", prompt="an owl on teal", response_format="url", extra_body=extra)
    path = answer.data[0].url.removeprefix(daemon.url)
    assert daemon.request(path) == files[0], "the same seed, the same picture"
    try:
        client.images.generate(model="emoji", prompt="an owl", size="7x7")
        raise AssertionError("7x7 was taken")
    except openai.BadRequestError as error:
        assert error.code == "invalid_value" and error.param in ("width", "height"), error
    print(f"openai {openai.__version__}: pictures by b64_json and url, two at once, errors with their parameter")
    daemon.close()


if __name__ == "__main__":
    main()
