"""The command line of the service: serve · predict · models · check · key; what people call."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service import __version__, commands
from service.commands import CommandFailed, Document, Question

if TYPE_CHECKING:  # the command line starts without pydantic where a command does not need it
    from service.settings import Settings

EXAMPLES = """examples:
  python -m service predict seven.png                               with the model in this folder
  python -m service predict --url http://localhost:3000 *.jpg       by a running service
  curl -s https://example.org/7.png | python -m service predict -   from standard input
  DIGITSERVE_API_KEY=ds_… python -m service models --url …          where the service asks for a key
  python -m service check --json                                    for programs
  python -m service key alice >> api-keys                           shows the key, keeps its hash
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 0 when it did its job."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except CommandFailed as failed:
        return _complain(str(failed))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _complain(reason: str) -> int:
    colour, end = (
        ("\033[31m", "\033[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    )
    print(f"{colour}error:{end} {reason}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve classifiers of handwritten digits and garments.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"digitserve {__version__}")
    add_command = parser.add_subparsers(required=True, metavar="COMMAND").add_parser

    serve = add_command("serve", help="answer HTTP requests until interrupted")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    serve.add_argument("--tls-cert", metavar="FILE", help="certificate chain; with it HTTPS is spoken")
    serve.add_argument("--tls-key", metavar="FILE", help="the certificate's private key")
    serve.set_defaults(command=_serve)

    predict = add_command("predict", help="classify pictures")
    predict.add_argument("files", nargs="+", metavar="FILE", help="a picture; - is standard input")
    predict.add_argument("--url", help="ask the service there; without it the model runs here")
    predict.add_argument("--model", help="which model answers (default: the service's)")
    predict.add_argument(
        "--top-k", type=int, choices=range(1, 11), default=1, metavar="K", help="how many labels to rank"
    )
    predict.add_argument(
        "--canonical",
        choices=("auto", "never"),
        default="auto",
        help="never takes 28x28 grey pixels as they are",
    )
    predict.add_argument("--json", action="store_true", help="one JSON document")
    predict.set_defaults(command=_predict)

    models = add_command("models", help="list the models and what they promise")
    models.add_argument("--url", help="ask the service there; without it the models are loaded here")
    models.add_argument("--json", action="store_true", help="one JSON document")
    models.set_defaults(command=_models)

    check = add_command("check", help="say what is installed and whether every model can be served")
    check.add_argument("--json", action="store_true", help="one JSON document")
    check.set_defaults(command=_check)

    key = add_command("key", help="make an API key: itself to standard error, the line of its hash to output")
    key.add_argument("name", help="whose it is, for those who read the file")
    key.set_defaults(command=_key)
    return parser


def _serve(options: argparse.Namespace) -> int:
    """Become BentoML's server."""
    settings = commands.read_settings()
    tls = _tls_arguments(options.tls_cert, options.tls_key)
    _refuse_unusable_address(options.host, options.port)
    if settings.log_format == "text":
        with contextlib.suppress(OSError):  # a full disk under the log is no reason not to serve
            _greet(f"{'https' if tls else 'http'}://localhost:{options.port}", settings)
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    # What a large picture took goes back to the system; left alone, glibc keeps up to 64 MB of it a thread.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**24))
    arguments = ["serve", "service.app:DigitServe", "--host", options.host, "--port", str(options.port), *tls]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *arguments])  # noqa: S606 - no shell is the point


def _tls_arguments(certificate: str | None, key: str | None) -> list[str]:
    """BentoML's for HTTPS; it would start without workers where it cannot read them."""
    if certificate is None and key is None:
        return []
    if certificate is None or key is None:
        raise CommandFailed("HTTPS needs both --tls-cert and --tls-key.")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError too
        raise CommandFailed(f"{certificate} and {key} cannot be used for HTTPS: {error}.") from None
    return ["--ssl-certfile", str(Path(certificate).resolve()), "--ssl-keyfile", str(Path(key).resolve())]


def _greet(url: str, settings: Settings) -> None:
    print(f"Starting digitserve on {url} ({settings.workers} worker(s), device {settings.device}).")
    print(f"  a picture of a digit   curl -F image=@digit.png {url}/predict")
    print(f"  a garment              curl -F image=@shoe.jpg '{url}/predict?model=fashion-mnist-cnn'")
    print(f"  in the browser         {url}/ui")
    print(f"  what is served         {url}/models")
    print(f"  the API                {url}/", flush=True)


def _refuse_unusable_address(host: str, port: int) -> None:
    """BentoML would load everything before it finds out, and end with a traceback."""
    if not 0 <= port < 2**16:
        raise CommandFailed(f"There is no port {port}: a port is a number from 0 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandFailed(f"Port {port} is taken; --port chooses another.") from None
        raise CommandFailed(f"Nothing can listen on {host}, port {port}: {error.strerror}.") from None


def _predict(options: argparse.Namespace) -> int:
    question = Question(options.files, options.model, options.top_k, options.canonical)
    if options.url:
        document = commands.predict_there(options.url, question, _track)
    else:
        document = commands.predict_here(question, _track)
    _show("predictions", document, as_json=options.json)
    return 1 if any("error" in prediction for prediction in document["predictions"]) else 0


def _models(options: argparse.Namespace) -> int:
    document = commands.models_there(options.url) if options.url else commands.models_here()
    _show("models", document, as_json=options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    document = commands.check()
    _show("check", document, as_json=options.json)
    for problem in document["problems"]:
        _complain(problem)
    return 0 if document["ok"] else 1


def _key(options: argparse.Namespace) -> int:
    from service.access import new_key

    key, line = new_key(options.name)
    print(f"{key}\nThis key is shown once; its hash goes into DIGITSERVE_API_KEYS_FILE.", file=sys.stderr)
    print(line)
    return 0


def _show(table: str, document: Document, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
        return
    from service import tables  # rich is for people alone

    tables.show(getattr(tables, table)(document))


def _track(rows: Iterable[Document], count: int) -> Iterable[Document]:
    """The same rows, with a bar for a person who waits for many of them."""
    if count < 10 or not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, "pictures", total=count, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    sys.exit(main())
