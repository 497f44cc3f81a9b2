/**
 * The token that a gateway may require. The page configures it as text, or as a function that is called before
 * each connection. If the token has an expiry (the `exp` of a JWT), the function is called again before that, and
 * the new token is sent on the same connection. The gateway checks the content of a token; this module does not.
 */

/** @import { GatewayClock } from './clock.js' */
/** @import { Environment } from './environment.js' */
/** @import { Transport } from './open-transport.js' */

/** @typedef {string | null | undefined} Token */
/** @typedef {string | (() => Token | Promise<Token>)} TokenProvider */

/** Milliseconds to wait for the token provider. */
const PROVIDER_TIMEOUT = 10_000;
/** A token is renewed when this share of its lifetime is left, but 60 s before it expires at the earliest and 5 s at the latest. */
const RENEWAL_SHARE = 0.2;
const MIN_LEAD = 5;
const MAX_LEAD = 60;
/** The longest pause after a failed renewal, in milliseconds; the old token is still valid for a while. */
const MAX_RETRY_PAUSE = 8_000;

/** The form of a token (RFC 7519). Other texts are never sent. The gateway refuses a token without a signature. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/** The most common mistakes that produce another text, each with the gateway's description of it. @type {Array<[RegExp, string]>} */
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
 * Requests a token from the provider.
 * @param {TokenProvider | undefined} provider
 * @param {Pick<Environment, 'setTimeout' | 'clearTimeout'>} environment
 * @returns {Promise<string | null>}  null: the provider has none
 * @throws what the provider throws; or an error if it does not answer, or returns another text than a token
 */
export async function requestToken(provider, environment) {
  /** @type {unknown} */
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = environment.setTimeout(() => reject(new Error('no answer in 10 s')), PROVIDER_TIMEOUT);
  });
  try {
    const provided = /** @type {Token} */ (await (typeof provider === 'function' ? Promise.race([provider(), timeout]) : provider));
    if (!provided) return null;
    const token = String(provided).trim();
    if (!JWT.test(token)) throw malformedToken(`not a JSON Web Token: ${mistakeIn(token)}`);
    return token;
  } finally {
    environment.clearTimeout(timer);
  }
}

/** Describes why a text is not a token. @param {string} text */
function mistakeIn(text) {
  return MISTAKES.find(([pattern]) => pattern.test(text))?.[1].replace('{}', text) ?? '';
}

let lastWarning = '';

/** Returns an error, and logs it once in the console, because nothing else shows it. @param {string} text */
function malformedToken(text) {
  if (text !== lastWarning) console.warn(`progress-gateway: ${text}`);
  lastWarning = text;
  return new Error(text);
}

/**
 * Fetches a token from a URL of the application's backend, which answers with text, or with JSON with `token`.
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
 * The token of a connection. A new token is requested before it expires, or when the page requests that. The known
 * states were received with this token; `begin` and `renew` return whether a new token belongs to the same person.
 */
export class Renewal {
  #environment;
  #provider;
  #clock;
  #onRenewalDue;
  #onError;
  /** The token that was sent last. @type {string | null} */
  #sent = null;
  /** The provider that returned `#sent`. @type {TokenProvider | undefined} */
  from;
  /** The token that was sent before `#sent` on this connection. @type {string | null} */
  #previous = null;
  /** The token to send instead of requesting a new one, after the gateway has refused a new one. @type {string | null} */
  #fallback = null;
  /** The live connection; null: there is none. @type {Transport | null} */
  transport = null;
  /** The number of token requests so far. Only the answer to the last one is used. */
  #requests = 0;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {Environment} environment
   * @param {() => TokenProvider | undefined} provider
   * @param {GatewayClock} clock
   * @param {() => void} onRenewalDue  called when `renew` should be called
   * @param {(text: string) => void} onError  called with the reason if a renewal fails
   */
  constructor(environment, provider, clock, onRenewalDue, onError) {
    this.#environment = environment;
    this.#provider = provider;
    this.#clock = clock;
    this.#onRenewalDue = onRenewalDue;
    this.#onError = onError;
  }

  /**
   * Handles a connection that was opened with this token.
   * @param {Transport} transport @param {string | null} token
   * @returns {boolean} false: the token may be another person's than the one before
   */
  begin(transport, token) {
    this.end();
    const same = this.#isSamePerson(this.#provider(), token);
    this.transport = transport;
    this.#recordSent(token);
    return same;
  }

