"""From a URL to the events of a session: everything between a venue and its codec.

`connect` makes a socket, by `tcp`, `proxies` and `tls`. `opening` makes it a WebSocket,
with the requests and checks of `handshake` and the `answers` of HTTP. `frames` cuts
messages out of its bytes, and `connection` is the two together. `client` speaks a
codec's protocol on one connection; `subscription` is the state of its requests.
`link` keeps one connection after another, when `retry` says so; `session` keeps the
links that carry all streams, and hands over `events`. `errors` has the reasons for
which a connection ends.
"""
