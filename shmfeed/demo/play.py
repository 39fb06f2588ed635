"""A demo from its beginning to its end."""

from shmfeed.demo.crew import Crew
from shmfeed.demo.figures import Counter, Figures, renewed
from shmfeed.demo.plan import RESOLUTIONS, Plan
from shmfeed.demo.screen import Screen
from shmfeed.demo.stage import Stage, Stop, no_settings_from_outside, signals
from shmfeed.errors import ShmfeedError

EXIT_GOOD, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130

_LISTEN_SECONDS = 0.1


class MissingPackageError(ShmfeedError):
    """The demo's venue needs a package that is not installed."""


def play(plan: Plan, screen: Screen) -> int:
    """Run it, to the end or until a signal; the exit code. The main thread only."""
    with signals() as stop, no_settings_from_outside():
        try:
            figures = _on_stage(plan, screen, stop)
        except ImportError as error:
            raise MissingPackageError(str(error)) from None
    if figures is None:
        return EXIT_INTERRUPTED
    screen.close(figures)
    return EXIT_GOOD if figures.good else EXIT_FAILED


def _on_stage(plan: Plan, screen: Screen, stop: Stop) -> Figures | None:
    """The figures of the whole; None if it was stopped before it began."""
    streams = f"{len(plan.symbols)} symbols x {' '.join(RESOLUTIONS)}"
    with Stage(plan) as stage:
        screen.say(f"venue     {stage.url}, {streams}, in real time")
        screen.say(f"feeder    pid {stage.status()['pid']}, feed {plan.feed}")
        screen.say(f"starting  {plan.strategies} strategy processes")
        with Crew(plan.orders()) as crew:
            crew.await_ready(lambda: stop.asked)
            if stop.asked:
                return None
            counter = Counter(stage.status())
            crew.go()
            with screen:
                _watch(plan, stage, crew, counter, screen, stop)
            figures = counter.figures(stage.status(), crew)
        # The strategies have ended, and reported once more.
        return renewed(figures, crew)


def _watch(
    plan: Plan, stage: Stage, crew: Crew, counter: Counter, screen: Screen, stop: Stop
) -> None:
    """Show what happens until the time is over; halfway the venue hangs up once."""
    due, cut = screen.interval, plan.cut_at
    while (elapsed := counter.elapsed()) < plan.seconds and not stop.asked:
        if cut is not None and elapsed >= cut:
            cut = None
            stage.cut()
        if elapsed >= due:
            due += screen.interval
            screen.show(counter.figures(stage.status(), crew))
        left = min(_LISTEN_SECONDS, max(0.0, plan.seconds - elapsed))
        crew.listen(left)
