"""Upload of a published folder to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.optional_packages import needed
from gridloom.runtime.reports.publish import HUB_CARD
from gridloom.wording import first_line

REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def check_push(repo: str) -> None:
    """Raise GridloomError, before anything is written, for a malformed repository or a machine without a token."""
    if REPO.fullmatch(repo) is None:
        raise GridloomError(f"--push {repo} is no repository of a model hub", "write OWNER/NAME")
    with needed("huggingface_hub", "hub", "--push"):
        from huggingface_hub import get_token
    if get_token() is None:
        raise GridloomError(f"--push {repo} needs a token of the hub", "hf auth login, or set HF_TOKEN")


def push_folder(folder: Path, repo: str, *, private: bool = False) -> str:
    """Create the repository unless it is there, upload the folder in one commit, and return the commit's address.

    Raises:
        GridloomError: the folder has no card, the hub refuses, or cannot be reached.
    """
    check_push(repo)
    if not (folder / HUB_CARD).is_file():
        raise GridloomError(f"{folder} has no {HUB_CARD}", "publish the checkpoint again: gridloom models publish")
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=f"Checkpoint {folder.absolute().name}"
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise GridloomError(
            f"cannot push {folder} to {repo}: {first_line(error)}", "the folder is kept; try again"
        ) from error
    return str(made.commit_url)
