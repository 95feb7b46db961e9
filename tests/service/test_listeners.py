"""Tasks that wait for news of a job, and are cancelled."""

from __future__ import annotations

import asyncio

import pytest

from mri_recon_service.jobs.listeners import Listeners


@pytest.mark.parametrize("steps", range(6))
def test_a_cancellation_is_never_lost(steps: int) -> None:
    """Whatever step the loop has reached with the news: a task that misses it waits for a job that nobody makes."""

    async def main() -> bool:
        listeners = Listeners()
        with listeners.listen("job") as event:

            async def wait() -> None:
                while True:
                    await listeners.changed(event, 60.0)

            task = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            listeners.tell("job")
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=0.2)
            lost = not done
            task.cancel()
            return lost

    assert not asyncio.run(main())