  /** The token to send instead of requesting one; null: request one. */
  get fallback() {
    const isExpired = secondsUntilExpiry(this.#fallback, this.#clock.now()) <= 0;
    return this.#provider() === this.from && !isExpired ? this.#fallback : null;
  }

  /** Handles the end of the connection. */
  end() {
    this.transport = this.#previous = null;
    this.#environment.clearTimeout(this.#timer);
  }

  /** Forgets the tokens of earlier connections. */
  reset() {
    this.#fallback = null;
  }

  /**
   * Requests a new token, and sends it if the connection is still live then.
   * @returns {Promise<boolean>} false: the token may be another person's, and was not sent
   */
  async renew() {
    this.#environment.clearTimeout(this.#timer);
    const request = ++this.#requests;
    const { transport } = this;
    const provider = this.#provider();
    try {
      const token = await requestToken(provider, this.#environment);
      if (request !== this.#requests) return true;
      if (!this.#isSamePerson(provider, token)) return false;
      if (token === null || transport === null || transport !== this.transport) return true;
      transport.send({ type: 'hello', token });
      this.#previous = this.#sent;
      this.#fallback = null;
      this.#recordSent(token);
    } catch (error) {
      if (provider !== this.from) return false;
      if (transport !== null && transport === this.transport) this.#handleFailure(error);
    }
    return true;
  }

  /**
   * Handles a refused connection. If a new token was refused, the previous one is sent next; if that was refused,
   * the provider is called next.
   * @returns {boolean} whether to connect again
   */
  revert() {
    const reverted = this.#fallback !== null;
    this.#fallback = reverted || secondsUntilExpiry(this.#previous, this.#clock.now()) <= 0 ? null : this.#previous;
    this.#previous = null;
    return reverted || this.#fallback !== null;
  }

  /** Records a token that was sent, and schedules its renewal. @param {string | null} token */
  #recordSent(token) {
    this.#sent = token;
    this.from = this.#provider();
    if (typeof this.from !== 'function') return;
    const wait = this.#fallback === null ? renewalDelay(token, this.#clock.now()) : this.#retryPause();
    if (wait !== null) this.#renewAfter(wait);
  }

  /** Returns whether a token belongs to the person of `#sent`. @param {TokenProvider | undefined} provider @param {string | null} token */
  #isSamePerson(provider, token) {
    return provider === this.from || (token !== null && sameSubject(this.#sent, token));
  }

  /** Handles a failed renewal: the old token is kept, and another one is requested later. @param {any} error */
  #handleFailure(error) {
    this.#onError(`no new token: ${error?.message ?? error}`);
    this.#renewAfter(this.#retryPause());
  }

  /** Returns a random pause in milliseconds. */
  #retryPause() {
    return MAX_RETRY_PAUSE * (0.5 + this.#environment.random() / 2);
  }

  /** @param {number} ms */
  #renewAfter(ms) {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = this.#environment.setTimeout(this.#onRenewalDue, ms);
  }
}

/**
 * Returns in how many milliseconds a token should be renewed.
 * @param {string | null} token
 * @param {number} now  the gateway's time, Unix seconds
 * @returns {number | null}  null: the token has no expiry, or has expired
 */
export function renewalDelay(token, now) {
  const remaining = secondsUntilExpiry(token, now);
  if (!(remaining > 0)) return null;
  const lead = Math.min(Math.max(remaining * RENEWAL_SHARE, MIN_LEAD), MAX_LEAD);
  // At least one second between two requests to the login server; a timer holds at most 2³¹ ms.
  return Math.min(Math.max(remaining - lead, 1), 86_400) * 1000;
}

/** Returns the seconds until a token expires; NaN: it has no expiry. @param {string | null} token @param {number} now */
function secondsUntilExpiry(token, now) {
  return Number(claimsOf(token)['exp']) - now;
}

/**
 * Returns whether both tokens name the same person in `sub`, or are the same token.
 * @param {string | null} a @param {string | null} b
 */
export function sameSubject(a, b) {
  const { sub } = claimsOf(a);
  return a === b || (sub !== undefined && sub === claimsOf(b)['sub']);
}

/** Returns the claims of a token; none if it cannot be read. @param {string | null} token @returns {Record<string, unknown>} */
function claimsOf(token) {
  try {
    return JSON.parse(atob((token ?? '').split('.')[1]?.replace(/-/g, '+').replace(/_/g, '/') ?? ''));
  } catch {
    return {}; // the gateway reports the error
  }
}
