"""A single-file plugin: the usual objective and head, which break a run off where a test says so.

The file named by ``INTERRUPTIONS`` lists what is to happen, in order, each once.
"""

import json
import os
import signal
import time
from pathlib import Path

import zoo
from zoo.registry.manager import registry

PLAN = "ZOO_TEST_INTERRUPTIONS"
STAGE1, STAGE2 = "segment_avclip", "correlation"


class Interrupter:
    """Counts the training steps of this process and acts when the time has come."""

    def __init__(self, stage: int) -> None:
        self.stage, self.calls = stage, 0

    def __call__(self, module, inputs) -> None:
        if not module.training:
            return
        self.calls += 1
        plan = Path(os.environ.get(PLAN, "no plan"))
        steps = json.loads(plan.read_text()) if plan.exists() else []
        if not steps or (steps[0]["stage"], steps[0]["call"]) != (self.stage, self.calls):
            return
        if steps[0]["rank"] != rank():
            time.sleep(0.5)  # the one that acts must find the plan as it was
            return
        plan.write_text(json.dumps(steps[1:]))
        self.act(steps[0])

    def act(self, step) -> None:
        target = os.getpid() if step["who"] == "worker" else int(os.environ["ZOO_TEST_DRIVER"])
        os.kill(target, getattr(signal, step["signal"]))
        time.sleep(60)  # no further step is taken


def rank() -> int:
    import torch.distributed as dist

    return dist.get_rank() if dist.is_initialized() else 0


def build_objective(config, encoder):
    module = registry().objective(STAGE1).build(config, encoder)
    module.register_forward_pre_hook(Interrupter(1))
    return module


def build_head(config, head_input):
    module = registry().head(STAGE2).build(config, head_input)
    module.register_forward_pre_hook(Interrupter(2))
    return module


@zoo.hookimpl
def register_objectives():
    from plugins.segment_avclip import SegmentAvclipConfig

    return [
        zoo.ObjectiveSpec(
            name="interruptible",
            summary="the usual objective, until a test interrupts it",
            config_class=SegmentAvclipConfig,
            build=build_objective,
        )
    ]


@zoo.hookimpl
def register_heads():
    from plugins.correlation import CorrelationConfig

    return [
        zoo.HeadSpec(
            name="interruptible",
            summary="the usual head, until a test interrupts it",
            config_class=CorrelationConfig,
            build=build_head,
            presets={"tiny": CorrelationConfig()},
            tasks=("offset",),
        )
    ]
