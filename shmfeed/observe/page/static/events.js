"use strict";
/* The messages of the server, by the worker that all tabs share, or else directly. */

const Events = {
  /* Call onMessage with each message, and onLive with true or false as it changes. */
  open(onMessage, onLive) {
    const url = document.body.dataset.worker;
    if (!window.SharedWorker) {
      Events.openDirectly(onMessage, onLive);
      return;
    }
    const worker = new SharedWorker(url, "shmfeed");
    worker.onerror = () => Events.openDirectly(onMessage, onLive);
    worker.port.onmessage = ({ data }) => {
      if (data.message) onMessage(data.message);
      else onLive(data.live);
    };
    worker.port.postMessage("hello");
    window.addEventListener("pagehide", () => worker.port.postMessage("bye"));
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) worker.port.postMessage("hello");
    });
  },

  openDirectly(onMessage, onLive) {
    const source = new EventSource("/events");
    source.onmessage = (event) => {
      onLive(true);
      onMessage(JSON.parse(event.data));
    };
    source.onerror = () => {
      onLive(false);
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => Events.openDirectly(onMessage, onLive), 2000);
      }
    };
  },
};
