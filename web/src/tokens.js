/**
 * The token a gateway may ask for. The page gives it, as text or as a function
 * that is asked before each connection; if the token says when it expires (the `exp` of
 * a JWT), the function is asked again in time, and the new token is sent on the same
 * connection. What is in a token is not checked here: the gateway does that.
 */

/** @import { Environment } from './environment.js' */
/** @import { GatewayClock } from './clock.js' */
/** @import { Transport } from './connect.js' */

/** @typedef {string | null | undefined} Token */
/** @typedef {string | (() => Token | Promise<Token>)} TokenProvider */

/** A login that hangs must not hold the page for ever. */
const ANSWER_DEADLINE = 10_000;
/** Renew when this share of its life is left: between five seconds and a minute. */
const SHARE = 0.2;
const LEAST_LEAD = 5;
const MOST_LEAD = 60;
/** After a renewal that failed the old token is still good for a while. Milliseconds, at most. */
const RETRY = 8_000;

/** RFC 7519; one without a signature is refused by the gateway. Other texts are never sent anywhere. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/** The most common mistakes that produce another text, and the gateway's words for them. @type {Array<[RegExp, string]>} */
const MISTAKES = [
  [/^$/, 'it is empty'],
  [/^b['"]/, "it is Python's repr of bytes, decode() it first"],
  [/^bearer /i, 'leave out "Bearer "'],
  [/^(undefined|null|None|\[object \w+\])$/, "it is the text '{}'"],
  [/^[{[]/, 'it is a JSON document, perhaps an error'],
  [/^</, 'it is an HTML page, perhaps the error of a proxy'],
  [/^["']/, 'leave out the quotation marks'],
  [/^[^.]*\.[^.]*\.[^.]*$/, 'its parts are not base64url; perhaps it was cut off or changed'],
  [/^/, 'a token has three parts, with dots between them'],
];

/**
 * @param {TokenProvider | undefined} provider
 * @param {Pick<Environment, 'setTimeout' | 'clearTimeout'>} environment
 * @returns {Promise<string | null>}  null: there is none
 * @throws what the provider throws, that it did not answer, or that its answer is no token
 */
export async function askForToken(provider, environment) {
  /** @type {unknown} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = environment.setTimeout(() => reject(new Error('no answer in 10 s')), ANSWER_DEADLINE);
  });
  try {
    const answer = /** @type {Token} */ (await (typeof provider === 'function' ? Promise.race([provider(), late]) : provider));
    if (!answer) return null;
    const token = String(answer).trim();
    if (!JWT.test(token)) throw badToken(`not a JSON Web Token: ${mistakeIn(token)}`);
    return token;
  } finally {
    environment.clearTimeout(timer);
  }
}

/** @param {string} text */
function mistakeIn(text) {
  return MISTAKES.find(([pattern]) => pattern.test(text))?.[1].replace('{}', text) ?? '';
}

let warned = '';

/** Log a malformed token once in the console, because otherwise nothing shows it. @param {string} text */
function badToken(text) {
  if (text !== warned) console.warn(`progress-gateway: ${text}`);
  warned = text;
  return new Error(text);
}

/**
 * A token from an address of the application's own backend: its text, or JSON with `token`.
 * @param {string | URL} url
 * @returns {Promise<string>}
 */
export async function fetchToken(url) {
  const response = await fetch(url, { cache: 'no-store' });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return text.startsWith('{') ? JSON.parse(text).token : text;
}

/**
 * The token that a connection shows: a new one is asked for before it expires, or when the
 * page asks for it. The known states were received with this token; `begin` and `renew` return
 * whether it may be another user's.
 */
export class Renewal {
  #environment;
  #provider;
  #clock;
  #onDue;
  #onError;
  /** The token that the gateway has, as far as we know. @type {string | null} */
  #token = null;
  /** Who gave it. @type {TokenProvider | undefined} */
  from;
  /** The one before it, on this connection. @type {string | null} */
  #before = null;
  /** What to show instead of asking for a new one, until there is a new one. @type {string | null} */
  #old = null;
  /** The one that serves; null: none does. @type {Transport | null} */
  transport = null;
  /** How often a token was asked for: only the last answer counts. */
  #requests = 0;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {Environment} environment
   * @param {() => TokenProvider | undefined} provider
   * @param {GatewayClock} clock
   * @param {() => void} onDue  called when it is time to `renew`
   * @param {(text: string) => void} onError  is given why there is no new one
   */
  constructor(environment, provider, clock, onDue, onError) {
    this.#environment = environment;
    this.#provider = provider;
    this.#clock = clock;
    this.#onDue = onDue;
    this.#onError = onError;
  }

  /**
   * A connection is open, with this token.
   * @param {Transport} transport @param {string | null} token
   * @returns {boolean} false: it may be another person's than the one before
   */
  begin(transport, token) {
    this.end();
    const same = this.#isSame(this.#provider(), token);
    this.transport = transport;
    this.#show(token);
    return same;
  }

  /** What to show instead of asking the provider, if it is of this provider. */
  get old() {
    return this.#provider() === this.from ? this.#old : null;
  }

  /** The connection has ended. */
  end() {
    this.transport = this.#before = null;
    this.#environment.clearTimeout(this.#timer);
  }

  /** Nothing of the connections so far counts for the next. */
  reset() {
    this.#old = null;
  }

  /**
   * Ask for a new token, and send it if the connection still serves then.
   * @returns {Promise<boolean>} false: it may be another person's, and was not sent
   */
  async renew() {
    this.#environment.clearTimeout(this.#timer);
    const request = ++this.#requests;
    const { transport } = this;
    const provider = this.#provider();
    try {
      const token = await askForToken(provider, this.#environment);
      if (request !== this.#requests) return true;
      if (!this.#isSame(provider, token)) return false;
      if (token === null || transport === null || transport !== this.transport) return true;
      transport.send({ type: 'hello', token });
      this.#before = this.#token;
      this.#old = null;
      this.#show(token);
    } catch (error) {
      if (provider !== this.from) return false;
      if (transport !== null && transport === this.transport) this.#failed(error);
    }
    return true;
  }

  /**
   * The connection was refused. If that was for a new token, the one before is shown again; if
   * it was for that one, the provider is asked.
   * @returns {boolean} whether to connect again
   */
  revert() {
    const reverted = this.#old !== null;
    this.#old = reverted || secondsLeft(this.#before, this.#clock.now()) <= 0 ? null : this.#before;
    this.#before = null;
    return reverted || this.#old !== null;
  }

  /** @param {string | null} token */
  #show(token) {
    this.#token = token;
    this.from = this.#provider();
    if (typeof this.from !== 'function') return;
    const wait = this.#old === null ? renewIn(token, this.#clock.now()) : this.#soon();
    if (wait !== null) this.#renewAfter(wait);
  }

  /** @param {TokenProvider | undefined} provider @param {string | null} token */
  #isSame(provider, token) {
    return provider === this.from || (token !== null && sameSubject(this.#token, token));
  }

  /** There is no new token: the old one is kept, and another is asked for. @param {any} error */
  #failed(error) {
    this.#onError(`no new token: ${error?.message ?? error}`);
    this.#renewAfter(this.#soon());
  }

  #soon() {
    return RETRY * (0.5 + this.#environment.random() / 2);
  }

  /** @param {number} ms */
  #renewAfter(ms) {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = this.#environment.setTimeout(this.#onDue, ms);
  }
}

/**
 * In how many milliseconds a token should be renewed.
 * @param {string | null} token
 * @param {number} now  the gateway's time, Unix seconds
 * @returns {number | null}  null: it does not say
 */
export function renewIn(token, now) {
  const left = secondsLeft(token, now);
  if (!(left > 0)) return null;
  const lead = Math.min(Math.max(left * SHARE, LEAST_LEAD), MOST_LEAD);
  // Nobody asks a login server more than once a second; a timer holds at most 2³¹ ms.
  return Math.min(Math.max(left - lead, 1), 86_400) * 1000;
}

/** Until a token expires; NaN: it does not say. @param {string | null} token @param {number} now */
function secondsLeft(token, now) {
  return Number(claimsOf(token)['exp']) - now;
}

/**
 * Whether both tokens are of the same person. Those that do not say are not.
 * @param {string | null} a @param {string | null} b
 */
export function sameSubject(a, b) {
  const { sub } = claimsOf(a);
  return a === b || (sub !== undefined && sub === claimsOf(b)['sub']);
}

/** @param {string | null} token @returns {Record<string, unknown>} */
function claimsOf(token) {
  try {
    return JSON.parse(atob((token ?? '').split('.')[1]?.replace(/-/g, '+').replace(/_/g, '/') ?? ''));
  } catch {
    return {}; // the gateway reports when it has expired
  }
}
