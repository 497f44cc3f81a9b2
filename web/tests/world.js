/**
 * The environment that tests give to the client: a clock that the test advances, sockets whose
 * other end the test has, and random numbers that the test chooses. Rules: no real timer, no real
 * socket, no sleep. `tick` runs microtasks, and is the only function that a test awaits.
 */

export class FakeSocket {
  sent = [];
  closed = null;
  onopen = null;
  onmessage = null;
  onclose = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    if (this.closed) throw new Error('send after close');
    this.sent.push(JSON.parse(text));
    this.onsend?.(JSON.parse(text));
  }

  close(code) {
    this.closed ??= { code };
  }

  // -- the gateway's side

  open() {
    this.onopen?.({});
  }

  deliver(...frames) {
    this.onmessage?.({ data: frames.map((frame) => JSON.stringify(frame)).join('\n') });
  }

  welcome(fields = {}) {
    this.open();
    this.deliver({ type: 'welcome', node: 'n1', time: 0, ping_interval: 25, limits: {}, ...fields });
  }

  drop(code = 1006, reason = '') {
    this.onclose?.({ code, reason });
  }

  /** The commands sent since the last call. */
  received() {
    return this.sent.splice(0);
  }
}

export function fakeWorld({ random = () => 0.5 } = {}) {
  let now = 1_000_000;
  let hidden = false;
  let ids = 0;
  const timers = new Map();
  const wakers = new Set();
  const sockets = [];
  const world = {
    sockets,
    wakers,
    get socket() {
      return sockets.at(-1);
    },
    /** The offset of the machine's clock, milliseconds. */
    set: 0,
    get pending() {
      return timers.size;
    },
    /** The handler of HTTP requests; by default there is no response. */
    fetch: () => Promise.reject(new TypeError('nobody answers')),
    wake: () => wakers.forEach((wake) => wake()),
    hide() {
      hidden = true;
      this.wake();
    },
    show() {
      hidden = false;
      this.wake();
    },

    /** The machine sleeps: the clock continues, timers do not, and due timers fire late. */
    async sleep(ms) {
      now += ms;
      await this.pass(0);
    },

    /** The machine sleeps, and its monotonic clock and its timers stand still. */
    suspend(ms) {
      world.set += ms;
    },

    /** Advance the clock; timers fire in order, at their time. */
    async pass(ms) {
      const end = now + ms;
      await tick();
      for (;;) {
        const due = [...timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
        if (due === undefined) break;
        timers.delete(due[0]);
        now = Math.max(now, due[1].at);
        due[1].callback();
        await tick();
      }
      now = end;
    },

    environment: {
      WebSocket: class extends FakeSocket {
        constructor(url, protocols) {
          super(url, protocols);
          sockets.push(this);
          world.connected?.(this);
        }
      },
      setTimeout(callback, ms) {
        timers.set(++ids, { at: now + ms, callback });
        return ids;
      },
      clearTimeout: (id) => timers.delete(id),
      queueMicrotask: (callback) => queueMicrotask(callback),
      now: () => now,
      wall: () => now + world.set,
      ready: (callback) => callback(),
      random,
      hidden: () => hidden,
      fetch: (url, options) => world.fetch(url, options),
      onWake(callback) {
        wakers.add(callback);
        return () => wakers.delete(callback);
      },
    },
  };
  return world;
}

/** Run all microtasks. */
export const tick = () => new Promise((resolve) => setImmediate(resolve));

export const state = (fields = {}) => ({ status: 'running', attempt: 1, health: 'ok', ...fields });

export const snapshot = (job, epoch, seq, fields) => ({
  type: 'progress', job, epoch, prev: null, seq, snapshot: true, state: seq === 0 ? null : state(fields),
});

export const step = (job, epoch, prev, seq, fields) => ({
  type: 'progress', job, epoch, prev, seq, state: state(fields),
});

/** A small random generator with a seed (mulberry32). */
export function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** An unsigned token with these claims. */
export const jwt = (claims) => `x.${btoa(JSON.stringify(claims)).replace(/=/g, '').replace(/\+/g, '-').replace(/\//g, '_')}.y`;
