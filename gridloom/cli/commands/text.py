"""Commands that use a trained network as a writer of text: generate, chat."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated

import typer

from gridloom.cli.options import CheckpointArg, DeviceOption, HomeOption, JsonOption, QuietOption, StageRunOption
from gridloom.errors import GridloomError

TokensOption = Annotated[int, typer.Option("--max-tokens", min=0, help="Bytes to write at most.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0, help="0 takes the most likely token.")]
TopPOption = Annotated[float, typer.Option("--top-p", help="Sample from the most likely tokens of this share.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The same seed, the same text.")]
StepsOption = Annotated[
    int | None, typer.Option("--act-steps", min=1, help="ACT steps of a token; default: those of the spec.")
]
HaltOption = Annotated[bool, typer.Option("--halt", help="Let the network halt before the last ACT step.")]


def generate(
    checkpoint: CheckpointArg,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to go on from; - reads it.")] = "",
    max_tokens: TokensOption = 100,
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.9,
    seed: SeedOption = 0,
    act_steps: StepsOption = None,
    halt: HaltOption = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every token anew; the same text.")] = False,
    run: StageRunOption = None,
    device: DeviceOption = None,
    home: HomeOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue a text with an engine that was trained on text, and print it as it is made."""
    from gridloom.runtime.checkpoints.find import find_checkpoint
    from gridloom.stores.workspace import Workspace

    folder = find_checkpoint(checkpoint, Workspace.find(home), run)

    from gridloom.runtime.generation.text import Generated, Sampling, TextModel  # loads torch
    from gridloom.runtime.machine.device import resolve_device

    sampling = Sampling(max_tokens, temperature, top_p, seed, act_steps, halt, not no_cache)
    model = TextModel.load(folder, resolve_device(device or "cpu"))
    prompt = sys.stdin.read() if prompt == "-" else prompt
    result = Generated()
    for piece in model.stream(prompt, sampling, result):
        if not as_json:
            print(piece, end="", flush=True)
    if as_json:
        from gridloom.cli.show.text import result_json

        print(json.dumps(result_json(prompt, sampling, result), indent=1))
        return
    print()
    if not quiet:
        from gridloom.cli.show.text import result_line

        print(result_line(result), file=sys.stderr)


def chat(
    checkpoint: CheckpointArg,
    system: Annotated[str, typer.Option("--system", metavar="TEXT", help="Text before all messages.")] = "",
    max_tokens: TokensOption = 200,
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.9,
    seed: SeedOption = 0,
    act_steps: StepsOption = None,
    halt: HaltOption = False,
    history: Annotated[
        int | None, typer.Option("--history", min=16, help="Bytes of context at most; default: two windows.")
    ] = None,
    run: StageRunOption = None,
    device: DeviceOption = None,
    home: HomeOption = None,
) -> None:
    """Converse with an engine that was trained on text; /help lists the commands."""
    from gridloom.runtime.checkpoints.find import find_checkpoint
    from gridloom.stores.workspace import Workspace

    folder = find_checkpoint(checkpoint, Workspace.find(home), run)

    from gridloom.runtime.generation.chat import ChatSession  # loads torch
    from gridloom.runtime.generation.text import Sampling, TextModel
    from gridloom.runtime.machine.device import resolve_device

    sampling = Sampling(max_tokens, temperature, top_p, seed, act_steps, halt)
    model = TextModel.load(folder, resolve_device(device or "cpu"))
    session = ChatSession(model, sampling, history or 2 * model.length, system)
    while not session.ended:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        try:
            if line.startswith("/"):
                if shown := session.command(line):
                    print(shown)
            elif line.strip():
                with closing(session.answer(line)) as answer:
                    for piece in answer:
                        print(piece, end="", flush=True)
                print()
        except KeyboardInterrupt:
            print("  (stopped)")
        except GridloomError as error:
            print(error)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command()(generate)
    app.command()(chat)
