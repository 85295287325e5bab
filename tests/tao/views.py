"""ServiceViews as control answers them, for tests of what is made of them."""

from typing import Any

from modelport.domain.service import InstanceView, ServiceView
from modelport.domain.spec import Spec
from modelport.domain.states import InstanceState, ServiceState

BEGAN = 1_780_000_000.0


def service(
    number: int = 1,
    arch: str = "tao-dataservices",
    *,
    platform: str = "process",
    state: str = "ready",
    desired: Any = "running",
    labels: dict[str, str] | None = None,
    skill: bool = True,
    **fields: Any,
) -> ServiceView:
    """The `number`th service of the skill, each begun a minute after the one before."""
    own = {"tao.network-arch": arch, "tao.platform": platform, "tao.skill": "1"} if skill else {}
    port = 8079 + number
    instance = InstanceView(
        id=f"i-{number:012x}",
        state=InstanceState.READY,
        platform="process",
        url=f"http://10.0.0.{number}:18700",
        created_at=BEGAN,
        pid=4000 + number,
    )
    made: dict[str, Any] = {
        "id": f"0000000{number}-0000-4000-8000-000000000000",
        "name": f"job-{number}",
        "spec": Spec(model="/models/x", name=f"job-{number}", job=True, labels={**own, **(labels or {})}),
        "desired": desired,
        "state": ServiceState(state),
        "url": f"http://127.0.0.1:{port}/v1",
        "port": port,
        "created_at": BEGAN + 60 * number,
        "instances": (instance,),
    }
    return ServiceView(**{**made, **fields})
