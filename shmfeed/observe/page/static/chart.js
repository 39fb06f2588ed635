"use strict";
/* Candles of one stream, with its holes and repairs. Bars come from /api/bars:
   [open_time, open, high, low, close, volume, flags, close_time]. */

const UNCONFIRMED = 8;
const BACKFILLED = 32;
const REVISED = 64;

const LOADED_BARS = 500;
const NEWEST_BARS = 3;
const POLL_MS = 1000;
const HOLES_MS = 60_000; // after which the states of older holes are asked for again

class StreamChart {
  /* tell(text) shows a sentence, show(bars, forming, holes) the newest values as text. */
  constructor(area, tell, show) {
    this.area = area;
    this.tell = tell;
    this.show = show;
    this.stream = null;
    this.timer = 0;
    this.chart = null;
  }

  async open(feed, symbol, timeframe) {
    this.close();
    this.stream = { feed, symbol, timeframe };
    this.draw();
    await this.load(this.stream);
    this.poll(this.stream);
  }

  close() {
    clearTimeout(this.timer);
    this.stream = null;
    this.last = undefined; // the bars of another stream are no part of the next one
    if (this.chart) this.chart.remove();
    this.chart = null;
  }

  draw() {
    const lib = LightweightCharts;
    this.chart = lib.createChart(this.area, {
      autoSize: true,
      layout: { attributionLogo: false }, // the page's foot names the makers
      rightPriceScale: { borderVisible: false },
      timeScale: {
        borderVisible: false,
        timeVisible: true,
        secondsVisible: this.stream.timeframe === "1s",
      },
    });
    this.candles = this.chart.addSeries(lib.CandlestickSeries, { borderVisible: false });
    this.holes = this.chart.addSeries(lib.HistogramSeries, {
      priceScaleId: "holes",
      priceLineVisible: false,
      lastValueVisible: false,
    });
    this.holes.priceScale().applyOptions({ scaleMargins: { top: 0, bottom: 0 } });
    this.markers = lib.createSeriesMarkers(this.candles, []);
    this.paint();
  }

  /* Take the colours of the page, which follow the system's. */
  paint() {
    if (!this.chart) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = {
      hole: colour("--hole"),
      absent: colour("--absent"),
      filled: colour("--filled"),
      revised: colour("--revised"),
      unconfirmed: colour("--unconfirmed"),
    };
    const line = { color: colour("--line") };
    this.chart.applyOptions({
      layout: {
        background: { type: "solid", color: colour("--ground") },
        textColor: colour("--text"),
      },
      grid: { vertLines: line, horzLines: line },
    });
    const [up, down] = [colour("--up"), colour("--down")];
    this.candles.applyOptions({
      upColor: up, wickUpColor: up, downColor: down, wickDownColor: down,
    });
    if (this.last) this.drawAll(this.last);
  }

  async load(stream) {
    const data = await this.fetch(stream, LOADED_BARS);
    if (!data || stream !== this.stream) return;
    const range = this.last ? this.chart.timeScale().getVisibleRange() : null;
    this.last = data;
    this.loadedAt = Date.now();
    this.drawAll(data);
    if (range) this.chart.timeScale().setVisibleRange(range);
    this.tellBars();
  }

  drawAll(data) {
    const { decimals } = data;
    this.candles.applyOptions({
      priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals },
    });
    this.candles.setData(points(data));
    this.holes.setData(this.holePoints(data.holes));
    this.drawMarkers();
  }

  holePoints(holes) {
    const { absent, hole } = this.colours;
    return holes.flatMap(({ opens, state }) =>
      opens.map((time) => ({
        time: time / 1000,
        value: 1,
        color: state === "none_at_venue" ? absent : hole,
      })),
    );
  }

  drawMarkers() {
    this.markers.setMarkers(
      this.last.bars.map((bar) => this.marker(bar)).filter((one) => one !== null),
    );
  }

  marker([time, , , , , , flags]) {
    const at = { time: time / 1000, position: "aboveBar", shape: "circle" };
    const { filled, revised, unconfirmed } = this.colours;
    if (flags & REVISED) return { ...at, color: revised, shape: "arrowDown", text: "R" };
    if (flags & BACKFILLED) return { ...at, color: filled };
    if (flags & UNCONFIRMED) return { ...at, color: unconfirmed, shape: "square" };
    return null;
  }

  poll(stream) {
    this.timer = setTimeout(async () => {
      if (!document.hidden) await this.follow(stream);
      if (stream === this.stream) this.poll(stream);
    }, POLL_MS);
  }

  async follow(stream) {
    const news = await this.fetch(stream, NEWEST_BARS);
    if (!news || stream !== this.stream) return;
    if (!this.last || !this.continues(news)) {
      await this.load(stream); // a repair replaced bars, or some are not here yet, ..
      return;
    }
    const painted = this.newest();
    const known = new Set(this.last.bars.map((bar) => bar[0]));
    this.last.bars.push(...news.bars.filter((bar) => !known.has(bar[0])));
    this.last.bars.splice(0, this.last.bars.length - LOADED_BARS);
    this.last.forming = news.forming;
    this.last.count = news.count;
    for (const point of points(news)) {
      this.candles.update(point, point.time < painted);
    }
    this.drawMarkers();
    this.tellBars();
  }

  continues(news) {
    const { epoch, count, bars } = this.last;
    const isNext = bars.length > 0 && news.bars.some((bar) => bar[0] === bars.at(-1)[0]);
    const isKnown = ({ first, last, state }) => this.last.holes.some(
      (hole) => hole.first === first && hole.last === last && hole.state === state,
    );
    const isFresh = !this.last.holes.length || Date.now() < this.loadedAt + HOLES_MS;
    return news.epoch === epoch && news.count >= count && isNext && isFresh
      && news.holes.every(isKnown);
  }

  newest() {
    const all = points(this.last);
    return all.length ? all.at(-1).time : -Infinity;
  }

  tellBars() {
    this.tell("");
    this.show(this.last);
  }

  async fetch({ feed, symbol, timeframe }, n) {
    const query = new URLSearchParams({ feed, symbol, timeframe, n });
    try {
      // The page's own address may hold a password, with which fetch refuses to go.
      const answer = await fetch(`${location.origin}/api/bars?${query}`);
      const data = await answer.json();
      if (answer.ok) return data;
      this.tell(data.error);
    } catch {
      this.tell("the dashboard does not answer; the chart stands still");
    }
    return null;
  }
}

/* Candles in order of time; a bar without a price keeps its place. */
function points({ bars, forming }) {
  const all = bars.map(point);
  if (forming && (!bars.length || forming[0] > bars.at(-1)[0])) all.push(point(forming));
  return all;
}

function point([time, open, high, low, close]) {
  const at = { time: time / 1000 };
  const isWhole = [open, high, low, close].every((value) => value !== null);
  return isWhole ? { ...at, open, high, low, close } : at;
}
