/**
 * The token a gateway may ask for. The page gives it, as text or as a function
 * that is asked before each dial; if the token says when it expires (the `exp` of
 * a JWT), the function is asked again in time, so that the connection lives on.
 * What is in a token is not checked here: the gateway does that.
 */

/** @import { Environment } from './environment.js' */
/** @import { Line } from './line.js' */

/** @typedef {string | (() => string | null | undefined | Promise<string | null | undefined>)} TokenProvider */

/** A login that hangs must not hold the page for ever. */
const ANSWER_DEADLINE = 10_000;
/** Renew when this share of its life is left: between five seconds and a minute. */
const SHARE = 0.2;
const LEAST_LEAD = 5;
const MOST_LEAD = 60;

/**
 * @param {TokenProvider} provider
 * @param {Environment} environment
 * @returns {Promise<string | null>}
 * @throws what the provider throws, or that it did not answer
 */
export async function askForToken(provider, environment) {
  if (typeof provider === 'string') return provider;
  /** @type {unknown} */
  let timer;
  const late = new Promise((_, refuse) => {
    timer = environment.setTimeout(() => refuse(new Error('no answer in 10 s')), ANSWER_DEADLINE);
  });
  try {
    const token = await Promise.race([provider(), late]);
    return /** @type {string | null | undefined} */ (token) ?? null;
  } finally {
    environment.clearTimeout(timer);
  }
}

/** Says a new token on the line before the old one is over, so that it lives on. */
export class Renewal {
  #provider;
  #environment;
  #complain;
  /** @type {Line | null} */
  #line = null;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {TokenProvider | undefined} provider
   * @param {Environment} environment
   * @param {(error: any) => void} complain  hears why there is no new one
   */
  constructor(provider, environment, complain) {
    this.#provider = provider;
    this.#environment = environment;
    this.#complain = complain;
  }

  /** Whether anybody can be asked for a new one. */
  get possible() {
    return this.#provider !== undefined;
  }

  /**
   * A line is live, with this token.
   * @param {Line} line
   * @param {string | null} token
   * @param {number} skew  the gateway's clock minus ours, seconds
   */
  begin(line, token, skew) {
    this.end();
    this.#line = line;
    const wait = typeof this.#provider === 'function' ? renewIn(token, this.#environment.now() / 1000 + skew) : null;
    if (wait !== null) this.#timer = this.#environment.setTimeout(() => this.now(skew), wait);
  }

  /** The line is gone. */
  end() {
    this.#line = null;
    this.#environment.clearTimeout(this.#timer);
  }

  /** Say a new one now. @param {number} skew */
  now(skew) {
    const line = this.#line;
    if (line === null || this.#provider === undefined) return;
    askForToken(this.#provider, this.#environment).then(
      (token) => {
        if (line !== this.#line || token === null) return;
        line.send({ type: 'hello', token });
        this.begin(line, token, skew);
      },
      // It ends with 4100 then, and each dial asks again.
      (error) => line === this.#line && this.#complain(error),
    );
  }
}

/**
 * In how many milliseconds a token should be renewed.
 * @param {string | null} token
 * @param {number} now  the gateway's time, Unix seconds
 * @returns {number | null}  null: it does not say
 */
export function renewIn(token, now) {
  const left = expiry(token) - now;
  if (!(left > 0)) return null;
  const lead = Math.min(Math.max(left * SHARE, LEAST_LEAD), MOST_LEAD);
  // Nobody asks a login server more than once a second; a timer holds at most 2³¹ ms.
  return Math.min(Math.max(left - lead, 1), 86_400) * 1000;
}

/** @param {string | null} token */
function expiry(token) {
  try {
    const payload = token?.split('.')[1] ?? '';
    const { exp } = JSON.parse(atob(payload.replace(/-/g, '+').replace(/_/g, '/')));
    return Number(exp);
  } catch {
    return NaN; // opaque: the gateway tells when it is over
  }
}
