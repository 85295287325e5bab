"""Known: what the store teaches a plan: how earlier starts went, and which workspaces there are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from modelport.domain.launch import Launch
from modelport.domain.spec import REFERENCE, SECRET_NAME, Spec
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError, nearest
from modelport.store import starts, workspaces
from modelport.store.secret import secret
from modelport.store.starts import Learned

OPTIONAL = {"HF_TOKEN": "env:HF_TOKEN"}
"""References that may lead nowhere: most models of the Hub need no token."""
BUCKET = "MODELPORT_BUCKET"
"""Tells our runtime below which address it may read what requests name."""


@dataclass(frozen=True, slots=True)
class Known:
    """A plan without it is as good, but for what it cannot know."""

    learned: Learned = field(default_factory=Learned)
    workspaces: Mapping[str, Workspace] = field(default_factory=dict[str, Workspace])

    def workspace(self, spec: Spec) -> Workspace | None:
        """The one a Spec names. Raises ModelportError for one that is not there."""
        if not spec.workspace:
            return None
        if spec.workspace not in self.workspaces:
            raise ModelportError(
                f"There is no workspace {spec.workspace!r}.{nearest(spec.workspace, self.workspaces)} "
                "`modelport workspaces set` makes one.",
                param="workspace",
            )
        return self.workspaces[spec.workspace]


def known(tx: sa.Connection) -> Known:
    return Known(starts.learned(tx), {each.name: each for each in workspaces.all_workspaces(tx)})


def cloud_env(workspace: Workspace | None) -> dict[str, str] | None:
    """The environment to look a model up with: the process's own, the workspace's in place of it. None without one.
    Raises ModelportError for a reference to a secret that is not there."""
    if workspace is None:
        return None
    secrets = {
        name: secret(f"The workspace {workspace.name!r}", reference)
        for name, reference in workspace.secret_env().items()
    }
    return {**os.environ, **workspace.env(), **secrets}


def with_environment(launch: Launch, spec: Spec, workspace: Workspace | None) -> Launch:
    """The launch with the Spec's variables and its workspace's. Secrets stay references. Raises ModelportError for one
    that leads nowhere."""
    env, secrets = dict(launch.env), dict(launch.secret_env)
    if workspace is not None:
        env |= {**workspace.env(), BUCKET: workspace.uri()}
        secrets |= workspace.secret_env()
    for name, text in spec.env.items():
        if text and REFERENCE.fullmatch(text):
            if text != OPTIONAL.get(name):
                secret(f"env of {name}", text)  # raises where there is none
            secrets[name] = text
            env.pop(name, None)
        elif not SECRET_NAME.search(name):
            env[name] = text
    return replace(launch, env=env, secret_env=secrets)
