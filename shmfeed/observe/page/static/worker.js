"use strict";
/* One event stream for all tabs of a browser, which opens six connections a host. */

const ports = new Set();
let source = null;
let isLive = false;
let feeds = null; // null before the first message
let rows = new Map(); // by feed: rows by symbol and timeframe
let offset = 0; // the server's clock minus this one

function connect() {
  source = new EventSource("/events");
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    merge(message);
    setLive(true);
    post({ message });
  };
  source.onerror = () => {
    setLive(false);
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(connect, 2000); // it was refused: a browser does not try again
    }
  };
}

function merge(message) {
  if (message.all) rows = new Map();
  feeds = message.feeds;
  offset = message.now - Date.now();
  for (const [feed, changed] of Object.entries(message.rows)) {
    if (!rows.has(feed)) rows.set(feed, new Map());
    for (const row of changed) rows.get(feed).set(`${row[0]} ${row[1]}`, row);
  }
}

function everything() {
  const found = {};
  for (const [feed, known] of rows) found[feed] = [...known.values()];
  return { all: true, now: Date.now() + offset, feeds, rows: found };
}

function setLive(value) {
  if (value !== isLive) {
    isLive = value;
    post({ live: value });
  }
}

function post(what) {
  for (const port of ports) port.postMessage(what);
}

self.onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data === "bye") {
      ports.delete(port);
      return;
    }
    ports.add(port);
    port.postMessage({ live: isLive });
    if (feeds !== null) port.postMessage({ message: everything() });
  };
};

connect();
