"""Misspelt calls, each below the error that it must give; none runs."""

import shmfeed
import wealthdata
from shmfeed import Feed, FeedWriter, Health, Ring, RingWriter, Rows, Timeframe


def names_of_the_packages() -> None:
    # [attr-defined] has no attribute "Atach"
    from shmfeed import Atach

    # [attr-defined] has no attribute "get_prices"
    from wealthdata import get_prices

    print(Atach, get_prices)
    # [attr-defined] has no attribute "atach"
    shmfeed.atach("default")
    # [attr-defined] has no attribute "BadArgumentEror"
    shmfeed.BadArgumentEror
    # [name-defined] "shmfeed.Rnig" is not defined
    x: shmfeed.Rnig
    # [attr-defined] has no attribute "get_pirce"
    wealthdata.get_pirce("A")
    # [attr-defined] has no attribute "StaleFedWarning"
    wealthdata.StaleFedWarning


def names_of_methods_and_results(feed: Feed, ring: Ring, rows: Rows) -> None:
    # [attr-defined] "Feed" has no attribute "stream"
    feed.stream()
    # [attr-defined] "Ring" has no attribute "veiw"
    ring.veiw(5)
    # [attr-defined] "Rows" has no attribute "closetime"
    rows.closetime
    # [attr-defined] "RingStatus" has no attribute "helth"
    ring.status().helth
    # [attr-defined] "Slice" has no attribute "vaild"
    ring.view(5).vaild
    # [attr-defined] "CurrentSecurity" has no attribute "last_prize"
    wealthdata.get_current_data()["A"].last_prize
    # [union-attr] of "Bar | None" has no attribute "close"
    ring.forming().close
    bar = shmfeed.Bar(0, 1, 1.0, 1.0, 1.0, 1.0, 1.0)
    # [attr-defined] "Bar" has no attribute "closed"
    bar.closed


def keys_of_a_status(feed: Feed) -> None:
    status = feed.status()
    # [typeddict-item] has no key "helth"
    status["helth"]
    # [typeddict-item] has no key "gap"
    status["streams"][0]["gap"]
    # [comparison-overlap] right operand type: "Literal['alive']"
    print(status["health"] == "alive")
    # [comparison-overlap] right operand type: "Literal['conected']"
    print(status["state"] == "conected")
    manager = shmfeed.get_websocket_manager()
    # [typeddict-item] has no key "reconects"
    manager.get_status()["reconects"]


def keywords(feed: Feed, ring: Ring, writer: FeedWriter, rows: RingWriter) -> None:
    # [call-arg] argument "timeuot"
    shmfeed.attach(timeuot=1.0)
    # [call-arg] argument "timout"
    shmfeed.wait([ring], timout=1.0)
    # [call-arg] argument "histroy"
    shmfeed.create("f", histroy=5)
    # [call-arg] argument "include_nwo"
    ring.snapshot(5, include_nwo=True)
    # [call-arg] argument "volum"
    rows.append(0, 1.0, 1.0, 1.0, 1.0, volum=1.0)
    # [call-arg] argument "unlnk"
    writer.close(unlnk=True)
    # [call-arg] argument "cuont"
    wealthdata.get_price("A", cuont=5)
    # [call-arg] argument "on_stlae"
    wealthdata.get_current_data(on_stlae="raise")
    # [call-arg] Unexpected keyword argument "alig" for "get_price"
    wealthdata.get_price(["A"], alig=True)
    # [call-arg] argument "timout"
    wealthdata.wait_bar(["A"], "1m", timout=5)
    # [arg-type] Argument 2 to "wait_bar" has incompatible type
    wealthdata.wait_bar(["A"], "1min")
    # [call-arg] argument "timout"
    wealthdata.follow(["A"], "1m", timout=5)
    # [arg-type] Argument 2 to "follow" has incompatible type
    wealthdata.follow(["A"], "1min")
    # [arg-type] Argument "wide" to "get_price" has incompatible type "str"
    wealthdata.get_price(["A"], wide="yes")
    # [call-arg] argument "fed"
    wealthdata.use(fed="x")
    manager = shmfeed.get_websocket_manager()
    # [call-arg] argument "symbls"
    manager.configure(symbls=["A"])
    # [call-arg] argument "wiat"
    manager.start(wiat=True)
    # [call-arg] argument "kepe"
    manager.stop(kepe=True)
    # [call-arg] argument "symbol"
    manager.update_subscription(symbol=["A"])


def choices(feed: Feed, ring: Ring, rows: Rows) -> None:
    # [arg-type] incompatible type "Literal['rasie']"
    wealthdata.get_price("A", on_stale="rasie")
    # [arg-type] incompatible type "Literal['7m']"
    wealthdata.get_price("A", frequency="7m")
    # [arg-type] incompatible type "Literal['colse']"
    wealthdata.get_price("A", fields="colse")
    # [list-item] incompatible type "Literal['hihg']"
    wealthdata.get_price("A", fields=["open", "hihg"])
    # [call-overload] No overload variant of "get_bars" matches
    wealthdata.get_bars("A", 5, "1min")
    # [call-overload] No overload variant of "history" matches
    wealthdata.history(5, "1d", "closing")
    # [call-overload] No overload variant of "attribute_history" matches
    wealthdata.attribute_history(["A"], 5)
    # [arg-type] incompatible type "Literal['1H']"
    wealthdata.Context([]).history("A", 5, "1H")
    # [arg-type] incompatible type "Literal['60']"
    feed.ring("A", "60")
    # [arg-type] incompatible type "Literal['closing']"
    ring.latest("closing")
    # [index] Invalid index type "Literal['vloume']"
    rows["vloume"]
    manager = shmfeed.get_websocket_manager()
    # [arg-type] incompatible type "Literal['binanse']"
    manager.configure(protocol="binanse")
    # [arg-type] incompatible type "Literal['loud']"
    manager.configure(log_level="loud")
    # [list-item] incompatible type "Literal['7m']"
    manager.configure(resolutions=["1m", "7m"])
    # [arg-type] incompatible type "Literal['7m']"
    manager.update_subscription(resolutions="7m")
    # [arg-type] incompatible type "Literal['live']"
    shmfeed.create("f", state="live")
    # [assignment] expression has type "Literal['healthy']"
    health: Health = "healthy"
    # [assignment] expression has type "Literal['daily']"
    timeframe: Timeframe = "daily"


def values(feed: Feed, ring: Ring) -> None:
    # [arg-type] "count" to "get_price" has incompatible type "str"
    wealthdata.get_price("A", count="20")
    # [arg-type] Argument 2 to "get_price" has incompatible type "int"
    wealthdata.get_price("A", 20)
    # [arg-type] "view" of "ReattachingReader" has incompatible type "str"
    ring.view("5")
    manager = shmfeed.get_websocket_manager()
    # [arg-type] Argument "history" to "configure"
    manager.configure(history="100")
    # [arg-type] incompatible type "str"
    manager.on_state_change("print")
    # [attr-defined] "str" has no attribute "closed"
    feed.name.closed
    # [assignment] expression has type "int"
    n: str = ring.count
