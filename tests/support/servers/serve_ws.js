// The tiny venue in the package ws of npm: DESCRIPTOR PEM. It insists on compression.
// NODE_PATH names the folder with the package.
"use strict";
const fs = require("fs");
const https = require("https");
const { WebSocketServer } = require("ws");

const pem = fs.readFileSync(process.argv[3]);
const pace = 1000 * Number(process.env.PACE || "0.02"); // ms for a bar
const UPDATES = 4;
const server = https.createServer({ cert: pem, key: pem });
const venue = new WebSocketServer({
  server,
  perMessageDeflate: { threshold: 0 },
  verifyClient: ({ req }) =>
    /permessage-deflate/.test(req.headers["sec-websocket-extensions"] || ""),
});

function bar(second, part) {
  const price = 100 + (second % 50);
  return JSON.stringify({
    type: "BAR", symbol: "BTCUSDT", timeframe: "1s",
    open_time: second * 1000, close_time: (second + 1) * 1000,
    open: `${price}`, high: `${price + 1}`, low: `${price - 1}`,
    close: `${price + part / 10}`, volume: `${part}`, closed: part === UPDATES,
  });
}

venue.on("connection", (socket) => {
  let part = 0;
  let second = Math.floor(Date.now() / 1000) - 600;
  const timers = [];
  socket.on("message", (data) => {
    const request = JSON.parse(data.toString());
    socket.send(JSON.stringify({ type: "CONNECTED", request_id: request.request_id }));
    timers.push(setInterval(() => {
      part += 1;
      socket.send(bar(second, part));
      if (part === UPDATES) { part = 0; second += 1; }
    }, pace / UPDATES));
    timers.push(setInterval(() => socket.ping("are you there"), 200));
  });
  socket.on("close", () => timers.forEach(clearInterval));
  socket.on("error", () => {});
});
server.listen({ fd: Number(process.argv[2]) });
